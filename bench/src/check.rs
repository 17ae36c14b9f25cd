//! Comparing results with a reference.

use wgrad::{DType, Device, Tensor};

use crate::{Error, Result};

/// Errs unless each of `got` is within `tolerance * (|want| + rms(want))` of `want`.
///
/// # Errors
/// Names the place that is furthest off.
pub fn close(what: &str, got: &[f64], want: &[f64], tolerance: f64) -> Result<()> {
    if got.len() != want.len() {
        return Err(Error::new(format!("{what}: {} results, the reference has {}", got.len(), want.len())));
    }
    let rms = (want.iter().map(|w| w * w).sum::<f64>() / want.len().max(1) as f64).sqrt();
    // How far each is off, infinitely if it is no number.
    let excess = |(g, w): (&f64, &f64)| {
        let off = (g - w).abs();
        if off <= tolerance * (w.abs() + rms) {
            0.0
        } else if off.is_nan() {
            f64::INFINITY
        } else {
            off
        }
    };
    let all = got.iter().zip(want).map(excess).enumerate();
    match all.max_by(|(_, a), (_, b)| a.total_cmp(b)) {
        Some((i, off)) if off > 0.0 => Err(Error::new(format!(
            "{what}: wrong result: element {i} is {}, the reference says {} (rms {rms:.3e})",
            got[i], want[i]
        ))),
        _ => Ok(()),
    }
}

/// As [`close`], for tensors of one shape on any devices.
///
/// # Errors
/// If the shapes differ, or as [`close`].
pub fn close_tensors(what: &str, got: &Tensor, want: &Tensor, tolerance: f64) -> Result<()> {
    if got.shape() != want.shape() {
        let message = format!("{what}: shape {:?}, the reference has {:?}", got.shape(), want.shape());
        return Err(Error::new(message));
    }
    close(what, &got.to_f64_vec()?, &want.to_f64_vec()?, tolerance)
}

/// The tensor on the CPU device, floats as f64.
///
/// # Errors
/// If it cannot be read.
pub fn to_reference(x: &Tensor) -> Result<Tensor> {
    let x = x.to_device(&Device::cpu())?;
    Ok(if x.dtype().is_float() { x.cast(DType::F64)? } else { x })
}

/// How far results of this dtype may be off.
pub fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 5e-3,
        DType::BF16 => 3e-2,
        _ => 2e-4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_passes_and_far_is_named() {
        assert!(close("x", &[1.0, 2.0], &[1.00001, 2.0], 1e-4).is_ok());
        assert!(close("x", &[0.0; 3], &[0.0; 3], 0.0).is_ok());
        assert!(close("x", &[], &[], 0.0).is_ok());
        let text = close("softmax", &[1.0, 2.5, 3.1], &[1.0, 2.0, 3.0], 1e-4).unwrap_err().to_string();
        assert!(text.contains("softmax") && text.contains("element 1 is 2.5"), "{text}");
        assert!(close("x", &[1.0], &[1.0, 2.0], 1.0).is_err());
        for bad in [f64::NAN, f64::INFINITY] {
            assert!(close("x", &[1.0, bad], &[1.0, 1.0], 1.0).is_err());
        }
    }

    #[test]
    fn a_copy_must_be_exact() {
        assert!(close("copy", &[1.0, 2.0], &[1.0, 2.0 + 1e-12], 0.0).is_err());
    }
}
