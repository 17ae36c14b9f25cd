//! Gated linear units.

use proptest::prelude::*;
use wgrad::{Activation, DType, Device, Result, Tensor, reference};
use wgrad_tests::{Input, assert_close, each_device, expect_error, gradcheck, same_on_devices_within, strategy};

const GATES: [Activation; 5] =
    [Activation::Sigmoid, Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu];

fn close(a: Result<Tensor>, b: Result<Tensor>) {
    let (a, b) = (a.unwrap().to_f64_vec().unwrap(), b.unwrap().to_f64_vec().unwrap());
    assert_close("against primitives", &a, &b, 2e-6, 1e-5);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn of_two_tensors(shape in strategy::shape(1..=3), which in 0..5usize, seed in any::<u64>()) {
        let gate = GATES[which];
        // Away from the corner of relu.
        let draw = |seed| strategy::view_of(&shape, &|shape, seed| Input::distinct(0.01, shape, seed), seed);
        let inputs = [draw(seed), draw(seed ^ 1)];
        gradcheck("gated", &inputs, |x| x[0].gated(&x[1], gate));
        same_on_devices_within(2.0, "gated", &inputs, |x| x[0].gated(&x[1], gate));
        each_device(|device| {
            let x: Vec<Tensor> = inputs.iter().map(|i| i.operand(&i.stored(device, DType::F32).unwrap()).unwrap()).collect();
            close(x[0].gated(&x[1], gate), reference::gated(&x[0], &x[1], gate));
        });
    }

    #[test]
    fn of_halves(shape in strategy::shape(1..=3), dim in 0..3usize, which in 0..5usize, seed in any::<u64>()) {
        let (gate, dim) = (GATES[which], dim % shape.len());
        let mut shape = shape;
        shape[dim] *= 2;
        let half = shape[dim] / 2;
        let input = [strategy::view_of(&shape, &|shape, seed| Input::distinct(0.01, shape, seed), seed)];
        let dim = dim as isize;
        gradcheck("gate_up", &input, |x| x[0].gate_up(dim, gate));
        gradcheck("glu", &input, |x| x[0].glu(dim));
        same_on_devices_within(2.0, "gate_up", &input, |x| x[0].gate_up(dim, gate));
        same_on_devices_within(2.0, "glu", &input, |x| x[0].glu(dim));
        each_device(|device| {
            let x = input[0].operand(&input[0].stored(device, DType::F32).unwrap()).unwrap();
            let (first, second) = (x.narrow(dim, 0, half).unwrap(), x.narrow(dim, half, half).unwrap());
            close(x.gate_up(dim, gate), reference::gated(&first, &second, gate));
            close(x.glu(dim), reference::gated(&second, &first, Activation::Sigmoid));
        });
    }
}

#[test]
fn nothing_and_bad_input() {
    let cpu = Device::cpu();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &cpu).unwrap();
    assert_eq!(zeros(&[0, 4]).gate_up(1, Activation::Silu).unwrap().shape(), &[0, 2]);
    let x = zeros(&[3, 0]).requires_grad();
    let gradients = x.gate_up(1, Activation::Silu).unwrap().sum_all().unwrap().backward().unwrap();
    assert_eq!(gradients.get(&x).unwrap().shape(), &[3, 0]);
    expect_error(zeros(&[3]).gate_up(0, Activation::Relu), &["gate_up", "3", "halves"]);
    expect_error(zeros(&[3]).gated(&zeros(&[4]), Activation::Relu), &["gated", "[3]", "[4]"]);
    expect_error(Tensor::zeros(&[2], DType::I32, &cpu).unwrap().glu(0), &["glu", "i32", "float"]);
}
