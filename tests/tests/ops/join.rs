//! Joining, padding and repeating.

use proptest::prelude::*;
use wgrad::{DType, Device, PadMode, Tensor};
use wgrad_tests::{Input, View, assert_equal, each_device, expect_error, gradcheck, same_on_devices};

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) }
}

fn count(shape: &[usize], device: &Device) -> Tensor {
    let n: usize = shape.iter().product();
    Tensor::from_vec((0..n).map(|i| i as f32).collect(), shape, device).unwrap()
}

fn read(x: wgrad::Result<Tensor>) -> Vec<f32> {
    x.unwrap().to_vec().unwrap()
}

#[test]
fn values_by_hand() {
    each_device(|device| {
        let x = count(&[2, 3], device);
        let one = count(&[2, 1], device);
        assert_equal("concat", &read(Tensor::concat(&[&x, &one], 1)), &[0., 1., 2., 0., 3., 4., 5., 1.]);
        let shorter = x.narrow(0, 1, 1).unwrap();
        assert_equal("concat", &read(Tensor::concat(&[&shorter, &x], 0)), &[3., 4., 5., 0., 1., 2., 3., 4., 5.]);
        let stacked = Tensor::stack(&[&one, &one], -1).unwrap();
        assert_eq!(stacked.shape(), [2, 1, 2]);
        assert_equal("stack", &read(Ok(stacked)), &[0., 0., 1., 1.]);
        assert_equal("flip", &read(x.flip(&[1])), &[2., 1., 0., 5., 4., 3.]);
        assert_equal("flip", &read(x.flip(&[])), &[5., 4., 3., 2., 1., 0.]);
        assert_equal("roll", &read(x.roll(1, 1)), &[2., 0., 1., 5., 3., 4.]);
        assert_equal("roll", &read(x.roll(-4, 1)), &[1., 2., 0., 4., 5., 3.]);
        let line = count(&[3], device);
        assert_equal("repeat", &read(line.repeat(&[2, 2])), &[0., 1., 2., 0., 1., 2., 0., 1., 2., 0., 1., 2.]);
        assert_equal("repeat_interleave", &read(line.repeat_interleave(2, 0)), &[0., 0., 1., 1., 2., 2.]);
        let pad = |before, after, mode| read(line.pad(&[(before, after)], mode));
        assert_equal("constant", &pad(1, 2, PadMode::Constant(9.0)), &[9., 0., 1., 2., 9., 9.]);
        assert_equal("crop", &pad(-1, 1, PadMode::Constant(9.0)), &[1., 2., 9.]);
        assert_equal("reflect", &pad(2, 1, PadMode::Reflect), &[2., 1., 0., 1., 2., 1.]);
        assert_equal("replicate", &pad(2, 1, PadMode::Replicate), &[0., 0., 0., 1., 2., 2.]);
    });
}

#[test]
fn empty_parts() {
    each_device(|device| {
        let (x, none) = (count(&[2, 3], device), count(&[0, 3], device));
        assert_equal("concat", &read(Tensor::concat(&[&none, &x, &none], 0)), &[0., 1., 2., 3., 4., 5.]);
        assert_eq!(Tensor::concat(&[&none, &none], 0).unwrap().shape(), [0, 3]);
        assert_eq!(none.flip(&[]).unwrap().shape(), [0, 3]);
        assert_eq!(none.roll(2, 0).unwrap().shape(), [0, 3]);
        assert_eq!(x.repeat(&[0, 1]).unwrap().shape(), [0, 3]);
        assert_eq!(none.repeat_interleave(3, 1).unwrap().shape(), [0, 9]);
        assert_eq!(none.pad(&[(1, 1), (0, 0)], PadMode::Constant(1.0)).unwrap().shape(), [2, 3]);
    });
}

/// Every dtype, more parts than one launch takes, and views as parts.
#[test]
fn many_parts_of_any_dtype() {
    each_device(|device| {
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::I32, DType::U32, DType::Bool] {
            for dim in 0..2 {
                let parts: Vec<Tensor> = (0..17)
                    .map(|i| {
                        let shape = if dim == 0 { [i % 3 + 1, 5] } else { [5, i % 3 + 1] };
                        let values: Vec<f64> = (0..shape[0] * shape[1]).map(|j| ((i + j) % 7) as f64).collect();
                        Input { dtype, differentiable: false, ..Input::of(&values, &shape) }.stored(device, dtype)
                    })
                    .collect::<wgrad::Result<_>>()
                    .unwrap();
                let joined = Tensor::concat(&parts.iter().collect::<Vec<_>>(), dim).unwrap();
                let mut start = 0;
                for part in &parts {
                    let size = part.shape()[dim as usize];
                    let back = joined.narrow(dim, start, size).unwrap().to_f64_vec().unwrap();
                    assert_equal("concat", &back, &part.to_f64_vec().unwrap());
                    start += size;
                }
            }
        }
    });
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn gradients_and_devices(a in 1usize..6, b in 2usize..7, c in 1usize..9, n in 1usize..4, dim in 0isize..3, seed: u64) {
        let shape = [a, b, c];
        let x = Input::normal(&shape, seed);
        let turned = Input::normal(&[c, b, a], seed ^ 1).view(View::Permute(vec![2, 1, 0]));
        let both = [x.clone(), turned.clone()];
        let f = |x: &[Tensor]| Tensor::concat(&[&x[0], &x[1], &x[0]], dim);
        gradcheck("concat", &both, f);
        same_on_devices("concat", &both, f);
        let f = |x: &[Tensor]| Tensor::stack(&[&x[0], &x[1]], dim);
        gradcheck("stack", &both, f);
        same_on_devices("stack", &both, f);
        for mode in [PadMode::Constant(1.5), PadMode::Reflect, PadMode::Replicate] {
            let f = |x: &[Tensor]| x[0].pad(&[(0, 0), (1, b as isize - 1), (0, 0)], mode);
            gradcheck("pad", std::slice::from_ref(&turned), f);
            same_on_devices("pad", std::slice::from_ref(&turned), f);
        }
        let f = |x: &[Tensor]| x[0].pad(&[(2, -1), (-1, 3), (0, 1)], PadMode::Constant(0.5));
        gradcheck("pad", std::slice::from_ref(&x), f);
        let f = |x: &[Tensor]| x[0].flip(&[0, 2])?.roll(n as isize, dim);
        gradcheck("flip, roll", std::slice::from_ref(&turned), f);
        same_on_devices("flip, roll", std::slice::from_ref(&turned), f);
        let f = |x: &[Tensor]| x[0].repeat(&[2, 1, n, 1])?.repeat_interleave(n, -1);
        gradcheck("repeat", std::slice::from_ref(&turned), f);
        same_on_devices("repeat", std::slice::from_ref(&turned), f);
    }
}

#[test]
fn bad_input() {
    let cpu = Device::cpu();
    let (x, y) = (count(&[2, 3], &cpu), count(&[3, 2], &cpu));
    expect_error(Tensor::concat(&[], 0), &["concat", "at least one"]);
    expect_error(Tensor::concat(&[&x, &y], 0), &["concat", "[2, 3]", "[3, 2]", "dimension 0"]);
    expect_error(Tensor::concat(&[&x, &x], 2), &["concat", "dimension 2", "rank 2"]);
    let whole = Tensor::zeros(&[2, 3], DType::I32, &cpu).unwrap();
    expect_error(Tensor::concat(&[&x, &whole], 0), &["concat", "i32"]);
    expect_error(Tensor::stack(&[&x, &y], 0), &["stack", "[2, 3]", "[3, 2]"]);
    expect_error(Tensor::stack(&[&x], 3), &["stack"]);
    expect_error(x.pad(&[(0, 0)], PadMode::Constant(0.0)), &["pad", "1 pairs", "2 dimensions"]);
    expect_error(x.pad(&[(0, 0), (3, 0)], PadMode::Reflect), &["pad", "(3, 0)", "Reflect", "3 of dimension 1"]);
    expect_error(x.pad(&[(-2, -1), (0, 0)], PadMode::Replicate), &["pad", "crops more than the 2"]);
    expect_error(x.pad(&[(-2, 1), (0, 0)], PadMode::Replicate), &["pad", "Replicate"]);
    expect_error(x.pad(&[(isize::MAX, isize::MAX), (0, 0)], PadMode::Replicate), &["pad"]);
    expect_error(x.flip(&[0, -2]), &["flip", "twice"]);
    expect_error(x.roll(1, 5), &["roll", "dimension 5"]);
    expect_error(x.repeat(&[2]), &["repeat", "1 numbers", "2 dimensions"]);
    expect_error(x.repeat(&[usize::MAX, 2]), &["repeat", "too many"]);
    expect_error(x.repeat_interleave(usize::MAX, 0), &["repeat_interleave", "too many"]);
}
