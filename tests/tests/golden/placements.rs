//! Language models of every placement of norms: the same loss and gradients on the CPU and on the GPU.

use wgrad::nn::Module;
use wgrad::{Device, Tensor};
use wgrad_models::lm::Lm;
use wgrad_models::placement::{Placement, Shape};
use wgrad_tests::gpu;

const SHAPE: Shape = Shape { vocab: 13, hidden: 24, heads: 2, layers: 3, length: 7 };

/// The loss, and each parameter's name and gradient.
fn run(placement: Placement, device: &Device) -> (f64, Vec<(String, Vec<f32>)>) {
    let device = &device.with_seed(4);
    let lm = Lm::new(&SHAPE.decoder(placement), device).unwrap();
    let tokens = |shift: i32| {
        let ids = (0..2 * SHAPE.length as i32).map(|n| (n * n + 3 * n + shift) % SHAPE.vocab as i32).collect();
        Tensor::from_vec(ids, &[2, SHAPE.length], device).unwrap()
    };
    let loss = lm.loss(&tokens(0), &tokens(5)).unwrap();
    let gradients = loss.backward().unwrap();
    let read = |(name, param): (String, wgrad::nn::Param)| {
        let gradient = param.gradient(&gradients).unwrap_or_else(|| panic!("{placement}: {name} has no gradient"));
        (name, gradient.to_vec::<f32>().unwrap())
    };
    (loss.item().unwrap(), lm.named_parameters().into_iter().map(read).collect())
}

#[test]
fn devices_agree() {
    let Some(gpu) = gpu() else { return };
    for placement in Placement::ALL {
        let ((loss, gradients), (on_gpu, of_gpu)) = (run(placement, &Device::new_cpu()), run(placement, gpu));
        assert!((loss - on_gpu).abs() < 1e-4, "{placement}: loss {loss} on the CPU, {on_gpu} on the GPU");
        for ((name, cpu), (_, gpu)) in gradients.iter().zip(&of_gpu) {
            let size = cpu.iter().fold(1e-3f32, |size, v| size.max(v.abs()));
            let apart = cpu.iter().zip(gpu).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart < 1e-3 * size, "{placement}: gradients of {name} of size {size} are {apart} apart");
        }
    }
}
