//! The harness itself: its checks have to fail where they should.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use wgrad::autograd::{Function, Saved, apply};
use wgrad::{DType, Device, Error, Result, Tensor};
use wgrad_tests::{Input, Random, Tolerance, assert_close, compare, expect_error, gradcheck, strategy};

/// The message with which `f` panics.
fn panic_of(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("this had to panic");
    payload.downcast_ref::<String>().cloned().unwrap_or_default()
}

/// Triples its input; its backward claims another factor.
struct Triple {
    claimed: f64,
}

fn scaled(x: &Tensor, factor: f64) -> Result<Tensor> {
    let values = x.to_vec::<f64>()?.iter().map(|v| v * factor).collect();
    Tensor::from_vec(values, x.shape(), x.device())
}

impl Function for Triple {
    fn name(&self) -> &'static str {
        "triple"
    }

    fn forward(&self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Saved)> {
        Ok((vec![scaled(&inputs[0], 3.0)?], Saved::new()))
    }

    fn backward(
        &self,
        _: &[Tensor],
        _: &[Tensor],
        _: &Saved,
        grads: &[Option<Tensor>],
        _: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![grads[0].as_ref().map(|dy| scaled(dy, self.claimed)).transpose()?])
    }
}

#[test]
fn gradcheck_tells_right_from_wrong() {
    let check = |claimed: f64| {
        let triple = Arc::new(Triple { claimed });
        gradcheck("triple", &[Input::normal(&[3, 4], 1)], move |x| Ok(apply(&triple, &[&x[0]])?.swap_remove(0)));
    };
    check(3.0);
    let message = panic_of(|| check(3.001));
    assert!(message.starts_with("triple: gradient of input 0"), "{message}");
    let message = panic_of(|| gradcheck("cut", &[Input::normal(&[2], 1)], |x| Ok(x[0].detach())));
    assert!(message.starts_with("cut:"), "{message}");
}

#[test]
fn comparisons_name_the_worst_element() {
    let tolerance = Tolerance { atol: 0.1, rtol: 0.0 };
    assert!(compare(&[1.0, 2.0], &[1.05, 2.0], tolerance).is_ok());
    assert!(compare(&[1.0, f64::NAN], &[1.0, f64::NAN], tolerance).is_ok());
    for wrong in [f64::NAN, f64::INFINITY, 2.5] {
        let message = compare(&[1.2, wrong], &[1.0, 2.0], tolerance).unwrap_err();
        assert!(message.contains("2 of 2") && message.contains("element 1"), "{message}");
    }
    assert!(compare(&[1.0], &[f64::NAN], tolerance).is_err());
    assert!(compare(&[1.0], &[1.0, 1.0], tolerance).is_err());
    let message = panic_of(|| assert_close("op", &[1.0], &[2.0], 0.0, 0.1));
    assert!(message.starts_with("op: 1 of 1"), "{message}");
}

#[test]
fn errors_have_to_say_what_is_asked() {
    let error = || -> Result<()> { Err(Error::shape("matmul", "got [2, 3]")) };
    expect_error(error(), &["matmul", "[2, 3]"]);
    assert!(panic_of(|| drop(expect_error(error(), &["[4]"]))).contains("[4]"));
    assert!(panic_of(|| drop(expect_error(Ok(()), &["matmul"]))).contains("got a result"));
}

#[test]
fn views_have_the_shape_that_was_asked_for() {
    let mut random = Random::new(5);
    let mut strided = 0;
    for _ in 0..200 {
        let shape: Vec<usize> = (0..random.below(5)).map(|_| random.below(4)).collect();
        let input = strategy::view_of(&shape, &Input::normal, random.bits());
        let stored = input.stored(&Device::cpu(), DType::F32).unwrap();
        let operand = input.operand(&stored).unwrap();
        assert_eq!(operand.shape(), shape);
        strided += usize::from(!operand.is_contiguous());
    }
    assert!(strided > 30, "only {strided} of 200 are strided");
}
