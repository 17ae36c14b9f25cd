//! Fourier transforms.

use wgrad::{FftNorm, Result, Tensor};

use crate::args::{Args, Op, Outputs, out};
use crate::fixture::Fallible;

pub fn find(op: &str) -> Option<Op> {
    let op: Op = match op {
        "fft" => |a| both(a.t("re")?.fft(a.t("im")?, FftNorm::Backward)),
        "ifft" => |a| both(a.t("re")?.ifft(a.t("im")?, FftNorm::Backward)),
        "rfft" => |a| both(a.t("x")?.rfft(a.get("n")?, norm(a)?)),
        "irfft" => |a| out(a.t("re")?.irfft(a.t("im")?, a.get("n")?, norm(a)?)),
        _ => return None,
    };
    Some(op)
}

fn both(parts: Result<(Tensor, Tensor)>) -> Fallible<Outputs> {
    let (re, im) = parts?;
    Ok(vec![("re".into(), re), ("im".into(), im)])
}

fn norm(a: &Args) -> Fallible<FftNorm> {
    match a.get::<String>("norm")?.as_str() {
        "backward" => Ok(FftNorm::Backward),
        "ortho" => Ok(FftNorm::Ortho),
        "forward" => Ok(FftNorm::Forward),
        other => Err(format!("norm {other}").into()),
    }
}
