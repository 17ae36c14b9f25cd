//! Functions of two tensors, and choices by a condition.

use proptest::prelude::*;
use wgrad::{DType, Device, Result, Tensor};
use wgrad_tests::{
    Input, Random, View, assert_close, assert_equal, each_device, expect_error, gradcheck, same_on_devices,
    same_on_devices_within, strategy,
};

type Function = fn(&Tensor, &Tensor) -> Result<Tensor>;

const ARITHMETIC: [(&str, Function, fn(f64, f64) -> f64); 7] = [
    ("add", Tensor::add, |a, b| a + b),
    ("sub", Tensor::sub, |a, b| a - b),
    ("mul", Tensor::mul, |a, b| a * b),
    ("div", Tensor::div, |a, b| a / b),
    ("minimum", Tensor::minimum, f64::min),
    ("maximum", Tensor::maximum, f64::max),
    ("pow", Tensor::pow, f64::powf),
];

/// Pairs of shapes for each way in which the kernel finds its operands: dense, scalar, row, column, strided, deep.
const SHAPES: [(&[usize], &[usize]); 12] = [
    (&[3, 5], &[3, 5]),
    (&[], &[7]),
    (&[7], &[]),
    (&[], &[]),
    (&[6, 8], &[8]),
    (&[6, 7], &[7]),
    (&[6, 8], &[6, 1]),
    (&[5, 1], &[1, 12]),
    (&[2, 3, 4], &[3, 1]),
    (&[2, 1, 3, 1, 2], &[4, 1, 3, 1]),
    (&[0, 3], &[1, 3]),
    (&[1], &[600]),
];

#[test]
fn values_and_gradients() {
    for (name, function, value) in ARITHMETIC {
        for (a, b) in SHAPES {
            let inputs = [Input::uniform(0.3, 3.0, a, 1), Input::uniform(0.3, 3.0, b, 2)];
            each_device(|device| {
                let x = inputs[0].stored(device, DType::F32).unwrap().detach();
                let y = inputs[1].stored(device, DType::F32).unwrap().detach();
                let out = function(&x, &y).unwrap();
                let (x, y) = (x.expand(out.shape()).unwrap(), y.expand(out.shape()).unwrap());
                let (x, y) = (x.to_f64_vec().unwrap(), y.to_f64_vec().unwrap());
                let want: Vec<f64> = x.iter().zip(&y).map(|(&a, &b)| value(a, b)).collect();
                assert_close(&format!("{name} {a:?} {b:?}"), &out.to_f64_vec().unwrap(), &want, 0.0, 2e-6);
            });
            gradcheck(name, &inputs, |x| function(&x[0], &x[1]));
        }
    }
}

#[test]
fn devices_agree() {
    for (name, function, _) in ARITHMETIC {
        for (a, b) in SHAPES {
            let inputs = [Input::uniform(0.3, 3.0, a, 1), Input::uniform(0.3, 3.0, b, 2)];
            same_on_devices_within(2.0, name, &inputs, |x| function(&x[0], &x[1]));
        }
    }
}

/// Each way in which a kernel finds four neighbouring elements: fours and splats of views of two and more dimensions, elements
/// one by one, across the ends of rows; a whole workgroup's work and some more.
#[test]
fn operands_of_every_kind() {
    let dense = |shape: &[usize], seed| Input::normal(shape, seed);
    let cases = [
        [dense(&[3, 1, 8], 1), dense(&[1, 5, 8], 2)],
        [dense(&[3, 5, 1], 1), dense(&[1, 5, 8], 2)],
        [dense(&[2, 3, 4], 1).view(View::Permute(vec![1, 0, 2])), dense(&[3, 1, 1], 2)],
        [dense(&[6, 12], 1).view(View::Slice(1, 4, 8, 1)), dense(&[6, 1], 2)],
        [dense(&[21], 1).view(View::Slice(0, 3, 21, 1)), dense(&[18], 2)],
        [dense(&[3, 2, 5, 3], 1).view(View::Permute(vec![2, 0, 3, 1])), dense(&[5, 3, 3, 2], 2)],
        [dense(&[5, 1030], 1), dense(&[1030], 2)],
        [dense(&[9, 1024], 1), dense(&[9, 1], 2)],
    ];
    for inputs in cases {
        same_on_devices("add", &inputs, |x| x[0].add(&x[1]));
        same_on_devices("where_cond", &inputs, |x| Tensor::where_cond(&x[0].gt(&x[1])?, &x[0], &x[1]));
    }
}

#[test]
fn ties_share_the_gradient() {
    each_device(|device| {
        for function in [Tensor::maximum as Function, Tensor::minimum] {
            let x = Tensor::from_slice(&[1f32, 2.0], &[2], device).unwrap();
            let (a, b) = (x.requires_grad(), x.requires_grad());
            let y = function(&a, &b).unwrap();
            let grads = wgrad::autograd::backward(&[(&y, y.ones_like().unwrap())], &[], false).unwrap();
            for leaf in [&a, &b] {
                assert_eq!(grads.get(leaf).unwrap().to_vec::<f32>().unwrap(), [0.5, 0.5]);
            }
        }
    });
}

#[test]
fn integers() {
    each_device(|device| {
        let a = Tensor::from_slice(&[7i32, -7, 5, i32::MIN, i32::MIN, i32::MAX], &[6], device).unwrap();
        let b = Tensor::from_slice(&[2i32, 2, 0, -1, 1, 1], &[6], device).unwrap();
        let values = |t: Result<Tensor>| t.unwrap().to_vec::<i32>().unwrap();
        assert_eq!(values(a.div(&b)), [3, -3, 0, i32::MIN, i32::MIN, i32::MAX]);
        assert_eq!(values(a.add(&b)), [9, -5, 5, i32::MAX, i32::MIN + 1, i32::MIN]);
        assert_eq!(values(a.mul(&b)), [14, -14, 0, i32::MIN, i32::MIN, i32::MAX]);
        assert_eq!(values(a.minimum(&b)), [2, -7, 0, i32::MIN, i32::MIN, 1]);
        let less = a.lt(&b).unwrap();
        assert_eq!(less.to_vec::<bool>().unwrap(), [false, true, false, true, true, false]);
        let u = Tensor::from_slice(&[u32::MAX, 7, 0x8000_0000], &[3], device).unwrap();
        let v = Tensor::from_slice(&[u32::MAX, 0, u32::MAX], &[3], device).unwrap();
        assert_eq!(u.div(&v).unwrap().to_vec::<u32>().unwrap(), [1, 0, 0]);
        assert_eq!(u.maximum(&v).unwrap().to_vec::<u32>().unwrap(), [u32::MAX, 7, u32::MAX]);
    });
}

#[test]
fn comparisons_and_logic() {
    each_device(|device| {
        let a = Tensor::from_slice(&[1f32, 2.0, 3.0], &[3], device).unwrap();
        let b = Tensor::from_slice(&[2f32], &[1], device).unwrap();
        let values = |t: Result<Tensor>| t.unwrap().to_vec::<bool>().unwrap();
        assert_eq!(values(a.eq(&b)), [false, true, false]);
        assert_eq!(values(a.ne(&b)), [true, false, true]);
        assert_eq!(values(a.lt(&b)), [true, false, false]);
        assert_eq!(values(a.le(&b)), [true, true, false]);
        assert_eq!(values(a.gt(&b)), [false, false, true]);
        assert_eq!(values(a.ge(&b)), [false, true, true]);
        let half = |t: &Tensor| t.cast(DType::BF16).unwrap();
        assert_eq!(values(half(&a).ge(&half(&b))), [false, true, true]);
        let p = Tensor::from_slice(&[false, false, true, true], &[4], device).unwrap();
        let q = Tensor::from_slice(&[false, true, false, true], &[4], device).unwrap();
        assert_eq!(values(p.logical_and(&q)), [false, false, false, true]);
        assert_eq!(values(p.logical_or(&q)), [false, true, true, true]);
        assert_eq!(values(p.logical_xor(&q)), [false, true, true, false]);
        assert_eq!(values(p.logical_not()), [true, true, false, false]);
        assert_eq!(values(p.eq(&q)), [true, false, false, true]);
    });
}

#[test]
fn where_and_masks() {
    let shapes: [(&[usize], &[usize], &[usize]); 5] = [
        (&[3, 4], &[3, 4], &[3, 4]),
        (&[3, 1], &[4], &[2, 1, 1]),
        (&[], &[5], &[5]),
        (&[9], &[], &[9]),
        (&[2, 1, 3, 1, 2, 1], &[2, 1, 2, 1, 3], &[1]),
    ];
    for (c, a, b) in shapes {
        let inputs = [Input::bools(c, 1), Input::normal(a, 2), Input::normal(b, 3)];
        let choose = |x: &[Tensor]| Tensor::where_cond(&x[0], &x[1], &x[2]);
        gradcheck("where_cond", &inputs, choose);
        same_on_devices("where_cond", &inputs, choose);
    }
    let inputs = [Input::normal(&[2, 3, 5], 2), Input::bools(&[3, 1], 4)];
    let fill = |x: &[Tensor]| x[0].masked_fill(&x[1], -7.5);
    gradcheck("masked_fill", &inputs, fill);
    same_on_devices("masked_fill", &inputs, fill);
    each_device(|device| {
        let x = Tensor::from_slice(&[1i32, 2, 3], &[3], device).unwrap();
        let mask = Tensor::from_slice(&[true, false, true], &[3], device).unwrap();
        assert_eq!(x.masked_fill(&mask, 9.0).unwrap().to_vec::<i32>().unwrap(), [9, 2, 9]);
    });
}

#[test]
fn triangles_and_glu() {
    each_device(|device| {
        let x = Tensor::ones(&[3, 4], DType::F32, device).unwrap();
        for diagonal in [-9, -1, 0, 1, 2, 9] {
            let lower = x.tril(diagonal).unwrap().to_vec::<f32>().unwrap();
            let upper = x.triu(diagonal).unwrap().to_vec::<f32>().unwrap();
            for (i, (lower, upper)) in lower.into_iter().zip(upper).enumerate() {
                let (row, column) = ((i / 4) as i64, (i % 4) as i64);
                assert_eq!(lower, f32::from(column <= row + diagonal), "tril {diagonal} at {row}, {column}");
                assert_eq!(upper, f32::from(column >= row + diagonal), "triu {diagonal} at {row}, {column}");
            }
        }
    });
    for (name, f) in
        [("tril", (|x| x.tril(1)) as fn(&Tensor) -> Result<Tensor>), ("triu", |x| x.triu(-1)), ("glu", |x| x.glu(1))]
    {
        let input = Input::normal(&[2, 4, 5], 3).view(View::Permute(vec![2, 1, 0]));
        gradcheck(name, std::slice::from_ref(&input), |x| f(&x[0]));
        same_on_devices(name, &[input], |x| f(&x[0]));
    }
}

#[test]
fn operators() {
    let device = Device::cpu();
    let x = Tensor::from_slice(&[1f32, 2.0, 4.0], &[3], &device).unwrap();
    let values = |t: Result<Tensor>| t.unwrap().to_vec::<f32>().unwrap();
    assert_eq!(values(&x + &x), [2.0, 4.0, 8.0]);
    assert_eq!(values(&x - &x), [0.0; 3]);
    assert_eq!(values(&x * &x), [1.0, 4.0, 16.0]);
    assert_eq!(values(&x / &x), [1.0; 3]);
    assert_eq!(values(&x + 1.0), [2.0, 3.0, 5.0]);
    assert_eq!(values(&x - 1.0), [0.0, 1.0, 3.0]);
    assert_eq!(values(1.0 - &x), [0.0, -1.0, -3.0]);
    assert_eq!(values(2.0 * &x), [2.0, 4.0, 8.0]);
    assert_eq!(values(&x / 4.0), [0.25, 0.5, 1.0]);
    assert_eq!(values(1.0 / &x), [1.0, 0.5, 0.25]);
    assert_eq!(values(-&x), [-1.0, -2.0, -4.0]);
}

#[test]
fn bad_input() {
    let device = Device::cpu();
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &device).unwrap();
    let x = zeros(&[2, 3], DType::F32);
    expect_error(x.add(&zeros(&[4], DType::F32)), &["add", "[2, 3]", "[4]"]);
    expect_error(x.mul(&zeros(&[2, 3], DType::F64)), &["mul", "f64"]);
    expect_error(zeros(&[2], DType::I32).pow(&zeros(&[2], DType::I32)), &["pow", "i32", "float"]);
    expect_error(zeros(&[2], DType::Bool).add(&zeros(&[2], DType::Bool)), &["add", "bool"]);
    expect_error(x.logical_and(&x), &["logical_and", "f32", "bool"]);
    expect_error(x.logical_not(), &["logical_not", "f32"]);
    expect_error(Tensor::where_cond(&x, &x, &x), &["where_cond", "f32", "bool"]);
    expect_error(x.masked_fill(&zeros(&[5, 2, 3], DType::Bool), 0.0), &["masked_fill", "[5, 2, 3]", "[2, 3]"]);
    expect_error(zeros(&[3], DType::F32).tril(0), &["tril", "[3]"]);
    expect_error(x.glu(1), &["glu", "3"]);
    if let Some(gpu) = wgrad_tests::gpu() {
        expect_error(x.add(&Tensor::zeros(&[2, 3], DType::F32, gpu).unwrap()), &["add", "different devices"]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[test]
    fn broadcast_views((a, b) in strategy::broadcast_pair(0..=5), seed in any::<u64>()) {
        let fill = |shape: &[usize], seed| Input::uniform(0.5, 2.0, shape, seed);
        let inputs = [strategy::view_of(&a, &fill, seed), strategy::view_of(&b, &fill, seed ^ 1)];
        gradcheck("div", &inputs, |x| x[0].div(&x[1]));
        same_on_devices_within(4.0, "div", &inputs, |x| x[0].div(&x[1]));
    }

    #[test]
    fn masks_of_views((a, b) in strategy::broadcast_pair(0..=5), seed in any::<u64>()) {
        let mask = strategy::view_of(&a, &Input::bools, seed);
        let inputs = [mask, strategy::view_of(&b, &Input::normal, seed ^ 1), Input::normal(&a, seed ^ 2)];
        same_on_devices_within(4.0, "where_cond", &inputs, |x| Tensor::where_cond(&x[0], &x[1], &x[2]));
    }
}

#[test]
fn large_tensors_on_all_cores() {
    // Long enough for the parallel loops, with rows that do not fit the pieces of work.
    let (rows, columns) = (157, 211);
    let mut random = Random::new(5);
    let x: Vec<f64> = (0..rows * columns).map(|_| random.normal()).collect();
    let t = Tensor::from_slice(&x, &[rows, columns], &Device::cpu()).unwrap();
    let bias: Vec<f64> = (0..columns).map(|_| random.normal()).collect();
    let b = Tensor::from_slice(&bias, &[columns], &Device::cpu()).unwrap();
    let want: Vec<f64> = x.iter().enumerate().map(|(i, v)| v * bias[i % columns]).collect();
    assert_equal("mul", &t.mul(&b).unwrap().to_vec::<f64>().unwrap(), &want);
    let turned = t.transpose(0, 1).unwrap().contiguous().unwrap().to_vec::<f64>().unwrap();
    let want: Vec<f64> = (0..rows * columns).map(|i| x[(i % rows) * columns + i / rows]).collect();
    assert_equal("transpose", &turned, &want);
}
