//! Gradients against central differences.

use wgrad::{DType, Device, Result, Tensor, autograd, no_grad};

use crate::input::{cotangent, operands, tensor};
use crate::{Input, Random, Tolerance, compare};

/// Elements of one input whose derivative is checked; of larger inputs a random choice.
const CHECKED: usize = 40;

/// Checks the gradients of `f` with respect to every differentiable input, in f64 on the CPU device, in the middle of a graph:
/// the loss is `1.7 * sum(w * f(inputs))` with random weights `w`, the inputs may be views, and `f` gets gradients that are not
/// contiguous.
#[track_caller]
pub fn gradcheck(op: &str, inputs: &[Input], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    gradcheck_within(1.0, op, inputs, f);
}

/// As [`gradcheck`], with tolerances `slack` times as wide as usual: where an approximation or a strong curvature needs it.
#[track_caller]
pub fn gradcheck_within(slack: f64, op: &str, inputs: &[Input], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    if let Err(message) = check(slack, inputs, &f) {
        panic!("{op}: {message}");
    }
}

fn check(slack: f64, inputs: &[Input], f: &dyn Fn(&[Tensor]) -> Result<Tensor>) -> std::result::Result<(), String> {
    let say = |e: wgrad::Error| e.to_string();
    let cpu = Device::cpu();
    let leaves: Vec<Tensor> = inputs.iter().map(|i| i.stored(&cpu, DType::F64)).collect::<Result<_>>().map_err(say)?;
    let out = f(&operands(inputs, &leaves).map_err(say)?).map_err(say)?;
    if out.dtype() != DType::F64 {
        return Err(format!("f64 inputs gave {}", out.dtype()));
    }
    let weights = cotangent(out.shape(), DType::F64, &cpu, 7).map_err(say)?;
    let gradients = autograd::backward(&[(&out, weights.clone())], &[], false).map_err(say)?;
    let weights = weights.to_f64_vec().map_err(say)?;
    let mut random = Random::new(11);
    for (at, (input, leaf)) in inputs.iter().zip(&leaves).enumerate().filter(|(_, (i, _))| i.differentiable) {
        let Some(gradient) = gradients.get(leaf) else { return Err(format!("input {at} has no gradient")) };
        if gradient.shape() != leaf.shape() {
            return Err(format!("input {at} of shape {:?} has a gradient of {:?}", leaf.shape(), gradient.shape()));
        }
        let gradient = gradient.to_f64_vec().map_err(say)?;
        let mut elements: Vec<usize> = (0..gradient.len()).collect();
        random.shuffle(&mut elements);
        elements.truncate(CHECKED);
        let loss_at = |element: usize, value: f64| -> Result<f64> {
            let mut values = input.values.clone();
            values[element] = value;
            let mut moved = leaves.clone();
            moved[at] = tensor(&values, &input.shape, DType::F64, &cpu)?;
            let out = no_grad(|| f(&operands(inputs, &moved)?))?.to_f64_vec()?;
            Ok(out.iter().zip(&weights).map(|(y, w)| y * w).sum())
        };
        let mut numeric = Vec::with_capacity(elements.len());
        for &element in &elements {
            let (x, h) = (input.values[element], 1e-5 * input.values[element].abs().max(0.1));
            let rise = loss_at(element, x + h).map_err(say)? - loss_at(element, x - h).map_err(say)?;
            numeric.push(rise / ((x + h) - (x - h)));
        }
        let analytic: Vec<f64> = elements.iter().map(|&i| gradient[i]).collect();
        let largest = numeric.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        let tolerance = Tolerance { atol: 1e-6 * largest.max(1e-1), rtol: 1e-5 }.times(slack);
        compare(&analytic, &numeric, tolerance)
            .map_err(|e| format!("gradient of input {at} (elements {elements:?}) against central differences: {e}"))?;
    }
    Ok(())
}
