//! How long keys stay among the best, in plain Rust.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use half::{bf16, f16};

use super::index::Number;
use super::parallel::fill_rows;
use crate::{DType, Result, Tensor};

/// Of contiguous scores `[rows, cols]`.
pub(crate) fn kept_until(op: &'static str, x: &Tensor, rows: usize, cols: usize, window: usize) -> Result<Tensor> {
    match x.dtype() {
        DType::F64 => typed::<f64>(op, x, rows, cols, window),
        DType::F16 => typed::<f16>(op, x, rows, cols, window),
        DType::BF16 => typed::<bf16>(op, x, rows, cols, window),
        _ => typed::<f32>(op, x, rows, cols, window),
    }
}

/// A score and its place: the larger score is greater, and of equal ones the later.
#[derive(PartialEq)]
struct Ranked(f64, usize);

impl Eq for Ranked {}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.partial_cmp(&other.0).unwrap_or(Ordering::Equal).then(self.1.cmp(&other.1))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn typed<T: Number>(op: &'static str, x: &Tensor, rows: usize, cols: usize, window: usize) -> Result<Tensor> {
    let values = x.cpu_slice::<T>(op)?;
    let until = fill_rows(rows, cols, |row, until: &mut [i32]| {
        until.fill(cols as i32);
        // The best so far, the worst of them on top: who falls out never returns, since the others only become more.
        let mut best = BinaryHeap::new();
        for (i, value) in values[row * cols..][..cols].iter().enumerate() {
            best.push(Reverse(Ranked(value.to_f64(), i)));
            if best.len() > window
                && let Some(Reverse(Ranked(_, worst))) = best.pop()
            {
                until[worst] = i as i32;
            }
        }
    });
    Tensor::from_cpu(op, until, x.dims(), x.device())
}
