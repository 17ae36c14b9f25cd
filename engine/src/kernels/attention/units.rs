//! Attention on matrix units (cooperative matrices): drivers differ in what they make of them, so a device's are tested once before they are used.

use std::cell::Cell;

use super::{Call, Variant};
use crate::autograd::with_recording;
use crate::device::gpu::Gpu;
use crate::mask::steps::Side;
use crate::ops::attention::Plan;
use crate::{AttentionOptions, DType, Device, Mask, Result, Tensor};

/// For halves, heads of at most 128 and what no list of keys narrows.
pub(super) const UNITS: Variant = Variant {
    forward: "attention/forward_units",
    query: "attention/dq_units",
    key_value: "attention/dkv_units",
    rows: 64,
};
/// Fours of a head.
const WIDEST: usize = 32;
/// Rows below which most of a workgroup would be idle.
const FEW_ROWS: usize = 32;

thread_local! {
    static FORCED: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Runs `f` with or without matrix units in all attention of this thread that they can compute. For tests and benchmarks.
pub fn force_attention_units<R>(units: bool, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<bool>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    let _restore = Restore(FORCED.replace(Some(units)));
    f()
}

/// Whether a kernel binds its operands as halves, rather than words of two.
pub(super) fn reads_halves(kernel: &str) -> bool {
    [UNITS.forward, UNITS.query, UNITS.key_value].contains(&kernel)
}

/// Fours of elements of the widest operand, as the kernels want it.
pub(super) fn width(call: &Call) -> (&'static str, f64) {
    ("WIDTH", call.d4.max(call.dv4).min(WIDEST) as f64)
}

/// Whether matrix units compute an attention, for operands with so many fours of columns, all of halves or not.
pub(super) fn fit(gpu: &Gpu, call: &Call, plan: &Plan, side: Side, fours: usize, halves: bool) -> bool {
    let (rows, block) = match side {
        Side::Query => (plan.pairs.queries, plan.blocks.map(|layout| layout.query_block)),
        Side::Key => (plan.pairs.keys, plan.blocks.map(|layout| layout.key_block)),
    };
    let able = gpu.caps().coop
        && gpu.caps().max_workgroup_memory >= 32 << 10
        && halves
        && fours <= WIDEST
        && plan.lists.is_none()
        && block.is_none_or(|block| block.is_multiple_of(UNITS.rows));
    able && FORCED.get().unwrap_or_else(|| rows >= FEW_ROWS && passed(gpu, call.query.device()))
}

fn passed(gpu: &Gpu, device: &Device) -> bool {
    *gpu.matrix_units.attention.get_or_init(|| {
        let verdict =
            [40, 128].into_iter().try_fold(true, |right, width| -> Result<bool> { Ok(right && test(device, width)?) });
        match &verdict {
            Ok(true) => log::info!("{device}: matrix units passed their test (attention)"),
            Ok(false) => log::warn!("{device}: matrix units compute wrong attention and are not used for it"),
            Err(why) => log::warn!("{device}: matrix units are not used, their test failed (attention): {why}"),
        }
        matches!(verdict, Ok(true))
    })
}

/// Results and gradients of a small attention with edges, against the kernels without matrix units. The last keys score highest, so that sums are
/// scaled more than once.
fn test(device: &Device, width: usize) -> Result<bool> {
    let values = |heads: usize, length: usize, salt: usize, growth: f32| {
        let value = |i: usize| {
            let unit = ((i * 37 + salt * 11 + i / 7) % 29) as f32 / 14.0 - 1.0;
            half::f16::from_f32(unit + growth * (i / width % length) as f32 / length as f32)
        };
        let shape = [1, heads, length, width];
        Tensor::from_vec((0..heads * length * width).map(value).collect(), &shape, device)
    };
    let inputs = [values(2, 100, 1, 0.5)?, values(1, 90, 2, 2.0)?, values(1, 90, 3, 0.0)?];
    let weights = values(2, 100, 4, 0.0)?;
    let options = AttentionOptions { mask: Mask::causal(30), ..AttentionOptions::default() };
    let run = |units: bool| {
        force_attention_units(units, || -> Result<Vec<Vec<f64>>> {
            with_recording(true, || {
                let x = inputs.each_ref().map(|x| x.detach().requires_grad());
                let y = x[0].attention(&x[1], &x[2], &options)?;
                let gradients = y.mul(&weights)?.cast(DType::F32)?.sum_all()?.backward()?;
                let all = x.iter().filter_map(|x| gradients.get(x)).chain([&y]);
                all.map(Tensor::to_f64_vec).collect()
            })
        })
    };
    let (got, want) = (run(true)?, run(false)?);
    Ok(got.iter().zip(&want).all(|(got, want)| {
        let size = want.iter().fold(0.0, |size: f64, x| size.max(x.abs()));
        // Weights and their gradients are rounded to halves: 2^-11 each, and there are some tens.
        got.len() == want.len() && got.iter().zip(want).all(|(a, b)| (a - b).abs() <= 0.01 * size)
    }))
}
