//! Products with packed 2:4 matrices.

use wgrad::{DType, Device, Sparse24, Sparse24Form, Tensor, force_sparse24};

use super::{Work, compare, dtype, normal, with_gradients};
use crate::params::Params;
use crate::{Result, check};

/// A matrix `[m, k]`, of which two of every four weights are kept, times `n` vectors. `form=auto` as the library chooses,
/// `packed` or `expanded`, or `dense`: the product with the dense matrix. `_bwd` has the gradients of the vectors and of the
/// weights too.
pub fn sparse24(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let (m, n, k) = (params.size("m", 4096)?, params.size("n", 1)?, params.size("k", 4096)?);
    let dtype = dtype(params)?;
    let form = params.choice("form", &["auto", "packed", "expanded", "dense"])?;
    let backward = name.ends_with("_bwd");
    let x = normal(&[n, k], dtype, device)?;
    let dy = normal(&[n, m], dtype, device)?;
    let packed = Sparse24::magnitude(&normal(&[m, k], dtype, device)?)?;
    let weight = packed.to_dense()?;
    let (name, bytes) = (name.to_string(), if form == "dense" { m * k * dtype.size() } else { packed.bytes() });
    // Weights that are kept, and how often they are used.
    let products = if form == "dense" { m * k } else { m * k / 2 } as f64 * if backward { 3.0 } else { 1.0 };
    let given = (x.clone(), dy.clone(), weight.clone());
    let run = move || -> wgrad::Result<Vec<Tensor>> {
        let (x, dy, weight) = &given;
        let x = if backward { x.requires_grad() } else { x.clone() };
        let (y, leaf) = if form == "dense" {
            let weight = if backward { weight.requires_grad() } else { weight.clone() };
            (x.linear(&weight, None)?, weight)
        } else {
            let values = if backward { packed.values().requires_grad() } else { packed.values().clone() };
            (x.linear_sparse24(&packed.with_values(&values)?, None)?, values)
        };
        if backward { with_gradients(&y, dy, &[&x, &leaf]) } else { Ok(vec![y]) }
    };
    let step = move || match form {
        "packed" => force_sparse24(Sparse24Form::Packed, &run),
        "expanded" => force_sparse24(Sparse24Form::Expanded, &run),
        _ => run(),
    };
    Ok(Work {
        flops: Some(2.0 * n as f64 * products),
        bytes: Some(if backward { 3 * bytes } else { bytes } as f64 + ((m + k) * n * dtype.size()) as f64),
        f32: dtype == DType::F32,
        wait: true,
        step: Box::new(move || Ok(step()?)),
        check: Box::new(move |step| {
            let mut got = step()?;
            let [x, dy, weight] = [&x, &dy, &weight].map(check::to_reference);
            let (x, weight) = (x?.requires_grad(), weight?.requires_grad());
            let y = x.linear(&weight, None)?;
            let mut want = vec![y.detach()];
            if backward {
                want = with_gradients(&y, &dy?, &[&x, &weight])?;
                if form != "dense" {
                    // What is kept of the gradient of the dense matrix.
                    let kept = weight.detach().ne(&Tensor::scalar(0.0, weight.dtype(), weight.device())?)?;
                    want[2] = Sparse24::from_mask(&want[2], &kept)?.values().clone();
                    got[2] = got[2].detach();
                }
            }
            compare(&name, &got, &want, 10.0 * check::tolerance(dtype))
        }),
    })
}
