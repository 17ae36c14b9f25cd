//! Masks of groups of parameters in plain Rust.

use half::{bf16, f16};

use super::Float;
use super::index::Number;
use super::parallel::{collect, fill_rows};
use super::sort::key;
use crate::storage::CpuData;
use crate::{DType, Error, Result, Tensor};

/// Of each `m` scores of a row the `n` largest; the first of equal ones.
pub(crate) fn n_of_m(op: &'static str, scores: &Tensor, n: usize, m: usize) -> Result<Tensor> {
    fn run<T: Number>(op: &'static str, scores: &Tensor, n: usize, m: usize) -> Result<Tensor> {
        let (rows, columns) = (scores.shape()[0], scores.shape()[1]);
        let all = scores.cpu_slice::<T>(op)?;
        let mask = fill_rows(rows, columns, |row, mask: &mut [bool]| {
            let scores = &all[row * columns..][..columns];
            for (scores, mask) in scores.chunks(m).zip(mask.chunks_mut(m)) {
                // Descending: what comes first has the smaller key.
                let keys: Vec<u64> = scores.iter().map(|score| key(score.to_f64(), true)).collect();
                for (i, (mine, mask)) in keys.iter().zip(mask).enumerate() {
                    let before = |(j, other): &(usize, &u64)| *other < mine || *other == mine && *j < i;
                    *mask = keys.iter().enumerate().filter(before).count() < n;
                }
            }
        });
        Tensor::from_cpu(op, mask, scores.dims(), scores.device())
    }
    match scores.cpu_data(op)? {
        CpuData::F32(_) => run::<f32>(op, scores, n, m),
        CpuData::F64(_) => run::<f64>(op, scores, n, m),
        CpuData::F16(_) => run::<f16>(op, scores, n, m),
        CpuData::BF16(_) => run::<bf16>(op, scores, n, m),
        CpuData::I32(_) => run::<i32>(op, scores, n, m),
        CpuData::U32(_) => run::<u32>(op, scores, n, m),
        CpuData::Bool(_) => Err(Error::DType { op, got: scores.dtype(), expected: "scores" }),
    }
}

/// The two columns that each of the six patterns of four keeps, in MaskLLM's order.
pub(crate) const PATTERNS: [[usize; 2]; 6] = [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]];

/// The same as counts of the four columns, four bits each, so that sums of patterns are counts of kept rows.
const COUNTS: [u32; 6] = [0x0011, 0x0101, 0x1001, 0x0110, 0x1010, 0x1100];

/// The best of the 90 patterns of each tile of `[strips, 4, columns]`.
pub(crate) fn transposable(op: &'static str, scores: &Tensor) -> Result<Tensor> {
    fn run<T: Float>(op: &'static str, scores: &Tensor) -> Result<Tensor> {
        let (strips, columns) = (scores.shape()[0], scores.shape()[2]);
        let all = scores.cpu_slice::<T>(op)?;
        let across = columns.div_ceil(4);
        let best = collect(strips * across, 512, &|tile| {
            let (strip, first) = (tile / across, 4 * (tile % across));
            let score = |row: usize, column: usize| match column < columns {
                true => all[(4 * strip + row) * columns + column],
                false => T::zero(),
            };
            best_of_tile(std::array::from_fn(|row| std::array::from_fn(|column| score(row, first + column))))
        });
        let mask = fill_rows(4 * strips, columns, |row, mask: &mut [bool]| {
            for (tile, mask) in mask.chunks_mut(4).enumerate() {
                let kept = PATTERNS[best[row / 4 * across + tile][row % 4]];
                mask.iter_mut().enumerate().for_each(|(column, mask)| *mask = kept.contains(&column));
            }
        });
        Tensor::from_cpu(op, mask, scores.dims(), scores.device())
    }
    match scores.dtype() {
        DType::F64 => run::<f64>(op, scores),
        _ => run::<f32>(op, scores),
    }
}

/// The pattern of each row. Sums are taken in the order of the kernel, which finds the same among equally good ones.
fn best_of_tile<T: Float>(scores: [[T; 4]; 4]) -> [usize; 4] {
    let sums = scores.map(|row| PATTERNS.map(|[low, high]| row[low] + row[high]));
    let (mut best, mut found) = (None, [0, 0, 5, 5]);
    for a in 0..6 {
        for b in 0..6 {
            for c in 0..6 {
                // What the last row must keep for two in each column; no pattern if a column would have more.
                let left = 0x2222u32.wrapping_sub(COUNTS[a] + COUNTS[b] + COUNTS[c]);
                let Some(d) = COUNTS.iter().position(|&counts| counts == left) else { continue };
                let sum = (sums[0][a] + sums[1][b]) + (sums[2][c] + sums[3][d]);
                if best.is_none_or(|best| sum > best) {
                    (best, found) = (Some(sum), [a, b, c, d]);
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_ninety_patterns() {
        let last = |a: u32, b: u32, c: u32| COUNTS.contains(&0x2222u32.wrapping_sub(a + b + c));
        let all = COUNTS.iter().flat_map(|a| COUNTS.iter().map(move |b| (a, b)));
        let count: usize = all.map(|(a, b)| COUNTS.iter().filter(|c| last(*a, *b, **c)).count()).sum();
        assert_eq!(count, 90);
    }
}
