//! Embedding, gather, scatter and their kind.

use proptest::prelude::*;
use wgrad::{DType, Device, Error, Tensor};
use wgrad_tests::{
    Input, Random, View, assert_close, assert_equal, each_device, expect_error, fresh_gpu, gpu, gradcheck,
    same_on_devices, same_on_devices_within,
};

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) }
}

fn ids(values: &[u32], shape: &[usize], device: &Device) -> Tensor {
    Tensor::from_slice(values, shape, device).unwrap()
}

fn floats(values: &[f32], shape: &[usize], device: &Device) -> Tensor {
    Tensor::from_slice(values, shape, device).unwrap()
}

#[test]
fn values_by_hand() {
    each_device(|device| {
        let x = floats(&[1., 2., 3., 4., 5., 6.], &[3, 2], device);
        let rows = x.index_select(0, &ids(&[2, 0, 2], &[3], device)).unwrap();
        assert_equal("index_select", &rows.to_vec::<f32>().unwrap(), &[5., 6., 1., 2., 5., 6.]);
        let at = ids(&[2, 0, 0, 1], &[2, 2], device);
        let picked = x.gather(0, &at).unwrap();
        assert_equal("gather", &picked.to_vec::<f32>().unwrap(), &[5., 2., 1., 4.]);
        let src = floats(&[10., 20., 30., 40.], &[2, 2], device);
        let added = x.scatter_add(0, &ids(&[2, 0, 2, 0], &[2, 2], device), &src).unwrap();
        assert_equal("scatter_add", &added.to_vec::<f32>().unwrap(), &[1., 62., 3., 4., 45., 6.]);
        let put = x.scatter(0, &ids(&[2, 0, 2, 1], &[2, 2], device), &src).unwrap();
        assert_equal("scatter", &put.to_vec::<f32>().unwrap(), &[1., 20., 3., 40., 30., 6.]);
        let more = x.index_add(0, &ids(&[1, 1], &[2], device), &src).unwrap();
        assert_equal("index_add", &more.to_vec::<f32>().unwrap(), &[1., 2., 43., 64., 5., 6.]);
        let hot = ids(&[1, 0], &[2], device).one_hot(3).unwrap();
        assert_equal("one_hot", &hot.to_vec::<u32>().unwrap(), &[0, 1, 0, 1, 0, 0]);
        let signed = Tensor::from_slice(&[1i32], &[1], device).unwrap();
        assert_equal("i32", &x.index_select(0, &signed).unwrap().to_vec::<f32>().unwrap(), &[3., 4.]);
        let truth = Tensor::from_slice(&[true, false, true], &[3], device).unwrap();
        let turned = truth.index_select(0, &ids(&[1, 2, 0], &[3], device)).unwrap();
        assert_equal("bool", &turned.to_vec::<bool>().unwrap(), &[false, true, true]);
        let whole = Tensor::from_slice(&[-3i32, 7], &[2], device).unwrap();
        let summed = whole.index_add(
            0,
            &ids(&[0, 0, 1], &[3], device),
            &whole.index_select(0, &ids(&[1, 1, 0], &[3], device)).unwrap(),
        );
        assert_equal("i32 sums", &summed.unwrap().to_vec::<i32>().unwrap(), &[11, 4]);
    });
}

#[test]
fn nothing_to_index() {
    each_device(|device| {
        let x = floats(&[1., 2., 3., 4.], &[2, 2], device);
        let none = ids(&[], &[0], device);
        assert_eq!(x.index_select(0, &none).unwrap().shape(), [0, 2]);
        assert_eq!(x.embedding(&none, None).unwrap().shape(), [0, 2]);
        let leaf = x.requires_grad();
        let empty = leaf.index_select(1, &none).unwrap();
        let grads = wgrad::autograd::backward(&[(&empty, empty.detach())], &[], false).unwrap();
        assert_equal("zeros", &grads.get(&leaf).unwrap().to_vec::<f32>().unwrap(), &[0.; 4]);
        let hollow = floats(&[], &[0, 2], device);
        assert_eq!(hollow.index_add(0, &none, &hollow).unwrap().shape(), [0, 2]);
        expect_error(hollow.index_select(0, &ids(&[0], &[1], device)), &["index_select", "empty"]);
    });
}

/// Few rows and many entries: whole blocks of entries are summed first.
#[test]
fn a_row_with_thousands_of_entries() {
    each_device(|device| {
        let weight = floats(&[0.; 10], &[2, 5], device).requires_grad();
        let tokens: Vec<u32> = (0..9000).map(|i| u32::from(i % 9 == 0)).collect();
        let out = weight.embedding(&ids(&tokens, &[9000], device), None).unwrap();
        let seed: Vec<f32> = (0..45_000).map(|i| ((i * 37) % 101) as f32 / 101.0).collect();
        let grads = wgrad::autograd::backward(&[(&out, floats(&seed, &[9000, 5], device))], &[], false).unwrap();
        let mut want = [0f64; 10];
        for (i, &token) in tokens.iter().enumerate() {
            for c in 0..5 {
                want[token as usize * 5 + c] += f64::from(seed[i * 5 + c]);
            }
        }
        assert_close("sums", &grads.get(&weight).unwrap().to_f64_vec().unwrap(), &want, 1e-3, 2e-6);
    });
}

#[test]
fn padding_row_gets_no_gradient() {
    each_device(|device| {
        let weight = floats(&[1.; 12], &[3, 4], device).requires_grad();
        let out = weight.embedding(&ids(&[1, 0, 1, 2, 0], &[5], device), Some(1)).unwrap();
        let ones = floats(&[1.; 20], &[5, 4], device);
        let grads = wgrad::autograd::backward(&[(&out, ones)], &[], false).unwrap();
        let want = [2., 2., 2., 2., 0., 0., 0., 0., 1., 1., 1., 1.];
        assert_equal("padding", &grads.get(&weight).unwrap().to_vec::<f32>().unwrap(), &want);
    });
}

/// Sums of floats depend on their order: it is fixed.
#[test]
fn gradients_are_the_same_bits_each_time() {
    let Some(device) = gpu() else { return };
    let mut random = Random::new(5);
    let tokens: Vec<u32> = (0..3000).map(|_| random.below(20) as u32).collect();
    let seed: Vec<f32> = (0..9000).map(|_| random.normal() as f32).collect();
    let run = || {
        let weight = floats(&[0.; 60], &[20, 3], device).requires_grad();
        let out = weight.embedding(&ids(&tokens, &[3000], device), None).unwrap();
        let grads = wgrad::autograd::backward(&[(&out, floats(&seed, &[3000, 3], device))], &[], false).unwrap();
        grads.get(&weight).unwrap().to_vec::<f32>().unwrap()
    };
    let first = run();
    for _ in 0..3 {
        assert_equal("again", &run(), &first);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn rows(rows in 1usize..40, inner in 1usize..10, count in 1usize..600, seed: u64) {
        let weight = Input::normal(&[rows, inner], seed);
        let index = Input::indices(rows, &[count], DType::U32, seed ^ 1);
        let f = |x: &[Tensor]| x[0].embedding(&x[1], None);
        gradcheck("embedding", &[weight.clone(), index.clone()], f);
        same_on_devices_within(4.0, "embedding", &[weight, index.clone()], f);
        let turned = Input::normal(&[inner, rows, 2], seed).view(View::Permute(vec![2, 1, 0]));
        let f = |x: &[Tensor]| x[0].index_select(1, &x[1]);
        gradcheck("index_select", &[turned.clone(), index.clone()], f);
        same_on_devices_within(4.0, "index_select", &[turned, index.clone()], f);
        let (base, src) = (Input::normal(&[2, rows, inner], seed), Input::normal(&[2, count, inner], seed ^ 2));
        let f = |x: &[Tensor]| x[0].index_add(1, &x[1], &x[2]);
        gradcheck("index_add", &[base.clone(), index.clone(), src.clone()], f);
        same_on_devices_within(4.0, "index_add", &[base, index, src], f);
    }

    #[test]
    fn elements(a in 1usize..8, b in 1usize..8, c in 1usize..8, n in 1usize..40, less: bool, dim in 0usize..3, seed: u64) {
        let shape = [a, b, c];
        let mut entries = shape.map(|size| if less { size.div_ceil(2) } else { size });
        entries[dim] = n;
        let x = Input::normal(&shape, seed);
        let index = Input::indices(shape[dim], &entries, DType::I32, seed ^ 1);
        let src = Input::normal(&entries, seed ^ 2);
        let dim = dim as isize;
        let f = |x: &[Tensor]| x[0].gather(dim, &x[1]);
        gradcheck("gather", &[x.clone(), index.clone()], f);
        same_on_devices("gather", &[x.clone(), index.clone()], f);
        let f = |x: &[Tensor]| x[0].scatter_add(dim, &x[1], &x[2]);
        gradcheck("scatter_add", &[x.clone(), index.clone(), src.clone()], f);
        same_on_devices_within(4.0, "scatter_add", &[x.clone(), index.clone(), src.clone()], f);
        // Indices repeat: the last one stays, and the gradient knows.
        let f = |x: &[Tensor]| x[0].scatter(dim, &x[1], &x[2]);
        gradcheck("scatter", &[x.clone(), index.clone(), src.clone()], f);
        same_on_devices("scatter", &[x, index, src], f);
    }
}

#[test]
fn out_of_range_on_the_cpu() {
    let cpu = Device::cpu();
    let x = floats(&[0.; 6], &[3, 2], &cpu);
    expect_error(x.embedding(&ids(&[1, 3], &[2], &cpu), None), &["embedding", "index 3", "size 3"]);
    let negative = Tensor::from_slice(&[0i32, -1], &[2], &cpu).unwrap();
    expect_error(x.index_select(1, &negative), &["index_select", "index -1", "size 2"]);
    expect_error(x.gather(0, &ids(&[9], &[1, 1], &cpu)), &["gather", "index 9", "size 3"]);
    expect_error(ids(&[5], &[1], &cpu).one_hot(5), &["one_hot", "index 5", "size 5"]);
}

/// A kernel cannot fail; it notes what it met, and the next call that waits says so, once. Nothing is written out of bounds.
#[test]
fn out_of_range_on_the_gpu() {
    let Some(device) = fresh_gpu() else { return };
    let x = floats(&[0.; 6], &[3, 2], &device);
    let y = x.embedding(&ids(&[1, 3], &[2], &device), None).unwrap();
    let error = expect_error(y.to_vec::<f32>(), &["embedding", "index 3", "size 3"]);
    assert!(matches!(error, Error::Index { index: 3, size: 3, .. }));
    let negative = Tensor::from_slice(&[0i32, -7], &[2], &device).unwrap();
    let y = x.index_select(1, &negative).unwrap();
    expect_error(device.sync(), &["index_select", "index -7", "size 2"]);
    assert_eq!(y.to_vec::<f32>().unwrap().len(), 6);
    let fine = x.index_select(0, &ids(&[2], &[1], &device)).unwrap();
    assert_equal("fine", &fine.to_vec::<f32>().unwrap(), &[0., 0.]);
    device.sync().unwrap();
    device.check_guards().unwrap();
}

#[test]
fn bad_input() {
    let cpu = Device::cpu();
    let x = floats(&[0.; 6], &[3, 2], &cpu);
    expect_error(x.embedding(&x, None), &["embedding", "f32", "u32 or i32"]);
    expect_error(x.embedding(&ids(&[0], &[1], &cpu), Some(3)), &["embedding", "index 3", "size 3"]);
    expect_error(floats(&[0.], &[1], &cpu).embedding(&ids(&[0], &[1], &cpu), None), &["embedding", "[rows, features]"]);
    expect_error(x.index_select(2, &ids(&[0], &[1], &cpu)), &["index_select", "dimension 2", "rank 2"]);
    expect_error(x.index_select(0, &ids(&[0], &[1, 1], &cpu)), &["index_select", "one dimension"]);
    expect_error(x.gather(0, &ids(&[0], &[1], &cpu)), &["gather", "same rank"]);
    expect_error(x.gather(0, &ids(&[0; 3], &[1, 3], &cpu)), &["gather", "[1, 3]", "[3, 2]"]);
    expect_error(x.scatter_add(0, &ids(&[0], &[1, 1], &cpu), &x), &["scatter_add", "[3, 2]", "[1, 1]"]);
    let whole = ids(&[0], &[1, 1], &cpu);
    expect_error(x.scatter(0, &whole, &whole), &["scatter", "u32"]);
    expect_error(x.index_add(0, &ids(&[0], &[1], &cpu), &x), &["index_add", "[3, 2]", "[1, 2]"]);
    expect_error(ids(&[0], &[1], &cpu).one_hot(0), &["one_hot", "0 classes"]);
    expect_error(x.one_hot(3), &["one_hot", "f32"]);
    if let Some(gpu) = gpu() {
        expect_error(x.embedding(&ids(&[0], &[1], gpu), None), &["embedding", "different devices"]);
    }
}
