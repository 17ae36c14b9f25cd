//! Masks of groups of parameters, chosen by scores.

use crate::cpu::prune as cpu;
use crate::device::Kind;
use crate::kernels::{prune as kernels, window};
use crate::layout::Dims;
use crate::ops::join::{PadMode, pad};
use crate::{DType, Error, Result, Tensor};

/// The largest group: each element is compared with all others of its group.
const MOST: usize = 1024;

pub(crate) fn n_of_m_mask(scores: &Tensor, n: usize, m: usize) -> Result<Tensor> {
    let op = "n_of_m_mask";
    if scores.dtype() == DType::Bool {
        return Err(Error::DType { op, got: scores.dtype(), expected: "scores, of a dtype that has an order" });
    }
    if !(1..=MOST).contains(&m) || n > m {
        return Err(Error::argument(op, format!("{n} of {m}: expected n of m, with m from 1 to {MOST} and n up to m")));
    }
    let columns = scores.size(-1).map_err(|_| Error::Dim { op, dim: -1, rank: scores.rank() })?;
    scores.device().expect_room(op, scores.elements(), DType::Bool)?;
    if scores.elements() == 0 {
        return Tensor::zeros(scores.shape(), DType::Bool, scores.device());
    }
    let rows = Dims::new(op, &[scores.elements() / columns, columns])?;
    let scores_of_rows = window::shaped(op, &scores.detach().contiguous()?, &rows)?;
    let mask = match scores.device().kind() {
        Kind::Cpu(_) => cpu::n_of_m(op, &scores_of_rows, n, m)?,
        Kind::Gpu(_) => {
            window::piecewise(op, &[&scores_of_rows], (rows, DType::Bool), 1, &|x| kernels::n_of_m(op, &x[0], n, m))?
        }
    };
    window::shaped(op, &mask, scores.shape())
}

pub(crate) fn transposable_mask(scores: &Tensor) -> Result<Tensor> {
    let op = "transposable_mask";
    scores.expect_float(op)?;
    let &[ref lead @ .., rows, columns] = scores.shape() else {
        let message = format!("scores of shape {:?}, expected [.., rows, columns]", scores.shape());
        return Err(Error::shape(op, message));
    };
    scores.device().expect_room(op, scores.elements(), DType::Bool)?;
    if scores.elements() == 0 {
        return Tensor::zeros(scores.shape(), DType::Bool, scores.device());
    }
    if !rows.is_multiple_of(4) {
        // Whole strips of tiles follow each other then.
        let mut pads = vec![(0, 0); scores.rank()];
        pads[lead.len()].1 = (4 - rows % 4) as isize;
        let padded = pad(&scores.detach(), &pads, PadMode::Constant(0.0))?;
        return transposable_mask(&padded)?.narrow(-2, 0, rows)?.contiguous();
    }
    let shape = Dims::new(op, &[lead.iter().product::<usize>() * rows / 4, 4, columns])?;
    let strips = window::shaped(op, &scores.detach().contiguous()?, &shape)?;
    let mask = match scores.device().kind() {
        Kind::Cpu(_) if scores.dtype().is_half() => cpu::transposable(op, &strips.cast(DType::F32)?)?,
        Kind::Cpu(_) => cpu::transposable(op, &strips)?,
        Kind::Gpu(_) => {
            window::piecewise(op, &[&strips], (shape, DType::Bool), 1, &|x| kernels::transposable(op, &x[0]))?
        }
    };
    window::shaped(op, &mask, scores.shape())
}
