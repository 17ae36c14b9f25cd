//! Matrices that list few weights a row, in plain Rust.

use super::Float;
use super::parallel::for_pieces;
use super::pool::take;
use super::sparse24::{Wide, turned};
use super::strided::Vectorised;
use crate::layout::Dims;
use crate::{DType, Result, SparseRows, Tensor};

/// `x W^T` for `x` `[tokens, columns]` of f32 or f64; the weights may be halves.
pub(crate) fn dot(op: &'static str, x: &Tensor, weight: &SparseRows) -> Result<Tensor> {
    match (x.dtype(), x.shape()[0]) {
        (DType::F64, 1) => dots::<f64, 1>(op, x, weight),
        (DType::F64, _) => dots::<f64, 4>(op, x, weight),
        (_, 1) => dots::<f32, 1>(op, x, weight),
        (_, 2..=4) => dots::<f32, 4>(op, x, weight),
        _ => dots::<f32, 8>(op, x, weight),
    }
}

/// Each weight meets `TILE` tokens at once, which lie side by side.
fn dots<T: Wide, const TILE: usize>(op: &'static str, x: &Tensor, weight: &SparseRows) -> Result<Tensor> {
    let (tokens, columns, rows) = (x.shape()[0], x.shape()[1], weight.rows());
    let x = turned::<T, TILE>(x.cpu_slice::<T>(op)?, tokens, columns);
    let (starts, places) = (weight.starts().cpu_slice::<u32>(op)?, weight.places().cpu_slice::<u32>(op)?);
    let values = T::wide(op, weight.values())?;
    let mut out = take::<T>(rows * tokens);
    let each = places.len() / rows.max(1) + 1;
    let batch = (1usize << 13).div_ceil(each).max(1);
    for_pieces(&mut out, batch * tokens, each, &|piece, out| {
        for (at, out) in out.chunks_mut(tokens).enumerate() {
            let row = piece * batch + at;
            let list = starts[row] as usize..starts[row + 1] as usize;
            for (x, out) in x.chunks(columns).zip(out.chunks_mut(TILE)) {
                let sums =
                    Row::<T, TILE> { places: &places[list.clone()], values: &values[list.clone()], x }.dispatch();
                out.copy_from_slice(&sums[..out.len()]);
            }
        }
    });
    let sums = Tensor::from_cpu(op, out, Dims::new(op, &[rows, tokens])?, weight.device())?;
    sums.transpose(0, 1)?.contiguous()
}

/// The products of one row with `TILE` tokens.
struct Row<'a, T, const TILE: usize> {
    places: &'a [u32],
    values: &'a [T],
    x: &'a [[T; TILE]],
}

impl<T: Float, const TILE: usize> Vectorised for Row<'_, T, TILE> {
    type Output = [T; TILE];
    #[inline(always)]
    fn run(self) -> [T; TILE] {
        // Four sums, so that additions need not wait for each other.
        let mut sums = [[T::zero(); TILE]; 4];
        let (places, last_places) = self.places.as_chunks::<4>();
        let (values, last_values) = self.values.as_chunks::<4>();
        let mut add = |chain: usize, place: u32, value: T| {
            let x = &self.x[place as usize];
            sums[chain].iter_mut().zip(x).for_each(|(sum, &x)| *sum += value * x);
        };
        for (places, values) in places.iter().zip(values) {
            for chain in 0..4 {
                add(chain, places[chain], values[chain]);
            }
        }
        last_places.iter().zip(last_values).for_each(|(&place, &value)| add(0, place, value));
        std::array::from_fn(|lane| sums.iter().map(|sum| sum[lane]).sum())
    }
}
