//! Convolutions.

use wgrad::{Conv, Device, Tensor};

use super::{Work, dtype, function, normal, with_gradients};
use crate::params::Params;
use crate::{Result, check};

/// `b` sequences of `l` frames of `c` channels through a kernel of `k` taps, in `groups` parts (as many as channels: depthwise, as a Conformer's); `_bwd` has
/// the gradients of both too.
pub fn conv1d(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let (b, c, l) = (params.size("b", 8)?, params.size("c", 256)?, params.size("l", 512)?);
    let (k, groups) = (params.size("k", 31)?, params.size("groups", c)?);
    let dtype = dtype(params)?;
    let x = normal(&[b, c, l], dtype, device)?;
    let weight = normal(&[c, c / groups, k], dtype, device)?;
    let options = Conv { padding: [k / 2], groups, ..Conv::default() };
    let (backward, tolerance) = (name.ends_with("_bwd"), 10.0 * check::tolerance(dtype));
    let run = move |x: &Tensor, weight: &Tensor| x.conv1d(weight, None, &options);
    let products = 2.0 * (b * c * l * k * (c / groups)) as f64;
    if !backward {
        let work = function(name, vec![x, weight], tolerance, move |x| Ok(vec![run(&x[0], &x[1])?]));
        return Ok(Work { flops: Some(products), ..work });
    }
    let dy = normal(run(&x, &weight)?.shape(), dtype, device)?;
    let work = function(name, vec![x, weight, dy], tolerance, move |x| {
        let (input, weight) = (x[0].requires_grad(), x[1].requires_grad());
        with_gradients(&run(&input, &weight)?, &x[2], &[&input, &weight])
    });
    Ok(Work { flops: Some(3.0 * products), ..work })
}
