//! The graph itself: accumulation, detaching, release, user functions, checkpoints, kernels of the user.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wgrad::autograd::{Function, Saved, apply, backward};
use wgrad::{DType, Device, Kernel, Result, Tensor, checkpoint, no_grad};
use wgrad_tests::{assert_close, each_device, expect_error, gpu};

fn leaf(values: &[f32], device: &Device) -> Tensor {
    Tensor::from_slice(values, &[values.len()], device).unwrap().requires_grad()
}

#[test]
fn gradients_of_a_tensor_used_twice_add_up() {
    each_device(|device| {
        let x = leaf(&[1.0, -2.0, 3.0], device);
        let loss = x.mul(&x).unwrap().add(&x).unwrap().sum_all().unwrap();
        let grads = loss.backward().unwrap();
        assert_close("x^2 + x", &grads.get(&x).unwrap().to_f64_vec().unwrap(), &[3.0, -3.0, 7.0], 1e-6, 0.0);
    });
}

#[test]
fn detach_and_no_grad_cut_and_say_so() {
    each_device(|device| {
        let x = leaf(&[2.0], device);
        let cut = x.detach().mul(&x).unwrap().sum_all().unwrap();
        assert_eq!(cut.backward().unwrap().get(&x).unwrap().item().unwrap(), 2.0);
        let untracked = no_grad(|| x.mul(&x)).unwrap().sum_all().unwrap();
        assert!(!untracked.is_tracked());
        expect_error(untracked.backward(), &["backward", "requires_grad"]);
        let two = leaf(&[1.0, 2.0], device);
        expect_error(two.mul(&two).unwrap().backward(), &["scalar", "[2]"]);
    });
}

#[test]
fn a_graph_is_released_unless_retained() {
    let device = Device::cpu();
    let x = leaf(&[3.0], &device);
    let loss = x.mul(&x).unwrap().sum_all().unwrap();
    let seed = || loss.ones_like().unwrap();
    let kept = backward(&[(&loss, seed())], &[], true).unwrap();
    let again = loss.backward().unwrap();
    assert_eq!(kept.get(&x).unwrap().item().unwrap(), again.get(&x).unwrap().item().unwrap());
    expect_error(loss.backward(), &["released"]);
}

#[test]
fn inner_gradients_on_request_and_several_roots() {
    each_device(|device| {
        let x = leaf(&[1.0, 2.0], device);
        let h = x.mul(&x).unwrap();
        let (a, b) = (h.sum_all().unwrap(), h.mul(&x).unwrap().sum_all().unwrap());
        let one = || a.ones_like().unwrap();
        let grads = backward(&[(&a, one()), (&b, one())], &[&h], false).unwrap();
        assert_close("dh", &grads.get(&h).unwrap().to_f64_vec().unwrap(), &[2.0, 3.0], 1e-6, 0.0);
        // d(x^2 + x^3)
        assert_close("dx", &grads.get(&x).unwrap().to_f64_vec().unwrap(), &[5.0, 16.0], 1e-6, 0.0);
        let wrong = Tensor::zeros(&[2], DType::F32, device).unwrap();
        expect_error(backward(&[(&b, wrong)], &[], true), &["shape", "[2]"]);
    });
}

#[test]
fn gradients_accumulate_over_passes() {
    let device = Device::cpu();
    let x = leaf(&[1.0, 2.0], &device);
    let pass = || x.mul(&x).unwrap().sum_all().unwrap().backward().unwrap();
    let mut sum = pass();
    sum.accumulate(pass()).unwrap();
    assert_close("two passes", &sum.get(&x).unwrap().to_f64_vec().unwrap(), &[4.0, 8.0], 0.0, 0.0);
}

#[test]
fn a_chain_of_a_hundred_thousand_operations_neither_overflows_the_stack_nor_leaks() {
    let device = Device::cpu();
    let x = leaf(&[1.0], &device);
    let chain = |n: usize| (0..n).fold(x.clone(), |y, _| y.add(&x).unwrap()).sum_all().unwrap();
    assert_eq!(chain(100_000).backward().unwrap().get(&x).unwrap().item().unwrap(), 100_001.0);
    drop(chain(100_000));
}

/// y = a * b, with its own backward, that counts how often it runs.
#[derive(Default)]
struct Product {
    backwards: AtomicUsize,
}

impl Function for Product {
    fn name(&self) -> &'static str {
        "product"
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(vec![inputs[0].mul(&inputs[1])?])
    }

    fn backward(
        &self,
        inputs: &[Tensor],
        _: &[Tensor],
        _: &Saved,
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        self.backwards.fetch_add(1, Ordering::Relaxed);
        let Some(dy) = &grads[0] else { return Ok(vec![None, None]) };
        let times = |x: &Tensor, need: bool| need.then(|| dy.mul(x)).transpose();
        Ok(vec![times(&inputs[1], needs[0])?, times(&inputs[0], needs[1])?])
    }
}

/// Two outputs by reference alone.
struct SquareAndCube;

impl Function for SquareAndCube {
    fn name(&self) -> &'static str {
        "square_and_cube"
    }

    fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let square = inputs[0].mul(&inputs[0])?;
        Ok(vec![square.clone(), square.mul(&inputs[0])?])
    }
}

/// Forward only.
struct Opaque;

impl Function for Opaque {
    fn name(&self) -> &'static str {
        "opaque"
    }

    fn forward(&self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Saved)> {
        Ok((vec![inputs[0].exp()?], vec![]))
    }
}

#[test]
fn functions_of_the_user() {
    each_device(|device| {
        let (a, b) = (leaf(&[1.0, 2.0], device), leaf(&[3.0, -4.0], device));
        let product = Arc::new(Product::default());
        let y = apply(&product, &[&a, &b]).unwrap().remove(0);
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert_close("da", &grads.get(&a).unwrap().to_f64_vec().unwrap(), &[3.0, -4.0], 0.0, 0.0);
        assert_close("db", &grads.get(&b).unwrap().to_f64_vec().unwrap(), &[1.0, 2.0], 0.0, 0.0);
        assert_eq!(product.backwards.load(Ordering::Relaxed), 1);

        let outputs = apply(&Arc::new(SquareAndCube), &[&a]).unwrap();
        let loss = outputs[0].add(&outputs[1]).unwrap().sum_all().unwrap();
        let grads = loss.backward().unwrap();
        assert_close("2x + 3x^2", &grads.get(&a).unwrap().to_f64_vec().unwrap(), &[5.0, 16.0], 1e-6, 0.0);
        // Only one output takes part.
        let outputs = apply(&Arc::new(SquareAndCube), &[&a]).unwrap();
        let grads = outputs[1].sum_all().unwrap().backward().unwrap();
        assert_close("3x^2", &grads.get(&a).unwrap().to_f64_vec().unwrap(), &[3.0, 12.0], 1e-6, 0.0);
    });
}

#[test]
fn a_function_without_backward_is_an_error_not_a_cut() {
    let a = leaf(&[1.0], &Device::cpu());
    let y = apply(&Arc::new(Opaque), &[&a]).unwrap().remove(0);
    assert!(y.is_tracked());
    expect_error(y.sum_all().unwrap().backward(), &["opaque", "no backward"]);
    // Nobody asks: no error.
    assert!(!apply(&Arc::new(Opaque), &[&a.detach()]).unwrap()[0].is_tracked());
}

#[test]
fn a_reference_that_captures_a_tracked_tensor_is_refused() {
    struct Captures(Tensor);
    impl Function for Captures {
        fn name(&self) -> &'static str {
            "captures"
        }
        fn reference(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
            Ok(vec![inputs[0].mul(&self.0)?])
        }
    }
    let (a, b) = (leaf(&[1.0], &Device::cpu()), leaf(&[2.0], &Device::cpu()));
    let y = apply(&Arc::new(Captures(b)), &[&a]).unwrap().remove(0);
    expect_error(y.sum_all().unwrap().backward(), &["captured", "input"]);
}

#[test]
fn checkpoints_compute_again_and_give_the_same_gradients() {
    each_device(|device| {
        let (x, w) = (leaf(&[0.5, -1.0, 2.0], device), leaf(&[1.5, 0.25, -0.75], device));
        let runs = Arc::new(AtomicUsize::new(0));
        let (weight, count) = (w.clone(), runs.clone());
        let f = move |inputs: &[Tensor]| {
            count.fetch_add(1, Ordering::Relaxed);
            // Dropout must be replayed, and the captured weight must get its gradient.
            Ok(vec![inputs[0].mul(&weight)?.tanh()?.dropout(0.5)?])
        };
        device.set_seed(11);
        let plain = f(std::slice::from_ref(&x)).unwrap().remove(0).sum_all().unwrap();
        let want = plain.backward().unwrap();
        device.set_seed(11);
        let state_before = device.rng_state();
        let saved = checkpoint(f, &[&x]).unwrap().remove(0).sum_all().unwrap();
        assert_ne!(device.rng_state(), state_before);
        let after_forward = device.rng_state();
        let got = saved.backward().unwrap();
        assert_eq!(device.rng_state(), after_forward);
        assert_eq!(runs.load(Ordering::Relaxed), 3);
        for t in [&x, &w] {
            let (got, want) = (got.get(t).unwrap().to_f64_vec().unwrap(), want.get(t).unwrap().to_f64_vec().unwrap());
            assert_eq!(got, want);
        }
    });
}

#[test]
fn a_checkpoint_with_only_captured_parameters_is_tracked() {
    let device = Device::cpu();
    let w = leaf(&[2.0], &device);
    let weight = w.clone();
    let x = Tensor::from_slice(&[3.0f32], &[1], &device).unwrap();
    let y = checkpoint(move |inputs| Ok(vec![inputs[0].mul(&weight)?]), &[&x]).unwrap().remove(0);
    assert_eq!(y.sum_all().unwrap().backward().unwrap().get(&w).unwrap().item().unwrap(), 3.0);
    let plain = checkpoint(|inputs| Ok(vec![inputs[0].exp()?]), &[&x]).unwrap().remove(0);
    assert!(!plain.is_tracked());
}

const SHIFT: &str = "
struct Params { shift: f32, n: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let i = (wg.x + wg.y * nwg.x) * 64u + local;
    if (i < p.n) { y[i] = x[i] + p.shift; }
}";

#[test]
fn kernels_of_the_user() {
    let kernel = Kernel::new("shift", SHIFT);
    let params = |shift: f32, n: u32| [shift.to_le_bytes(), n.to_le_bytes()].concat();
    let host = Tensor::from_slice(&[1.0f32], &[1], &Device::cpu()).unwrap();
    expect_error(kernel.run(&[&host], &[(&[1], DType::F32)], &params(1.0, 1), 1), &["CPU"]);
    let Some(device) = gpu() else { return };
    let x = Tensor::arange(0, 200, DType::F32, device).unwrap();
    // A strided view is made dense first.
    let view = x.slice(0, 1, 200, 2).unwrap();
    let y = kernel.run(&[&view], &[(&[100], DType::F32)], &params(0.5, 100), 2).unwrap().remove(0);
    let want: Vec<f64> = (0..100).map(|i| f64::from(2 * i + 1) + 0.5).collect();
    assert_close("shift", &y.to_f64_vec().unwrap(), &want, 0.0, 0.0);
    let tracked = kernel.run(&[&x.requires_grad()], &[(&[200], DType::F32)], &params(0.0, 200), 4).unwrap().remove(0);
    expect_error(tracked.sum_all().unwrap().backward(), &["no backward"]);
    let broken = Kernel::new("broken", "fn main() { nonsense }");
    let failed = broken.run(&[&x], &[(&[200], DType::F32)], &[], 1);
    expect_error(failed, &["broken"]);
    assert_eq!(x.narrow(0, 7, 1).unwrap().item().unwrap(), 7.0);
}
