//! Values as a code of few bits would hold them.

use crate::autograd::{no_grad, record};
use crate::{DType, Error, Result, Tensor};

/// See [`Tensor::fake_quantize`].
pub(crate) fn fake_quantize(x: &Tensor, bits: u32) -> Result<Tensor> {
    let op = "fake_quantize";
    x.expect_float(op)?;
    if !(2..=8).contains(&bits) {
        return Err(Error::argument(op, format!("{bits} bits, expected 2 to 8")));
    }
    if x.rank() == 0 {
        return Err(Error::shape(op, "a scalar, expected rows [.., columns]"));
    }
    let rounded = if x.elements() == 0 { x.detach() } else { no_grad(|| rounded(&x.detach(), bits))? };
    // The step follows the largest element, so none lies beyond the codes and the gradient passes everywhere.
    Ok(record(op, rounded, &[x], move |dy, _| Ok(vec![Some(dy.clone())])))
}

fn rounded(x: &Tensor, bits: u32) -> Result<Tensor> {
    let most = f64::from((1u32 << (bits - 1)) - 1);
    // A row of zeros has no step; the least number keeps its quotients from being NaN.
    let (wide, least) = match x.dtype() {
        DType::F64 => (DType::F64, f64::MIN_POSITIVE),
        _ => (DType::F32, f64::from(f32::MIN_POSITIVE)),
    };
    let wide = x.cast(wide)?;
    let step = wide.abs()?.max(&[-1], true)?.mul_scalar(most.recip())?.clamp(Some(least), None)?;
    wide.div(&step)?.round()?.mul(&step)?.cast(x.dtype())
}
