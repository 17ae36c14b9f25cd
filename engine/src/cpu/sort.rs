//! Sorting in plain Rust.

use half::{bf16, f16};

use super::index::Number;
use super::parallel::fill_rows;
use crate::storage::CpuData;
use crate::{Dims, Error, Result, Tensor};

/// For each row of `[rows, n]`, the indices of its first `k` elements in order, `[rows, k]`. Equal elements stay in order.
pub(crate) fn order(op: &'static str, x: &Tensor, n: usize, k: usize, descending: bool) -> Result<Tensor> {
    match x.cpu_data(op)? {
        CpuData::F32(_) => order_typed::<f32>(op, x, n, k, descending),
        CpuData::F64(_) => order_typed::<f64>(op, x, n, k, descending),
        CpuData::F16(_) => order_typed::<f16>(op, x, n, k, descending),
        CpuData::BF16(_) => order_typed::<bf16>(op, x, n, k, descending),
        CpuData::I32(_) => order_typed::<i32>(op, x, n, k, descending),
        CpuData::U32(_) => order_typed::<u32>(op, x, n, k, descending),
        CpuData::Bool(_) => Err(Error::DType { op, got: x.dtype(), expected: "a dtype that can be sorted" }),
    }
}

fn order_typed<T: Number>(op: &'static str, x: &Tensor, n: usize, k: usize, descending: bool) -> Result<Tensor> {
    let values = x.cpu_slice::<T>(op)?;
    let rows = values.len().checked_div(n).unwrap_or(0);
    let out = fill_rows(rows, k, |row, out: &mut [u32]| {
        let row = &values[row * n..(row + 1) * n];
        let mut order: Vec<u32> = (0..n as u32).collect();
        let key = |&i: &u32| (key(row[i as usize].to_f64(), descending), i);
        if k < n {
            order.select_nth_unstable_by_key(k, key);
            order.truncate(k);
        }
        order.sort_unstable_by_key(key);
        out.copy_from_slice(&order);
    });
    Tensor::from_cpu(op, out, Dims::new(op, &[rows, k])?, x.device())
}

/// A number that orders as the float does: NaN above all, both zeros equal.
pub(crate) fn key(value: f64, descending: bool) -> u64 {
    let bits = if value == 0.0 { 0 } else { value.to_bits() };
    let key = match (value.is_nan(), bits >> 63) {
        (true, _) => u64::MAX,
        (false, 0) => bits | 1 << 63,
        _ => !bits,
    };
    if descending { !key } else { key }
}
