//! How the kernels with `shaders/common/strided.wgsl` find the elements of their operands, four neighbours at a time.

use super::size;
use crate::kernels::divisor::divisors;
use crate::layout::{Layout, collapse};
use crate::{Error, Result};

/// How an operand is read; the numbers are those of the shader.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(u32)]
pub(super) enum Access {
    Dense = 0,
    Scalar = 1,
    Four = 2,
    Splat = 3,
    Gather = 4,
}

impl Access {
    /// Of an operand with these strides over the merged shape.
    pub fn of(shape: &[usize], strides: &[usize], offset: usize) -> Self {
        let mut row_major = 1;
        let dense = shape.iter().zip(strides).rev().all(|(&size, &stride)| {
            let fits = stride == row_major;
            row_major *= size;
            fits
        });
        let fours = |n: &usize| n.is_multiple_of(4);
        match (shape, strides) {
            _ if strides.iter().all(|&stride| stride == 0) => Access::Scalar,
            _ if dense && fours(&offset) => Access::Dense,
            ([.., row], [outer @ .., 1]) if fours(row) && fours(&offset) && outer.iter().all(fours) => Access::Four,
            ([.., row], [.., 0]) if fours(row) => Access::Splat,
            _ => Access::Gather,
        }
    }

    /// As an override constant.
    pub fn constant(self) -> f64 {
        f64::from(self as u32)
    }
}

/// Views of one shape as a kernel sees them.
pub(super) struct Views<const N: usize> {
    pub shape: [u32; 4],
    pub magic: [u32; 4],
    pub shifts: u32,
    pub strides: [[u32; 4]; N],
    /// In fours where the access is dense.
    pub offsets: [u32; N],
    pub access: [Access; N],
    /// Whether more than two dimensions are in use, as an override constant.
    pub deep: f64,
}

impl<const N: usize> Views<N> {
    /// None if more than four dimensions are left after merging.
    pub fn of(op: &'static str, layouts: [Layout; N]) -> Result<Option<Self>> {
        let (merged, strides) = collapse(&layouts);
        if merged.len() > 4 {
            return Ok(None);
        }
        let mut views = Views {
            shape: to_four(op, &merged, 1)?,
            magic: [0; 4],
            shifts: 0,
            strides: [[0; 4]; N],
            offsets: [0; N],
            access: [Access::Dense; N],
            deep: 0.0,
        };
        (views.magic, views.shifts) = divisors(views.shape);
        for (i, (strides, layout)) in strides.iter().zip(&layouts).enumerate() {
            views.strides[i] = to_four(op, strides, 0)?;
            views.access[i] = Access::of(&merged, strides, layout.offset);
            let dense = views.access[i] == Access::Dense;
            views.offsets[i] = size(op, if dense { layout.offset / 4 } else { layout.offset })?;
        }
        // Where nothing is found by coordinates, the number of dimensions makes no other kernel.
        let by_coordinates = |access: &Access| !matches!(access, Access::Dense | Access::Scalar);
        views.deep = super::flag(merged.len() > 2 && views.access.iter().any(by_coordinates));
        Ok(Some(views))
    }
}

/// Up to four sizes or strides, at the end; `fill` before them.
pub(super) fn to_four(op: &'static str, values: &[usize], fill: u32) -> Result<[u32; 4]> {
    let mut out = [fill; 4];
    let start = 4usize.checked_sub(values.len()).ok_or_else(|| Error::shape(op, "more than four dimensions"))?;
    for (to, &value) in out[start..].iter_mut().zip(values) {
        *to = size(op, value)?;
    }
    Ok(out)
}
