//! Matrix units (cooperative matrices): drivers differ in what they make of them, so a device's are tested once before they are used.

use std::sync::Arc;

use super::table::{MatmulFamily, force_matmul};
use crate::autograd::no_grad;
use crate::device::gpu::Gpu;
use crate::{Device, Result, Tensor};

/// Whether the matrix units of this device exist and compute what the naive kernel computes.
pub(super) fn usable(gpu: &Arc<Gpu>, device: &Device) -> bool {
    MatmulFamily::Coop.runs_on(gpu.caps())
        && *gpu.matrix_units.get_or_init(|| {
            let verdict = no_grad(|| test(gpu, device));
            match &verdict {
                Ok(true) => log::info!("{device}: matrix units passed their test"),
                Ok(false) => log::warn!("{device}: matrix units compute wrong products and are not used"),
                Err(why) => log::warn!("{device}: matrix units are not used, their test failed: {why}"),
            }
            matches!(verdict, Ok(true))
        })
}

/// Small integers, whose products both kernels sum exactly: loops of several steps, edges, all ways the operands may lie.
fn test(gpu: &Gpu, device: &Device) -> Result<bool> {
    let values = |shape: &[usize], salt: usize| {
        let value = |i: usize| half::f16::from_f32(((i * 37 + salt * 11 + i / 7) % 13) as f32 - 6.0);
        Tensor::from_vec((0..shape.iter().product()).map(value).collect(), shape, device)
    };
    for (m, n, k) in [(128, 192, 160), (67, 130, 45)] {
        for flips in 0..4 {
            let side = |flip: bool, rows: usize, columns: usize, salt| match flip {
                true => values(&[columns, rows], salt)?.transpose(0, 1),
                false => values(&[rows, columns], salt),
            };
            let (a, b) = (side(flips & 1 == 1, m, k, 1)?, side(flips & 2 == 2, k, n, 2)?);
            let by = |family| force_matmul(family, 1, || a.matmul(&b)?.to_f64_vec());
            let right = by(MatmulFamily::Naive)?;
            for family in [MatmulFamily::Coop, MatmulFamily::CoopLarge] {
                if family.runs_on(gpu.caps()) && by(family)? != right {
                    log::warn!("{device}: {family:?} kernels compute wrong products");
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}
