//! Products with packed 2:4 matrices, and with rows of few weights.

use std::cell::Cell;
use std::rc::Rc;

use wgrad::{DType, Device, Sparse24, Sparse24Form, SparseRows, Tensor, force_sparse24};

use super::{Work, compare, dtype, normal, with_gradients};
use crate::params::Params;
use crate::{Result, check};

/// A matrix `[m, k]`, of which two of every four weights are kept, times `n` vectors. `form=auto` as the library chooses,
/// `packed` or `expanded`, or `dense`: the product with the dense matrix. `rotate=R` takes R matrices in turn, so that no cache holds the one
/// that comes next. `_bwd` has the gradients of the vectors too, and, unless `weights=frozen`, of the weights; `weights=transposed` are frozen
/// ones with their packed transposes beside them.
pub fn sparse24(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let (m, n, k) = (params.size("m", 4096)?, params.size("n", 1)?, params.size("k", 4096)?);
    let dtype = dtype(params)?;
    let form = params.choice("form", &["auto", "packed", "tiled", "expanded", "dense"])?;
    let backward = name.ends_with("_bwd");
    let (rotate, weights) =
        (params.size("rotate", 1)?, params.choice("weights", &["trained", "frozen", "transposed"])?);
    let trained = backward && weights == "trained";
    let x = normal(&[n, k], dtype, device)?;
    let dy = normal(&[n, m], dtype, device)?;
    let matrix = |_| -> wgrad::Result<Sparse24> {
        let weight = normal(&[m, k], dtype, device)?;
        match weights {
            "transposed" => Sparse24::from_mask(&weight, &weight.abs()?.transposable_mask()?)?.with_transpose(),
            _ => Sparse24::magnitude(&weight),
        }
    };
    let packed: Vec<Sparse24> = (0..rotate).map(matrix).collect::<wgrad::Result<_>>()?;
    let dense = if form == "dense" { &packed[..] } else { &[] };
    let dense: Vec<Tensor> = dense.iter().map(Sparse24::to_dense).collect::<wgrad::Result<_>>()?;
    let (name, bytes) = (name.to_string(), if form == "dense" { m * k * dtype.size() } else { packed[0].bytes() });
    // Weights that are kept, and how often they are used.
    let products =
        if form == "dense" { m * k } else { m * k / 2 } as f64 * f64::from(u8::from(trained) + u8::from(backward) + 1);
    // The number of the matrix that was multiplied by last.
    let last = Rc::new(Cell::new(0));
    let given = (x.clone(), dy.clone(), packed.clone(), last.clone());
    let run = move || -> wgrad::Result<Vec<Tensor>> {
        let (x, dy, packed, last) = &given;
        last.set((last.get() + 1) % rotate);
        let at = last.get();
        let x = if backward { x.requires_grad() } else { x.clone() };
        let (y, leaf) = if form == "dense" {
            let weight = if trained { dense[at].requires_grad() } else { dense[at].clone() };
            (x.linear(&weight, None)?, weight)
        } else if !trained {
            (x.linear_sparse24(&packed[at], None)?, packed[at].values().clone())
        } else {
            let values = packed[at].values().requires_grad();
            (x.linear_sparse24(&packed[at].with_values(&values)?, None)?, values)
        };
        match (backward, trained) {
            (true, true) => with_gradients(&y, dy, &[&x, &leaf]),
            (true, false) => with_gradients(&y, dy, &[&x]),
            _ => Ok(vec![y]),
        }
    };
    let step = move || match form {
        "packed" => force_sparse24(Sparse24Form::Packed, &run),
        "tiled" => force_sparse24(Sparse24Form::Tiled, &run),
        "expanded" => force_sparse24(Sparse24Form::Expanded, &run),
        _ => run(),
    };
    Ok(Work {
        flops: Some(2.0 * n as f64 * products),
        bytes: Some(
            bytes as f64 * f64::from(u8::from(trained) + u8::from(backward) + 1) + ((m + k) * n * dtype.size()) as f64,
        ),
        f32: dtype == DType::F32,
        wait: true,
        step: Box::new(move || Ok(step()?)),
        check: Box::new(move |step| {
            let mut got = step()?;
            let weight = packed[last.get()].to_dense()?;
            let [x, dy, weight] = [&x, &dy, &weight].map(check::to_reference);
            let (x, weight) = (x?.requires_grad(), weight?.requires_grad());
            let y = x.linear(&weight, None)?;
            let mut want = vec![y.detach()];
            if backward {
                want = with_gradients(&y, &dy?, &[&x, &weight][..if trained { 2 } else { 1 }])?;
                if form != "dense" && trained {
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

/// A matrix `[m, k]` that keeps a share of its weights at random places, listed by rows, times `n` vectors; `form=dense` is the product with the
/// dense matrix.
pub fn sparse_rows(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let (m, n, k) = (params.size("m", 4096)?, params.size("n", 1)?, params.size("k", 4096)?);
    let (density, dtype) = (params.fraction("density", 0.2)?, dtype(params)?);
    let form = params.choice("form", &["sparse", "dense"])?;
    let x = normal(&[n, k], dtype, device)?;
    let kept = Tensor::uniform(0.0, 1.0, &[m, k], DType::F32, device)?;
    let kept = kept.lt(&Tensor::scalar(density, DType::F32, device)?)?;
    let zero = Tensor::scalar(0.0, dtype, device)?;
    let weight = Tensor::where_cond(&kept, &normal(&[m, k], dtype, device)?, &zero)?;
    let sparse = SparseRows::from_dense(&weight)?;
    let (name, products) = (name.to_string(), if form == "dense" { m * k } else { sparse.values().elements() });
    let bytes = if form == "dense" { m * k * dtype.size() } else { sparse.bytes() };
    let given = (x.clone(), weight.clone());
    Ok(Work {
        flops: Some(2.0 * (n * products) as f64),
        bytes: Some((bytes + (m + k) * n * dtype.size()) as f64),
        f32: dtype == DType::F32,
        wait: true,
        step: Box::new(move || {
            let (x, weight) = &given;
            Ok(vec![if form == "dense" { x.linear(weight, None)? } else { x.linear_sparse_rows(&sparse, None)? }])
        }),
        check: Box::new(move |step| {
            let want = check::to_reference(&x)?.linear(&check::to_reference(&weight)?, None)?;
            compare(&name, &step()?, &[want], 10.0 * check::tolerance(dtype))
        }),
    })
}
