//! Norms of channels: group, instance and batch norm on the fused norm of rows, and weights by length and direction.

use crate::ops::norm::{NormKind, NormOptions, norm};
use crate::{Error, Result, Tensor};

/// Batch, channels, and the elements of a channel; checks the parameters.
fn sizes(op: &'static str, x: &Tensor, parameters: &[(&str, Option<&Tensor>)]) -> Result<[isize; 3]> {
    x.expect_float(op)?;
    let &[n, channels, ref rest @ ..] = x.shape() else {
        return Err(Error::shape(op, format!("shape {:?}, expected [batch, channels, ..]", x.shape())));
    };
    for (name, parameter) in parameters {
        let Some(parameter) = parameter else { continue };
        x.expect_like(op, parameter)?;
        if parameter.shape() != [channels] {
            let shape = parameter.shape();
            return Err(Error::shape(op, format!("{name} of shape {shape:?}, expected [{channels}]")));
        }
    }
    Ok([n as isize, channels as isize, rest.iter().product::<usize>() as isize])
}

fn shape_of(x: &Tensor) -> Vec<isize> {
    x.shape().iter().map(|&n| n as isize).collect()
}

/// `x weight + bias` by channels, of `[batch, channels, elements]`.
fn affine(x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Result<Tensor> {
    let mut y = x.clone();
    if let Some(weight) = weight {
        y = y.mul(&weight.unsqueeze(1)?)?;
    }
    match bias {
        Some(bias) => y.add(&bias.unsqueeze(1)?),
        None => Ok(y),
    }
}

/// See [`Tensor::group_norm`].
pub(crate) fn group_norm(
    op: &'static str,
    x: &Tensor,
    groups: Option<usize>,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let [n, channels, rest] = sizes(op, x, &[("weight", weight), ("bias", bias)])?;
    let groups = groups.unwrap_or(channels as usize);
    if groups == 0 && channels > 0 || !(channels as usize).is_multiple_of(groups.max(1)) {
        return Err(Error::argument(op, format!("{groups} groups do not divide {channels} channels")));
    }
    let groups = groups.max(1) as isize;
    let rows = x.reshape(&[n * groups, channels / groups * rest])?;
    let y = norm(op, &rows, &NormOptions::new(NormKind::Layer, eps))?.reshape(&[n, channels, rest])?;
    affine(&y, weight, bias)?.reshape(&shape_of(x))
}

/// See [`Tensor::batch_norm`].
pub(crate) fn batch_norm(x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    let op = "batch_norm";
    let [n, channels, rest] = sizes(op, x, &[("weight", weight), ("bias", bias)])?;
    if n * rest == 1 {
        return Err(Error::shape(op, format!("shape {:?} has one element for each channel, expected more", x.shape())));
    }
    let rows = x.reshape(&[n, channels, rest])?.transpose(0, 1)?.reshape(&[channels, n * rest])?;
    let y = norm(op, &rows, &NormOptions::new(NormKind::Layer, eps))?.reshape(&[channels, n, rest])?.transpose(0, 1)?;
    affine(&y, weight, bias)?.reshape(&shape_of(x))
}

/// See [`Tensor::batch_norm_by`].
pub(crate) fn batch_norm_by(
    x: &Tensor,
    mean: &Tensor,
    var: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let op = "batch_norm_by";
    let parameters = [("mean", Some(mean)), ("variance", Some(var)), ("weight", weight), ("bias", bias)];
    let [n, channels, rest] = sizes(op, x, &parameters)?;
    let scale = var.add_scalar(eps)?.rsqrt()?;
    let y = x.reshape(&[n, channels, rest])?.sub(&mean.unsqueeze(1)?)?;
    let scale = match weight {
        Some(weight) => scale.mul(weight)?,
        None => scale,
    };
    affine(&y, Some(&scale), bias)?.reshape(&shape_of(x))
}

/// See [`Tensor::batch_statistics`].
pub(crate) fn batch_statistics(x: &Tensor) -> Result<(Tensor, Tensor)> {
    sizes("batch_statistics", x, &[])?;
    let dims: Vec<isize> = (0..x.rank() as isize).filter(|&d| d != 1).collect();
    Ok((x.mean(&dims, false)?, x.var(&dims, 1.0, false)?))
}

/// See [`Tensor::normalize`].
pub(crate) fn normalize(x: &Tensor, p: f64, dim: isize, eps: f64) -> Result<Tensor> {
    let op = "normalize";
    if !eps.is_finite() || eps < 0.0 {
        return Err(Error::argument(op, format!("eps is {eps}, expected a number that is not negative")));
    }
    x.dim(op, dim)?;
    x.div(&x.norm(p, &[dim], true)?.clamp(Some(eps), None)?)
}

/// See [`Tensor::weight_norm`].
pub(crate) fn weight_norm(v: &Tensor, g: &Tensor, dim: isize) -> Result<Tensor> {
    let op = "weight_norm";
    v.expect_float(op)?;
    v.expect_like(op, g)?;
    let d = v.dim(op, dim)?;
    let mut shape = vec![1; v.rank()];
    shape[d] = v.shape()[d];
    if g.shape() != shape {
        let (g, v) = (g.shape(), v.shape());
        return Err(Error::shape(
            op,
            format!("lengths of shape {g:?} for directions of shape {v:?}, expected {shape:?}"),
        ));
    }
    let others: Vec<isize> = (0..v.rank() as isize).filter(|&i| i != d as isize).collect();
    let length = if others.is_empty() { v.abs()? } else { v.norm(2.0, &others, true)? };
    v.mul(&g.div(&length)?)
}
