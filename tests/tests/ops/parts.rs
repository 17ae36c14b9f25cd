//! Attention over more than a driver's loops go: in parts, which are put together.

use wgrad::{AttentionOptions, BlockIndex, BlockLayout, DType, Device, KeyIndex, Mask, Result, Tensor};
use wgrad_tests::{Input, assert_close, gpu, gpu_with_turns_of};

/// The result and all gradients of a loss of it.
fn all_of(inputs: &[Input], device: &Device, f: &dyn Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Vec<f64>> {
    let x: Vec<Tensor> = inputs.iter().map(|i| i.stored(device, DType::F32).unwrap()).collect();
    let out = f(&x).unwrap();
    let grads = out.mul(&out.add_scalar(0.7).unwrap()).unwrap().sum_all().unwrap().backward().unwrap();
    let grads = x.iter().map(|x| grads.get(x).unwrap().to_f64_vec().unwrap());
    [out.to_f64_vec().unwrap()].into_iter().chain(grads).collect()
}

/// On a GPU whose loops end early, and on the CPU device.
fn same_in_parts(name: &str, turns: u64, portable: bool, inputs: &[Input], f: &dyn Fn(&[Tensor]) -> Result<Tensor>) {
    let Some(gpu) = gpu_with_turns_of(turns, portable) else { return };
    let (got, want) = (all_of(inputs, &gpu, f), all_of(inputs, &Device::cpu(), f));
    for (at, (got, want)) in got.iter().zip(&want).enumerate() {
        assert_close(&format!("{name}, result {at}"), got, want, 1e-4, 1e-4);
    }
    gpu.check_guards().unwrap();
}

fn inputs(heads: [usize; 2], queries: usize, keys: usize) -> Vec<Input> {
    let shapes = [[2, heads[0], queries, 8], [2, heads[1], keys, 8], [2, heads[1], keys, 12]];
    (1..).zip(shapes).map(|(seed, shape)| Input::normal(&shape, seed)).collect()
}

/// Rows that see nothing, sinks, which belong to one part, and the sums of a relative bias.
#[test]
fn dense() {
    let (queries, keys) = (150, 140);
    let extras = [Input::normal(&[2], 4), Input::normal(&[2, queries + keys - 1], 5)];
    let all = [inputs([2, 1], queries, keys), extras.to_vec()].concat();
    for portable in [false, true] {
        same_in_parts("dense", 1000, portable, &all, &|x| {
            let (sinks, relative_bias) = (Some(x[3].clone()), Some(x[4].clone()));
            let mask = Mask::causal(-20);
            x[0].attention(&x[1], &x[2], &AttentionOptions { mask, sinks, relative_bias, ..Default::default() })
        });
    }
}

/// Sums over queries, and by bucket.
#[test]
fn lists_of_blocks() {
    let layout = BlockLayout { query_block: 32, key_block: 32, ..BlockLayout::new(150, 140) };
    let all = [inputs([2, 2], 150, 140), vec![Input::normal(&[2, 1, 140], 4)]].concat();
    same_in_parts("blocks", 1000, false, &all, &|x| {
        let index = BlockIndex::from_mask(&Mask::global_window(3, 40, 10), layout, x[0].device())?;
        let bias = Some(x[3].clone());
        x[0].sparse_attention(&x[1], &x[2], &index, &AttentionOptions { bias, ..Default::default() })
    });
}

#[test]
fn lists_of_keys() {
    let lists: Vec<u32> = (0..150u32).flat_map(|i| (0..12u32).map(move |n| (i * 7) % 20 + n * 10)).collect();
    same_in_parts("lists", 400, false, &inputs([2, 1], 150, 140), &|x| {
        let index = KeyIndex::new(&Tensor::from_slice(&lists, &[1, 1, 150, 12], x[0].device())?, 140)?;
        x[0].sparse_attention(&x[1], &x[2], &index, &Default::default())
    });
}

/// One key that thousands of queries list: llvmpipe would end the loop over them in silence.
#[test]
fn a_key_that_everybody_lists() {
    let Some(gpu) = gpu() else { return };
    let (queries, width) = (8192, 128);
    let value = Input::normal(&[1, 1, 4, width], 2).stored(gpu, DType::F32).unwrap();
    let zeros = |n: usize| Tensor::zeros(&[1, 1, n, width], DType::F32, gpu).unwrap();
    let lists = Tensor::zeros(&[1, 1, queries, 1], DType::U32, gpu).unwrap();
    let index = KeyIndex::new(&lists, 4).unwrap();
    let out = zeros(queries).sparse_attention(&zeros(4), &value, &index, &Default::default()).unwrap();
    let grads = out.sum_all().unwrap().backward().unwrap();
    let grad = grads.get(&value).unwrap().to_f64_vec().unwrap();
    assert_eq!(grad[..width], vec![queries as f64; width]);
    assert!(grad[width..].iter().all(|&x| x == 0.0));
}

/// A tile of rows with more keys than the loops of llvmpipe go over: plain, and where the mask has loops of its own.
#[test]
fn a_row_of_many_keys() {
    let Some(gpu) = gpu() else { return };
    let keys = 180_000;
    let key = Tensor::zeros(&[1, 1, keys, 4], DType::F32, gpu).unwrap();
    let query = key.narrow(2, 0, 1).unwrap();
    let value = Tensor::arange(0, keys as i64, DType::F32, gpu).unwrap().mul_scalar(1.0 / keys as f64).unwrap();
    let value = value.reshape(&[1, 1, keys as isize, 1]).unwrap().expand(&[1, 1, keys, 4]).unwrap();
    let mean = |mask: Mask| {
        let out = query.attention(&key, &value, &AttentionOptions { mask, ..Default::default() }).unwrap();
        out.to_f64_vec().unwrap()[0]
    };
    assert!((mean(Mask::all()) - 0.5).abs() < 1e-4);
    // Two of three keys, the last ones as well.
    let seen = (0..keys).map(|j| j % 3 > 0).collect();
    let seen = Tensor::from_vec(seen, &[1, 1, 1, keys], &Device::cpu()).unwrap();
    assert!((mean(Mask::dense(&seen)) - 0.5).abs() < 1e-4);
}
