//! The same computation on two devices.

use wgrad::{DType, Device, Result, Tensor, autograd};

use crate::input::{cotangent, operands};
use crate::{Input, Tolerance, compare, gpu, portable_gpu};

/// Checks that values and gradients of `f` are the same on the CPU device and on the GPU, in f32 (with all features of the GPU,
/// and with only those of every browser), f16 and bf16, and that no kernel wrote beyond a buffer.
#[track_caller]
pub fn same_on_devices(op: &str, inputs: &[Input], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    same_on_devices_within(1.0, op, inputs, f);
}

/// As [`same_on_devices`], with tolerances `slack` times as wide as usual: where long sums or the approximations of a GPU's
/// transcendental functions need it.
#[track_caller]
pub fn same_on_devices_within(slack: f64, op: &str, inputs: &[Input], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    same_on_devices_in(&[DType::F32, DType::F16, DType::BF16], slack, op, inputs, f);
}

/// As [`same_on_devices_within`], in some dtypes alone.
#[track_caller]
pub fn same_on_devices_in(
    dtypes: &[DType],
    slack: f64,
    op: &str,
    inputs: &[Input],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    compared(dtypes, slack, 0.0, op, inputs, f);
}

/// As [`same_on_devices`], where values and gradients may be what is left of terms whose sizes sum up to `terms`.
#[track_caller]
pub fn same_on_devices_of_terms(terms: f64, op: &str, inputs: &[Input], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    compared(&[DType::F32, DType::F16, DType::BF16], 1.0, terms, op, inputs, f);
}

#[track_caller]
fn compared(
    dtypes: &[DType],
    slack: f64,
    terms: f64,
    op: &str,
    inputs: &[Input],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let (Some(gpu), Some(portable)) = (gpu(), portable_gpu()) else { return };
    for &dtype in dtypes {
        let want = run(inputs, dtype, &Device::cpu(), &f).unwrap_or_else(|e| panic!("{op}, {dtype} on cpu: {e}"));
        let mut others = vec![(gpu, "gpu")];
        if dtype == DType::F32 {
            others.push((portable, "gpu with a browser's limits"));
        }
        for (device, name) in others {
            let got = run(inputs, dtype, device, &f).unwrap_or_else(|e| panic!("{op}, {dtype} on {name}: {e}"));
            for (g, w) in got.iter().zip(&want) {
                let at = format!("{op}, {dtype}, {} on {name} against cpu", w.what);
                assert_eq!((&g.shape, g.dtype), (&w.shape, w.dtype), "{at}");
                // A gradient may be what is left of terms as large as the weights of the loss, which are about 1.
                let floor = if w.what.starts_with("gradient") { terms.max(1.0) } else { terms };
                let largest = w.values.iter().fold(floor, |m: f64, v| m.max(v.abs()));
                let exact = Tolerance { atol: 0.0, rtol: 0.0 };
                let tolerance = if w.dtype.is_float() { Tolerance::of(dtype, largest).times(slack) } else { exact };
                if let Err(message) = compare(&g.values, &w.values, tolerance) {
                    panic!("{at}, shape {:?}: {message}", w.shape);
                }
            }
            device.check_guards().unwrap_or_else(|damage| panic!("{op}, {dtype} on {name}: {damage}"));
        }
    }
}

struct Outcome {
    what: String,
    shape: Vec<usize>,
    dtype: DType,
    values: Vec<f64>,
}

/// The output and the gradient of every differentiable input.
fn run(
    inputs: &[Input],
    float: DType,
    device: &Device,
    f: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<Vec<Outcome>> {
    let outcome = |what: String, t: &Tensor| -> Result<Outcome> {
        Ok(Outcome { what, shape: t.shape().to_vec(), dtype: t.dtype(), values: t.to_f64_vec()? })
    };
    let leaves: Vec<Tensor> = inputs.iter().map(|i| i.stored(device, float)).collect::<Result<_>>()?;
    let out = f(&operands(inputs, &leaves)?)?;
    let mut outcomes = vec![outcome("output".into(), &out)?];
    if out.is_tracked() {
        let weights = cotangent(out.shape(), out.dtype(), device, 7)?;
        let gradients = autograd::backward(&[(&out, weights)], &[], false)?;
        for (at, (_, leaf)) in inputs.iter().zip(&leaves).enumerate().filter(|(_, (i, _))| i.differentiable) {
            let missing = || wgrad::Error::Autograd { message: format!("input {at} has no gradient") };
            outcomes.push(outcome(format!("gradient of input {at}"), gradients.get(leaf).ok_or_else(missing)?)?);
        }
    }
    Ok(outcomes)
}
