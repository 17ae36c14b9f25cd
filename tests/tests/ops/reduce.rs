//! Sums, means, extremes, products, moments, norms, any and all, and their indices.

use proptest::prelude::*;
use wgrad::{DType, Device, Result, Tensor};
use wgrad_tests::{
    Input, assert_close, assert_equal, each_device, expect_error, gradcheck, same_on_devices, same_on_devices_of_terms,
    strategy,
};

/// The dimensions that the bits of `mask` choose, at least one.
fn chosen(rank: usize, mask: u8) -> Vec<isize> {
    let dims: Vec<isize> = (0..rank).filter(|d| mask >> d & 1 == 1).map(|d| d as isize - (rank as isize)).collect();
    if dims.is_empty() { vec![-1] } else { dims }
}

type Op = fn(&Tensor, &[isize], bool) -> Result<Tensor>;

const SMOOTH: [(&str, Op); 7] = [
    ("sum", |x, dims, keep| x.sum(dims, keep)),
    ("mean", |x, dims, keep| x.mean(dims, keep)),
    ("logsumexp", |x, dims, keep| x.logsumexp(dims, keep)),
    ("var", |x, dims, keep| x.var(dims, 0.0, keep)),
    ("norm 1", |x, dims, keep| x.norm(1.0, dims, keep)),
    ("norm 2", |x, dims, keep| x.norm(2.0, dims, keep)),
    ("norm 3", |x, dims, keep| x.norm(3.0, dims, keep)),
];

const CHOOSING: [(&str, Op); 3] = [
    ("max", |x, dims, keep| x.max(dims, keep)),
    ("min", |x, dims, keep| x.min(dims, keep)),
    ("norm inf", |x, dims, keep| x.norm(f64::INFINITY, dims, keep)),
];

/// Values of the reduction of `x` (row-major) over `dims`, in f64, one group of elements after the other.
fn groups(x: &[f64], shape: &[usize], dims: &[isize]) -> Vec<Vec<f64>> {
    let reduced: Vec<bool> = (0..shape.len()).map(|d| dims.contains(&(d as isize - shape.len() as isize))).collect();
    let count = (0..shape.len()).filter(|&d| !reduced[d]).map(|d| shape[d]).product();
    let mut groups = vec![Vec::new(); count];
    for (i, &v) in x.iter().enumerate() {
        let (mut rest, mut group, mut step) = (i, 0, 1);
        for d in (0..shape.len()).rev() {
            if !reduced[d] {
                group += rest % shape[d] * step;
                step *= shape[d];
            }
            rest /= shape[d];
        }
        groups[group].push(v);
    }
    groups
}

fn plain(name: &str, group: &[f64]) -> f64 {
    let n = group.len() as f64;
    let mean = group.iter().sum::<f64>() / n;
    let power = |p: f64| group.iter().map(|v| v.abs().powf(p)).sum::<f64>().powf(1.0 / p);
    match name {
        "sum" => group.iter().sum(),
        "mean" => mean,
        "logsumexp" => group.iter().map(|v| v.exp()).sum::<f64>().ln(),
        "var" => group.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n,
        "norm 1" => power(1.0),
        "norm 2" => power(2.0),
        "norm 3" => power(3.0),
        "max" => group.iter().copied().fold(f64::MIN, f64::max),
        "min" => group.iter().copied().fold(f64::MAX, f64::min),
        "norm inf" => group.iter().map(|v| v.abs()).fold(0.0, f64::max),
        _ => panic!("{name}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn values_against_plain_loops(shape in strategy::shape(1..=4), mask in any::<u8>(), seed in any::<u64>()) {
        let input = strategy::view_of(&shape, &|shape, seed| Input::normal(shape, seed), seed);
        let dims = chosen(shape.len(), mask);
        each_device(|device| {
            let x = input.operand(&input.stored(device, DType::F32).unwrap()).unwrap();
            let groups = groups(&x.to_f64_vec().unwrap(), &shape, &dims);
            for (name, op) in SMOOTH.iter().chain(&CHOOSING) {
                let want: Vec<f64> = groups.iter().map(|g| plain(name, g)).collect();
                let y = op(&x, &dims, seed % 2 == 0).unwrap();
                prop_assert_shape(&y, &shape, &dims, seed % 2 == 0);
                assert_close(name, &y.to_f64_vec().unwrap(), &want, 2e-4, 1e-5);
            }
        });
    }

    #[test]
    fn gradients(shape in strategy::shape(1..=4), mask in any::<u8>(), seed in any::<u64>()) {
        let dims = chosen(shape.len(), mask);
        let input = strategy::view_of(&shape, &|shape, seed| Input::normal(shape, seed), seed);
        for (name, op) in SMOOTH {
            // |x| has a kink at 0, which differences may step over.
            if name != "norm 1" {
                gradcheck(name, std::slice::from_ref(&input), |x| op(&x[0], &dims, seed % 2 == 0));
            }
        }
    }

    #[test]
    fn gradients_of_choices(shape in strategy::shape(1..=3), mask in any::<u8>(), seed in any::<u64>()) {
        let dims = chosen(shape.len(), mask);
        let input = [Input::distinct(0.01, &shape, seed)];
        for (name, op) in CHOOSING.into_iter().chain([SMOOTH[4]]) {
            gradcheck(name, &input, |x| op(&x[0], &dims, false));
        }
        gradcheck("max_dim", &input, |x| Ok(x[0].max_dim(dims[0], false)?.0));
        gradcheck("min_dim", &input, |x| Ok(x[0].min_dim(dims[0], true)?.0));
    }

    #[test]
    fn devices_agree(shape in strategy::shape(1..=3), mask in any::<u8>(), seed in any::<u64>()) {
        let dims = chosen(shape.len(), mask);
        let input = [strategy::view_of(&shape, &|shape, seed| Input::normal(shape, seed), seed)];
        for (name, op) in SMOOTH {
            // A sum may be what is left of all its elements, the gradient of a variance of equal elements (0) of several times an
            // element times a weight of the loss.
            let terms = match name {
                "sum" => dims.iter().map(|d| shape[shape.len().wrapping_add_signed(*d)]).product::<usize>() as f64,
                "var" => 16.0,
                _ => 1.0,
            };
            same_on_devices_of_terms(terms, name, &input, |x| op(&x[0], &dims, false));
        }
        let input = [Input::distinct(0.125, &shape, seed)];
        for (name, op) in CHOOSING {
            same_on_devices(name, &input, |x| op(&x[0], &dims, true));
        }
        same_on_devices("argmax", &input, |x| x[0].argmax(dims[0], false));
        same_on_devices("min_dim", &input, |x| Ok(x[0].min_dim(dims[0], false)?.0));
    }
}

fn prop_assert_shape(y: &Tensor, shape: &[usize], dims: &[isize], keep: bool) {
    let rank = shape.len() as isize;
    let kept = |d: &usize| !dims.contains(&(*d as isize - rank));
    let want: Vec<usize> = match keep {
        true => (0..shape.len()).map(|d| if kept(&d) { shape[d] } else { 1 }).collect(),
        false => (0..shape.len()).filter(kept).map(|d| shape[d]).collect(),
    };
    assert_eq!(y.shape(), want);
}

#[test]
fn products_and_deviations() {
    for shape in [vec![7], vec![3, 5], vec![2, 3, 4]] {
        let input = [Input::uniform(0.5, 1.5, &shape, 3)];
        gradcheck("prod", &input, |x| x[0].prod(&[0], false));
        gradcheck("prod of all", &input, |x| x[0].prod(&[], false));
        gradcheck("std", &input, |x| x[0].std(&[-1], 1.0, false));
        same_on_devices("prod", &input, |x| x[0].prod(&[-1], false));
        same_on_devices("std", &input, |x| x[0].std(&[0], 0.5, true));
    }
    // One factor of 0, and two: the gradient of prod divides by nothing.
    let x = Input::of(&[2.0, 0.0, 3.0, 0.0, 5.0, 0.0], &[2, 3]);
    gradcheck("prod with zeros", std::slice::from_ref(&x), |x| x[0].prod(&[1], false));
    same_on_devices("prod with zeros", &[x], |x| x[0].prod(&[1], false));
}

#[test]
fn long_rows_and_columns() {
    for shape in [[1, 40_002], [3, 5001], [5001, 3], [70_000, 1], [6, 5000], [5003, 8]] {
        let input = [Input::uniform(-1.0, 1.0, &shape, 5)];
        for dim in [0, 1] {
            same_on_devices("sum", &input, |x| x[0].sum(&[dim], false));
            same_on_devices("max", &input, |x| x[0].max(&[dim], false));
        }
        same_on_devices("sum of squares", &input, |x| x[0].norm(2.0, &[], false));
        same_on_devices("argmin", &input, |x| x[0].argmin(1, true));
    }
}

#[test]
fn integers_and_truth() {
    each_device(|device| {
        let x = Tensor::from_slice(&[3i32, -1, 2, 3, 7, -8], &[2, 3], device).unwrap();
        assert_equal("sum", &x.sum(&[1], false).unwrap().to_vec::<i32>().unwrap(), &[4, 2]);
        assert_equal("prod", &x.prod(&[0], false).unwrap().to_vec::<i32>().unwrap(), &[9, -7, -16]);
        assert_equal("max", &x.max(&[], false).unwrap().to_vec::<i32>().unwrap(), &[7]);
        assert_equal("min", &x.min(&[0], true).unwrap().to_vec::<i32>().unwrap(), &[3, -1, -8]);
        assert_equal("argmax", &x.argmax(1, false).unwrap().to_vec::<u32>().unwrap(), &[0, 1]);
        let big = Tensor::from_slice(&[u32::MAX, 2, 0], &[3], device).unwrap();
        assert_equal("sum wraps", &big.sum_all().unwrap().to_vec::<u32>().unwrap(), &[1]);
        let b = Tensor::from_slice(&[true, false, true, true, false, false], &[3, 2], device).unwrap();
        assert_equal("any", &b.any(&[1], false).unwrap().to_vec::<bool>().unwrap(), &[true, true, false]);
        assert_equal("all", &b.all(&[1], false).unwrap().to_vec::<bool>().unwrap(), &[false, true, false]);
        assert_equal("any of all", &b.any(&[], false).unwrap().to_vec::<bool>().unwrap(), &[true]);
    });
}

#[test]
fn ties() {
    each_device(|device| {
        let x = Tensor::from_slice(&[1f32, 4.0, 4.0, 2.0], &[1, 4], device).unwrap().requires_grad();
        let grads = x.max(&[1], false).unwrap().backward().unwrap();
        assert_equal("max", &grads.get(&x).unwrap().to_vec::<f32>().unwrap(), &[0.0, 0.5, 0.5, 0.0]);
        let (values, indices) = x.max_dim(1, false).unwrap();
        assert_equal("max_dim", &indices.to_vec::<u32>().unwrap(), &[1]);
        let grads = values.backward().unwrap();
        assert_equal("max_dim", &grads.get(&x).unwrap().to_vec::<f32>().unwrap(), &[0.0, 1.0, 0.0, 0.0]);
        let many = Tensor::full(2.5, &[3, 300], DType::F32, device).unwrap();
        assert_equal("argmin", &many.argmin(1, false).unwrap().to_vec::<u32>().unwrap(), &[0, 0, 0]);
    });
}

#[test]
fn accuracy() {
    each_device(|device| {
        // A small variance about a large mean, which E[x²] - E[x]² would lose.
        let x: Vec<f32> = (0..1000).map(|i| 10_000.0 + (i % 2) as f32).collect();
        let x = Tensor::from_vec(x, &[1000], device).unwrap();
        assert_close("var", &x.var(&[0], 0.0, false).unwrap().to_f64_vec().unwrap(), &[0.25], 1e-5, 0.0);
        // A long sum, which one running f32 would miss by far.
        let ones = Tensor::full(0.1, &[200_000], DType::F32, device).unwrap();
        let want = f64::from(0.1f32) * 200_000.0;
        assert_close("sum", &ones.sum_all().unwrap().to_f64_vec().unwrap(), &[want], 0.0, 1e-6);
        // Infinities that a sum of exponentials meets.
        let low = Tensor::from_slice(&[f32::NEG_INFINITY, 1e4, f32::NEG_INFINITY, f32::NEG_INFINITY], &[2, 2], device);
        let lse = low.unwrap().logsumexp(&[1], false).unwrap().to_f64_vec().unwrap();
        assert!(lse[0] == 1e4 && lse[1] < -2e38, "{lse:?}");
    });
}

#[test]
fn zero_elements() {
    each_device(|device| {
        let x = Tensor::zeros(&[2, 0, 3], DType::F32, device).unwrap();
        assert_equal("sum", &x.sum(&[1], false).unwrap().to_vec::<f32>().unwrap(), &[0.0; 6]);
        assert_equal("prod", &x.prod(&[1, 2], false).unwrap().to_vec::<f32>().unwrap(), &[1.0; 2]);
        assert_eq!(x.max(&[2], false).unwrap().shape(), &[2, 0]);
        expect_error(x.max(&[1], false), &["max", "[2, 0, 3]", "no elements"]);
        expect_error(x.mean(&[], false), &["mean", "no elements"]);
        expect_error(x.argmax(1, false), &["argmax", "no elements"]);
        let none = Tensor::zeros(&[0], DType::Bool, device).unwrap();
        assert_equal("all", &none.all(&[], false).unwrap().to_vec::<bool>().unwrap(), &[true]);
        assert_equal("any", &none.any(&[], false).unwrap().to_vec::<bool>().unwrap(), &[false]);
        let scalar = Tensor::scalar(-3.0, DType::F32, device).unwrap();
        assert_eq!(scalar.sum(&[], true).unwrap().item().unwrap(), -3.0);
        assert_eq!(scalar.norm(1.0, &[], false).unwrap().item().unwrap(), 3.0);
    });
}

#[test]
fn undoing_broadcasts() {
    let x = [Input::normal(&[2, 3, 4], 9)];
    for shape in [vec![4], vec![3, 1], vec![1, 4], vec![2, 1, 1], vec![], vec![2, 3, 4]] {
        gradcheck("sum_to", &x, |x| x[0].sum_to(&shape));
        same_on_devices("sum_to", &x, |x| x[0].sum_to(&shape));
    }
    let x = Tensor::zeros(&[2, 3], DType::F32, &Device::cpu()).unwrap();
    expect_error(x.sum_to(&[2]), &["sum_to", "[2]", "[2, 3]"]);
    expect_error(x.sum_to(&[1, 2, 3]), &["sum_to"]);
}

#[test]
fn bad_input() {
    let x = Tensor::zeros(&[2, 3], DType::F32, &Device::cpu()).unwrap();
    let ints = Tensor::zeros(&[2], DType::I32, &Device::cpu()).unwrap();
    let bools = Tensor::zeros(&[2], DType::Bool, &Device::cpu()).unwrap();
    expect_error(x.sum(&[2], false), &["sum", "2", "rank 2"]);
    expect_error(x.sum(&[1, -1], false), &["sum", "twice"]);
    expect_error(ints.mean(&[], false), &["mean", "i32", "float"]);
    expect_error(bools.sum(&[], false), &["sum", "bool"]);
    expect_error(x.any(&[], false), &["any", "f32", "bool"]);
    expect_error(x.var(&[0], 2.0, false), &["var", "2", "degree of freedom"]);
    expect_error(x.norm(0.5, &[], false), &["norm", "p is 0.5"]);
    expect_error(bools.argmax(0, false), &["argmax", "bool"]);
}
