//! Matrix units (cooperative matrices): drivers differ in what they make of them, so a device's are tested once before they are used.

use std::sync::Arc;

use super::table::{MatmulFamily, force_matmul};
use crate::autograd::no_grad;
use crate::device::gpu::Gpu;
use crate::ops::sparse24::{Sparse24Form, force_sparse24};
use crate::{Device, Result, Sparse24, Tensor};

/// Whether this device has what a family on matrix units needs, and computes with it what the naive kernel computes.
pub(super) fn usable(gpu: &Arc<Gpu>, device: &Device, family: MatmulFamily) -> bool {
    let families = [MatmulFamily::Coop, MatmulFamily::CoopLarge];
    let passed =
        gpu.matrix_units.products.get_or_init(|| no_grad(|| families.map(|family| passes(gpu, device, family))));
    families.into_iter().zip(passed).any(|(of, &passed)| of == family && passed)
}

fn passes(gpu: &Gpu, device: &Device, family: MatmulFamily) -> bool {
    if !family.runs_on(gpu.caps()) {
        return false;
    }
    let verdict = test(device, family);
    match &verdict {
        Ok(true) => log::info!("{device}: matrix units passed their test ({family:?})"),
        Ok(false) => log::warn!("{device}: matrix units compute wrong products ({family:?}) and are not used for them"),
        Err(why) => log::warn!("{device}: matrix units are not used, their test failed ({family:?}): {why}"),
    }
    matches!(verdict, Ok(true))
}

/// Small integers, whose products both kernels sum exactly: loops of several steps, edges, all ways the operands may lie, and packed ones.
fn test(device: &Device, family: MatmulFamily) -> Result<bool> {
    let values = |shape: &[usize], salt: usize| {
        let value = |i: usize| half::f16::from_f32(((i * 37 + salt * 11 + i / 7) % 13) as f32 - 6.0);
        Tensor::from_vec((0..shape.iter().product()).map(value).collect(), shape, device)
    };
    let naive = |a: &Tensor, b: &Tensor| force_matmul(MatmulFamily::Naive, 1, || a.matmul(b)?.to_f64_vec());
    for (m, n, k) in [(128, 192, 160), (67, 130, 45)] {
        for flips in 0..4 {
            let side = |flip: bool, rows: usize, columns: usize, salt| match flip {
                true => values(&[columns, rows], salt)?.transpose(0, 1),
                false => values(&[rows, columns], salt),
            };
            let (a, b) = (side(flips & 1 == 1, m, k, 1)?, side(flips & 2 == 2, k, n, 2)?);
            if force_matmul(family, 1, || a.matmul(&b)?.to_f64_vec())? != naive(&a, &b)? {
                return Ok(false);
            }
        }
        let (a, packed) = (values(&[m, k], 3)?, Sparse24::magnitude(&values(&[n, k], 4)?)?);
        let tiled = || a.linear_sparse24(&packed, None)?.to_f64_vec();
        let got = force_sparse24(Sparse24Form::Tiled, || force_matmul(family, 1, tiled))?;
        if got != naive(&a, &packed.to_dense()?.transpose(0, 1)?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test itself passes kernels that are right: others stand in where there are no matrix units.
    #[test]
    fn right_kernels_pass() {
        if std::env::var("WGRAD_SKIP_GPU").is_ok_and(|v| v == "1") {
            eprintln!("skipped: WGRAD_SKIP_GPU=1");
            return;
        }
        let device = Device::software().expect("a Vulkan software driver such as Mesa's llvmpipe");
        for family in [MatmulFamily::Small, MatmulFamily::Medium] {
            assert!(no_grad(|| test(&device, family)).unwrap(), "{family:?}");
        }
    }
}
