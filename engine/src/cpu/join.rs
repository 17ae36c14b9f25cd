//! Joining in plain Rust.

use super::by_dtype;
use super::parallel::fill_rows;
use crate::layout::Dims;
use crate::{Element, Result, Tensor};

/// Joins contiguous parts seen as `[outer, width of the part]` to `[outer, sum of the widths]`.
pub(crate) fn concat(
    op: &'static str,
    parts: &[Tensor],
    widths: &[usize],
    outer: usize,
    shape: Dims,
) -> Result<Tensor> {
    fn run<T: Element>(
        op: &'static str,
        parts: &[Tensor],
        widths: &[usize],
        outer: usize,
        shape: Dims,
    ) -> Result<Tensor> {
        let slices: Vec<&[T]> = parts.iter().map(|part| part.cpu_slice::<T>(op)).collect::<Result<_>>()?;
        let fill = |row: usize, out: &mut [T]| {
            let mut rest = out;
            for (slice, &width) in slices.iter().zip(widths) {
                if let Some(part) = rest.split_off_mut(..width) {
                    part.copy_from_slice(&slice[row * width..(row + 1) * width]);
                }
            }
        };
        let out = fill_rows(outer, widths.iter().sum(), fill);
        Tensor::from_cpu(op, out, shape, parts[0].device())
    }
    by_dtype!(parts[0].dtype(), T => run::<T>(op, parts, widths, outer, shape))
}
