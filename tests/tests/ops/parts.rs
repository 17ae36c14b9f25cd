//! Attention over more than a driver's loops go: in parts, which are put together.

use wgrad::{AttentionOptions, Buckets, DType, Device, Disentangled, KeyIndex, Mask, Result, Tensor};
use wgrad_tests::{Input, gpu, gpu_with_turns_of};

use crate::attention_kinds::{all_of, assert_all, inputs};

/// On a GPU whose loops end early, and on the CPU device.
fn same_in_parts(name: &str, turns: u64, portable: bool, inputs: &[Input], f: &dyn Fn(&[Tensor]) -> Result<Tensor>) {
    let Some(gpu) = gpu_with_turns_of(turns, portable) else { return };
    let (got, want) = (all_of(inputs, &gpu, DType::F32, f), all_of(inputs, &Device::cpu(), DType::F64, f));
    assert_all(name, &got, &want, 2e-5);
    gpu.check_guards().unwrap();
}

/// Rows that see nothing, and sinks, which belong to one part.
#[test]
fn dense() {
    let all = [inputs([2, 1], [150, 140], [8, 12]), vec![Input::normal(&[2], 4)]].concat();
    same_in_parts("dense", 1000, false, &all, &|x| {
        let (sinks, mask) = (Some(x[3].clone()), Mask::causal(-20));
        x[0].attention(&x[1], &x[2], &AttentionOptions { mask, sinks, ..Default::default() })
    });
}

/// What every browser runs.
#[test]
fn dense_without_subgroups() {
    let all = inputs([2, 1], [150, 140], [8, 12]);
    same_in_parts("dense", 1000, true, &all, &|x| x[0].attention(&x[1], &x[2], &Default::default()));
}

/// Sums of gradients of scores along diagonals and by bucket; queries and keys get none.
#[test]
fn sums() {
    let (queries, keys) = (150, 140);
    let buckets = Buckets::disentangled(queries, keys, 4, Some(20)).unwrap();
    let shapes = [vec![2, queries + keys - 1], vec![2, 2, keys, buckets.count()]];
    let extras = (4..).zip(shapes).map(|(seed, shape)| Input::normal(&shape, seed));
    let all: Vec<Input> =
        inputs([2, 2], [queries, keys], [8, 12]).into_iter().map(Input::constant).chain(extras).collect();
    same_in_parts("sums", 1000, false, &all, &|x| {
        let (relative_bias, p2c) = (Some(x[3].clone()), Some(x[4].clone()));
        let disentangled = Some(Disentangled { c2p: None, p2c, buckets: buckets.clone() });
        x[0].attention(&x[1], &x[2], &AttentionOptions { relative_bias, disentangled, ..Default::default() })
    });
}

#[test]
fn lists_of_keys() {
    let lists: Vec<u32> = (0..150u32).flat_map(|i| (0..12u32).map(move |n| (i * 7) % 20 + n * 10)).collect();
    same_in_parts("lists", 400, false, &inputs([2, 1], [150, 140], [8, 12]), &|x| {
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
