//! What is bound by memory or by the cost of a call.

use wgrad::nn::Param;
use wgrad::optim::{Adam, Group, Optimizer, Rule};
use wgrad::{DType, Device, Tensor};

use super::{Work, dtype, function, normal, with_gradients};
use crate::params::Params;
use crate::{Error, Result, check};

/// `n` elements: the sum of two tensors (`op=add`), GELU (`op=gelu`), or GELU of a sum with a row (`op=bias_gelu`).
pub fn elementwise(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let n = params.size("n", 1 << 22)?;
    let op = params.choice("op", &["add", "gelu", "bias_gelu"])?;
    let dtype = dtype(params)?;
    let width = if op == "bias_gelu" { 1024 } else { n };
    if !n.is_multiple_of(width) {
        return Err(Error::new(format!("n={n}: op=bias_gelu needs rows of {width}")));
    }
    let x = normal(&[n / width, width], dtype, device)?;
    let other = if op == "gelu" { None } else { Some(normal(&[1, width], dtype, device)?) };
    let inputs = std::iter::once(x.clone()).chain(other).collect();
    let apply = move |x: &[Tensor]| match op {
        "add" => x[0].add(&x[1]),
        "gelu" => x[0].gelu(),
        _ => x[0].add(&x[1])?.gelu(),
    };
    let planes = match (op, name.ends_with("_bwd")) {
        ("add", false) => 3.0,
        (_, false) => 2.0,
        // Forward, then dy in; the gradient of a sum is dy itself.
        ("add", true) => 4.0,
        (_, true) => 5.0,
    };
    let bytes = Some(planes * (n * dtype.size()) as f64);
    let tolerance = check::tolerance(dtype);
    if !name.ends_with("_bwd") {
        return Ok(Work { bytes, ..function(name, inputs, tolerance, move |x| Ok(vec![apply(x)?])) });
    }
    let dy = normal(x.shape(), dtype, device)?;
    let work = function(name, [vec![dy], inputs].concat(), tolerance, move |x| {
        let leaves: Vec<Tensor> = x[1..].iter().map(Tensor::requires_grad).collect();
        with_gradients(&apply(&leaves)?, &x[0], &leaves.iter().collect::<Vec<_>>())
    });
    Ok(Work { bytes, ..work })
}

/// The sum of all `n` elements (`over=all`), or the sums of the rows or columns of a square.
pub fn reduce(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let n = params.size("n", 1 << 22)?;
    let over = params.choice("over", &["all", "rows", "columns"])?;
    let dtype = dtype(params)?;
    let width = if over == "all" { n } else { (n as f64).sqrt() as usize };
    let x = normal(&[n / width, width], dtype, device)?;
    let work = function(name, vec![x], check::tolerance(dtype), move |x| {
        let dims: &[isize] = match over {
            "rows" => &[1],
            "columns" => &[0],
            _ => &[],
        };
        Ok(vec![x[0].sum(dims, false)?])
    });
    Ok(Work { bytes: Some((n * dtype.size()) as f64), ..work })
}

/// A dense copy of `n` elements: of what is dense already, of a transposed square, or with the heads of attention taken out of rows.
pub fn copy(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let n = params.size("n", 1 << 22)?;
    let dtype = dtype(params)?;
    let x = match params.choice("view", &["dense", "transpose", "heads"])? {
        "transpose" => {
            let width = (n as f64).sqrt() as usize;
            normal(&[width, width], dtype, device)?.transpose(0, 1)?
        }
        "heads" => normal(&[n.div_ceil(1 << 15), 64, 8, 64], dtype, device)?.transpose(1, 2)?,
        _ => normal(&[n], dtype, device)?,
    };
    let bytes = Some((2 * x.elements() * dtype.size()) as f64);
    Ok(Work { bytes, ..function(name, vec![x], 0.0, |x| Ok(vec![x[0].copy()?])) })
}

/// `n` elements of one value.
pub fn fill(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let n = params.size("n", 1 << 22)?;
    let none = Tensor::zeros(&[n], DType::F32, device)?;
    let work =
        function(name, vec![none], 0.0, move |x| Ok(vec![Tensor::full(1.5, &[n], x[0].dtype(), x[0].device())?]));
    Ok(Work { bytes: Some((4 * n) as f64), ..work })
}

/// `n` rows of a table `[vocab, d]`.
pub fn embedding(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let (vocab, d, n) = (params.size("vocab", 8192)?, params.size("d", 256)?, params.size("n", 4096)?);
    let dtype = dtype(params)?;
    let table = normal(&[vocab, d], dtype, device)?;
    let ids = Tensor::randint(0, vocab as i64, &[n], DType::U32, device)?;
    let tolerance = check::tolerance(dtype);
    let row = (d * dtype.size()) as f64;
    if !name.ends_with("_bwd") {
        let work = function(name, vec![table, ids], tolerance, |x| Ok(vec![x[0].embedding(&x[1], None)?]));
        return Ok(Work { bytes: Some(2.0 * n as f64 * row), ..work });
    }
    let dy = normal(&[n, d], dtype, device)?;
    let work = function(name, vec![table, ids, dy], tolerance, |x| {
        let table = x[0].requires_grad();
        with_gradients(&table.embedding(&x[1], None)?, &x[2], &[&table])
    });
    // Forward as above; backward: dy in, the whole gradient of the table out.
    Ok(Work { bytes: Some((3 * n + vocab) as f64 * row), ..work })
}

/// A step of AdamW on `n` parameters.
pub fn adamw(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let n = params.size("n", 1 << 22)?;
    let before = normal(&[n], DType::F32, device)?;
    let gradient = normal(&[n], DType::F32, device)?;
    let adam = Adam::default();
    let rate = 1e-3;
    let param = Param::new(&before.copy()?)?;
    let mut optimizer = Optimizer::new(Rule::AdamW(adam), rate, vec![Group::new(vec![("p".into(), param.clone())])])?;
    let gradients = param.tensor().mul(&gradient)?.sum_all()?.backward()?;
    let name = name.to_string();
    Ok(Work {
        flops: None,
        // Parameter, gradient and two moments in; parameter and moments out.
        bytes: Some(28.0 * n as f64),
        f32: true,
        wait: true,
        step: Box::new(move || {
            optimizer.step(&gradients)?;
            Ok(Vec::new())
        }),
        check: Box::new(move |step| {
            step()?;
            // In the first step the corrected moments are the gradient and its square.
            let first = |(p, g): (f64, f64)| p - rate * (g / (g.abs() + adam.eps) + adam.weight_decay * p);
            let want: Vec<f64> = before.to_f64_vec()?.into_iter().zip(gradient.to_f64_vec()?).map(first).collect();
            check::close(&name, &param.tensor().to_f64_vec()?, &want, 1e-5)
        }),
    })
}

/// `x + 1`, `n` times in a row on 256 elements: what an operation costs beside its arithmetic. With `wait=0` only the calls
/// and the submission are timed, not the work of the device.
pub fn dispatch(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let n = params.size("n", 1000)?;
    let wait = params.flag("wait", true)?;
    let x = Tensor::zeros(&[256], DType::F32, device)?;
    let name = name.to_string();
    Ok(Work {
        flops: None,
        bytes: None,
        f32: false,
        wait,
        step: Box::new(move || Ok(vec![(0..n).try_fold(x.clone(), |y, _| y.add_scalar(1.0))?])),
        check: Box::new(move |step| check::close(&name, &step()?[0].to_f64_vec()?, &[n.min(1 << 24) as f64; 256], 0.0)),
    })
}
