//! Products with a packed 2:4 matrix, which is read as it lies and expanded tile by tile in workgroup memory.

use std::sync::Arc;

use super::params::Params;
use super::table::{MatmulFamily, Plan, choose, forced};
use super::{Operands, aligned, launch, readable, units};
use crate::device::gpu::Gpu;
use crate::kernels::window;
use crate::layout::Dims;
use crate::ops::matmul::{Finish, Output};
use crate::sparse24::BLOCK;
use crate::{DType, Result, Tensor};

/// A packed matrix w `[rows, columns]`, or its transpose, as the right operand of a product.
pub(crate) struct Packed<'a> {
    /// `[rows, 16 blocks]`, beginning with a whole four.
    pub values: &'a Tensor,
    /// `[rows, blocks]`.
    pub meta: &'a Tensor,
    pub transposed: bool,
}

/// `x w` or `x w^T` with `n` columns, finished; `None` if a binding cannot hold an operand.
pub(crate) fn packed_product(
    gpu: &Arc<Gpu>,
    op: &'static str,
    x: &Tensor,
    b: &Packed,
    n: usize,
    finish: Finish,
) -> Result<Option<Tensor>> {
    let (m, dtype, device) = (x.shape()[0], x.dtype(), x.device());
    let shape = Dims::new(op, &[m, n])?;
    let mut inputs = vec![readable(x)?, b.values.clone(), b.meta.clone()];
    for x in [finish.bias, finish.residual].into_iter().flatten() {
        inputs.push(aligned(x)?);
    }
    let Some(seen) = window::windows(gpu, &inputs, &[(shape, DType::F32)]) else { return Ok(None) };
    let bias = finish.bias.and(seen.get(3));
    let residual = finish.residual.and(seen.last());
    let finish = Finish { bias, residual, ..finish };
    let [x, values, meta, ..] = &seen[..] else { return Ok(None) };
    // Indices are those of the dense matrix.
    let dense = meta.elements().saturating_mul(BLOCK).saturating_add(2 * values.layout().offset);
    if u32::try_from(dense).is_err() {
        return Ok(None);
    }
    let params = Params::of_packed(op, x, &Packed { values, meta, ..*b }, n, &finish)?;
    let halves = dtype == DType::F16 && values.dtype() == DType::F16;
    let plan = forced(&params)
        .unwrap_or_else(|| choose(gpu.caps(), &params, halves, |family| units::usable(gpu, device, family)));
    let output = Output { y: Tensor::gpu_uninit(op, shape, dtype, device)?, z: None };
    launch(gpu, &Operands { op, a: x, b: values, words: Some(meta), finish }, params, tiled(plan), &output)?;
    Ok(Some(output.y))
}

/// The plan, with kernels that know packed matrices.
fn tiled(plan: Plan) -> Plan {
    let family = if plan.family.takes_packed() { plan.family } else { MatmulFamily::Small };
    Plan { family, swapped: false, ..plan }
}
