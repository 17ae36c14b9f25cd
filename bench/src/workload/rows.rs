//! What works row by row: softmax, norms, cross-entropy.

use wgrad::{CrossEntropy, DType, Device, Tensor};

use super::{Work, dtype, function, normal, with_gradients};
use crate::params::Params;
use crate::{Result, check};

/// Over rows of `d`.
pub fn softmax(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let (rows, d) = (params.size("rows", 4096)?, params.size("d", 1024)?);
    let dtype = dtype(params)?;
    let x = normal(&[rows, d], dtype, device)?;
    let work = function(name, vec![x], check::tolerance(dtype), |x| Ok(vec![x[0].softmax(-1)?]));
    Ok(Work { bytes: Some((2 * rows * d * dtype.size()) as f64), ..work })
}

/// With gain and bias; backward to all three.
pub fn layer_norm(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    norm(name, params, device, |x, gain, bias| x.layer_norm(Some(gain), Some(bias), 1e-5))
}

/// With gain; backward to both.
pub fn rms_norm(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    norm(name, params, device, |x, gain, _| x.rms_norm(Some(gain), 1e-5))
}

type Norm = fn(&Tensor, &Tensor, &Tensor) -> wgrad::Result<Tensor>;

fn norm(name: &str, params: &mut Params, device: &Device, norm: Norm) -> Result<Work> {
    let (rows, d) = (params.size("rows", 4096)?, params.size("d", 768)?);
    let dtype = dtype(params)?;
    let x = normal(&[rows, d], dtype, device)?;
    let (gain, bias) = (normal(&[d], dtype, device)?, normal(&[d], dtype, device)?);
    let inputs = vec![x, gain, bias];
    let element = (rows * d * dtype.size()) as f64;
    let tolerance = check::tolerance(dtype);
    if !name.ends_with("_bwd") {
        let work = function(name, inputs, tolerance, move |x| Ok(vec![norm(&x[0], &x[1], &x[2])?]));
        return Ok(Work { bytes: Some(2.0 * element), ..work });
    }
    let dy = normal(&[rows, d], dtype, device)?;
    let work = function(name, [inputs, vec![dy]].concat(), tolerance, move |x| {
        let [input, gain, bias] = [0, 1, 2].map(|i: usize| x[i].requires_grad());
        with_gradients(&norm(&input, &gain, &bias)?, &x[3], &[&input, &gain, &bias])
    });
    // Forward: x in, y out; backward: x and dy in, dx out.
    Ok(Work { bytes: Some(5.0 * element), ..work })
}

/// Along rows, without gain; backward to x.
pub fn l2_norm(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    norm(name, params, device, |x, _, _| x.l2_norm(-1, 1e-6))
}

/// The norm of x and a residual, with gain, and their sum; backward to all three.
pub fn add_rms_norm(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let (rows, d) = (params.size("rows", 4096)?, params.size("d", 768)?);
    let dtype = dtype(params)?;
    let matrix = || normal(&[rows, d], dtype, device);
    let mut inputs = vec![matrix()?, matrix()?, normal(&[d], dtype, device)?];
    let element = (rows * d * dtype.size()) as f64;
    let tolerance = check::tolerance(dtype);
    if !name.ends_with("_bwd") {
        let work = function(name, inputs, tolerance, |x| {
            let (y, sum) = x[0].add_rms_norm(&x[1], Some(&x[2]), 1e-5)?;
            Ok(vec![y, sum])
        });
        return Ok(Work { bytes: Some(4.0 * element), ..work });
    }
    inputs.push(matrix()?);
    let work = function(name, inputs, tolerance, |x| {
        let [input, residual, gain] = [0, 1, 2].map(|i: usize| x[i].requires_grad());
        let (y, _) = input.add_rms_norm(&residual, Some(&gain), 1e-5)?;
        with_gradients(&y, &x[3], &[&input, &residual, &gain])
    });
    // Forward: x and the residual in, y and the sum out; backward: the sum and dy in, dx out.
    Ok(Work { bytes: Some(7.0 * element), ..work })
}

/// Logits `[rows, vocab]` against class numbers, mean loss.
pub fn cross_entropy(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let (rows, vocab) = (params.size("rows", 1024)?, params.size("vocab", 8192)?);
    let dtype = dtype(params)?;
    let logits = normal(&[rows, vocab], dtype, device)?;
    let targets = Tensor::randint(0, vocab as i64, &[rows], DType::U32, device)?;
    let element = (rows * vocab * dtype.size()) as f64;
    let backward = name.ends_with("_bwd");
    let work = function(name, vec![logits, targets], check::tolerance(dtype), move |x| {
        if !backward {
            return Ok(vec![x[0].cross_entropy(&x[1], &CrossEntropy::default())?]);
        }
        let logits = x[0].requires_grad();
        let loss = logits.cross_entropy(&x[1], &CrossEntropy::default())?;
        let gradient = loss.backward()?.take(&logits);
        Ok([Some(loss), gradient].into_iter().flatten().collect())
    });
    Ok(Work { bytes: Some(if backward { 3.0 } else { 1.0 } * element), ..work })
}
