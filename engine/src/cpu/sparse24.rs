//! Packed 2:4 matrices in plain Rust. All matrices have whole blocks of columns.

use std::borrow::Cow;
#[cfg(target_arch = "x86_64")]
use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::parallel::{fill_rows, for_pieces};
#[cfg(target_arch = "x86_64")]
use super::pick::Picked;
use super::pool::take;
use super::strided::Vectorised;
use super::{Float, by_dtype};
use crate::layout::Dims;
use crate::sparse24::BLOCK;
use crate::storage::Element;
use crate::{DType, Result, Tensor};

/// The columns of the sixteen values of a word, within its block.
fn columns(word: u32) -> [usize; BLOCK / 2] {
    std::array::from_fn(|i| 4 * (i / 2) + (word >> (2 * i) & 3) as usize)
}

/// The values at the positions.
pub(crate) fn gather(op: &'static str, dense: &Tensor, meta: &Tensor, shape: Dims) -> Result<Tensor> {
    fn run<T: Element>(op: &'static str, dense: &Tensor, meta: &Tensor, shape: Dims) -> Result<Tensor> {
        let (all, words) = (dense.cpu_slice::<T>(op)?, meta.cpu_slice::<u32>(op)?);
        let blocks = meta.shape()[1];
        let values = fill_rows(shape[0], shape[1], |row, out: &mut [T]| {
            let dense = &all[row * blocks * BLOCK..][..blocks * BLOCK];
            let of_row = words[row * blocks..][..blocks].iter().zip(dense.chunks(BLOCK));
            for ((&word, dense), out) in of_row.zip(out.chunks_mut(BLOCK / 2)) {
                out.iter_mut().zip(columns(word)).for_each(|(out, column)| *out = dense[column]);
            }
        });
        Tensor::from_cpu(op, values, shape, dense.device())
    }
    by_dtype!(dense.dtype(), T => run::<T>(op, dense, meta, shape))
}

/// The dense matrix.
pub(crate) fn expand(op: &'static str, values: &Tensor, meta: &Tensor, shape: Dims) -> Result<Tensor> {
    fn run<T: Element>(op: &'static str, values: &Tensor, meta: &Tensor, shape: Dims) -> Result<Tensor> {
        let (all, words) = (values.cpu_slice::<T>(op)?, meta.cpu_slice::<u32>(op)?);
        let blocks = meta.shape()[1];
        let dense = fill_rows(shape[0], shape[1], |row, out: &mut [T]| {
            let values = &all[row * blocks * BLOCK / 2..][..blocks * BLOCK / 2];
            let of_row = words[row * blocks..][..blocks].iter().zip(values.chunks(BLOCK / 2));
            for ((&word, values), out) in of_row.zip(out.chunks_mut(BLOCK)) {
                values.iter().zip(columns(word)).for_each(|(&value, column)| out[column] = value);
            }
        });
        Tensor::from_cpu(op, dense, shape, values.device())
    }
    by_dtype!(values.dtype(), T => run::<T>(op, values, meta, shape))
}

/// A type to compute in, in which stored values, halves among them, can be read.
pub(super) trait Wide: Float {
    fn wide<'a>(op: &'static str, values: &'a Tensor) -> Result<Cow<'a, [Self]>>;
}

impl Wide for f64 {
    fn wide<'a>(op: &'static str, values: &'a Tensor) -> Result<Cow<'a, [f64]>> {
        Ok(Cow::Borrowed(values.cpu_slice::<f64>(op)?))
    }
}

impl Wide for f32 {
    fn wide<'a>(op: &'static str, values: &'a Tensor) -> Result<Cow<'a, [f32]>> {
        let mut wide = vec![0.0; if values.dtype().is_half() { values.elements() } else { 0 }];
        match values.dtype() {
            DType::F16 => values.cpu_slice::<f16>(op)?.convert_to_f32_slice(&mut wide),
            DType::BF16 => values.cpu_slice::<bf16>(op)?.convert_to_f32_slice(&mut wide),
            _ => return Ok(Cow::Borrowed(values.cpu_slice::<f32>(op)?)),
        }
        Ok(Cow::Owned(wide))
    }
}

/// Values that are computed with in f32.
#[cfg(target_arch = "x86_64")]
enum Stored<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
}

#[cfg(target_arch = "x86_64")]
impl<'a> Stored<'a> {
    fn of(op: &'static str, values: &'a Tensor) -> Result<Self> {
        Ok(match values.dtype() {
            DType::F16 => Stored::F16(values.cpu_slice(op)?),
            DType::BF16 => Stored::Bf16(values.cpu_slice(op)?),
            _ => Stored::F32(values.cpu_slice(op)?),
        })
    }

    /// Some of them, widened into `scratch` where they are halves.
    fn wide<'b>(&'b self, range: Range<usize>, scratch: &'b mut Vec<f32>) -> &'b [f32] {
        scratch.resize(if matches!(self, Stored::F32(_)) { 0 } else { range.len() }, 0.0);
        match self {
            Stored::F32(values) => return &values[range],
            Stored::F16(values) => values[range].convert_to_f32_slice(scratch),
            Stored::Bf16(values) => values[range].convert_to_f32_slice(scratch),
        }
        scratch
    }
}

/// Rows of `x` `[tokens, columns]` as tiles of `TILE` tokens that lie side by side, `[tiles, columns, TILE]`, filled up by zeros.
pub(super) fn turned<T: Float, const TILE: usize>(x: &[T], tokens: usize, columns: usize) -> Vec<[T; TILE]> {
    let mut turned = vec![[T::zero(); TILE]; tokens.div_ceil(TILE) * columns];
    for (token, row) in x.chunks(columns).enumerate() {
        let tile = &mut turned[token / TILE * columns..][..columns];
        tile.iter_mut().zip(row).for_each(|(lanes, &x)| lanes[token % TILE] = x);
    }
    turned
}

/// `x W^T + bias` for `x` `[tokens, columns]` of f32 or f64; the values may be halves.
pub(crate) fn dot(
    op: &'static str,
    x: &Tensor,
    values: &Tensor,
    meta: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let tokens = x.shape()[0];
    #[cfg(target_arch = "x86_64")]
    if (x.dtype(), tokens) == (DType::F32, 1)
        && let Some(picked) = Picked::new(x.cpu_slice::<f32>(op)?)
    {
        return dots_of_one(op, &picked, values, meta, bias);
    }
    match (x.dtype(), tokens) {
        (DType::F64, 1) => dots::<f64, 1, 8>(op, x, values, meta, bias),
        (DType::F64, _) => dots::<f64, 4, 2>(op, x, values, meta, bias),
        (_, 1) => dots::<f32, 1, 8>(op, x, values, meta, bias),
        (_, 2..=4) => dots::<f32, 4, 4>(op, x, values, meta, bias),
        (_, 5..=8) => dots::<f32, 8, 2>(op, x, values, meta, bias),
        _ => dots::<f32, 16, 2>(op, x, values, meta, bias),
    }
}

#[cfg(target_arch = "x86_64")]
fn dots_of_one(op: &'static str, x: &Picked, values: &Tensor, meta: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (rows, blocks) = (meta.shape()[0], meta.shape()[1]);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let bias = bias.as_ref().map(|bias| bias.cpu_slice::<f32>(op)).transpose()?;
    let (words, values) = (meta.cpu_slice::<u32>(op)?, Stored::of(op, values)?);
    let width = blocks * BLOCK / 2;
    let mut out = take::<f32>(rows);
    // A block takes little longer than an element of other loops.
    let batch = (1usize << 13).div_ceil(blocks).max(1);
    for_pieces(&mut out, batch, blocks, &|piece, out| {
        let mut scratch = Vec::new();
        // Halves row by row, so that the f32 stay in the cache.
        let at_once = if matches!(values, Stored::F32(_)) { out.len() } else { 1 };
        for (at, out) in out.chunks_mut(at_once).enumerate() {
            let first = piece * batch + at * at_once;
            let values = values.wide(first * width..(first + out.len()) * width, &mut scratch);
            x.rows(&words[first * blocks..], values, out);
            if let Some(bias) = bias {
                out.iter_mut().zip(&bias[first..]).for_each(|(out, bias)| *out += bias);
            }
        }
    });
    Tensor::from_cpu(op, out, Dims::new(op, &[1, rows])?, meta.device())
}

/// Each kept weight meets `TILE` tokens at once, which lie side by side; sums are in `CHAINS` parts, so that additions need not
/// wait for each other.
fn dots<T: Wide, const TILE: usize, const CHAINS: usize>(
    op: &'static str,
    x: &Tensor,
    values: &Tensor,
    meta: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let (tokens, columns) = (x.shape()[0], x.shape()[1]);
    let (rows, blocks) = (meta.shape()[0], meta.shape()[1]);
    let turned = turned::<T, TILE>(x.cpu_slice::<T>(op)?, tokens, columns);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let bias = bias.as_ref().map(|bias| bias.cpu_slice::<T>(op)).transpose()?;
    let (words, values) = (meta.cpu_slice::<u32>(op)?, T::wide(op, values)?);
    let mut out = take::<T>(rows * tokens);
    let batch = (1usize << 13).div_ceil(columns).max(1);
    for_pieces(&mut out, batch * tokens, columns, &|piece, out| {
        for (at, out) in out.chunks_mut(tokens).enumerate() {
            let row = piece * batch + at;
            let words = &words[row * blocks..][..blocks];
            let values = &values[row * blocks * BLOCK / 2..][..blocks * BLOCK / 2];
            for (x, out) in turned.chunks(columns).zip(out.chunks_mut(TILE)) {
                let sums = Row::<T, TILE, CHAINS> { words, values, x }.dispatch();
                let added = bias.map_or(T::zero(), |bias| bias[row]);
                out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum + added);
            }
        }
    });
    let sums = Tensor::from_cpu(op, out, Dims::new(op, &[rows, tokens])?, meta.device())?;
    sums.transpose(0, 1)?.contiguous()
}

/// The products of one row with `TILE` tokens.
struct Row<'a, T, const TILE: usize, const CHAINS: usize> {
    words: &'a [u32],
    values: &'a [T],
    x: &'a [[T; TILE]],
}

impl<T: Float, const TILE: usize, const CHAINS: usize> Vectorised for Row<'_, T, TILE, CHAINS> {
    type Output = [T; TILE];
    #[inline(always)]
    fn run(self) -> [T; TILE] {
        let mut sums = [[T::zero(); TILE]; CHAINS];
        let (values, _) = self.values.as_chunks::<2>();
        let (x, _) = self.x.as_chunks::<4>();
        let (values, _) = values.as_chunks::<8>();
        let (x, _) = x.as_chunks::<8>();
        for ((&word, values), x) in self.words.iter().zip(values).zip(x) {
            for (group, ([first, second], x)) in values.iter().zip(x).enumerate() {
                let nibble = word >> (4 * group);
                let (low, high) = (&x[(nibble & 3) as usize], &x[(nibble >> 2 & 3) as usize]);
                let sums = &mut sums[group % CHAINS];
                for lane in 0..TILE {
                    sums[lane] += *first * low[lane] + *second * high[lane];
                }
            }
        }
        std::array::from_fn(|lane| sums.iter().map(|sum| sum[lane]).sum())
    }
}

/// The gradient of the values: at each position the sum of `dy[t, row] x[t, column]` over all rows t of `x` and `dy`, f32 or f64.
pub(crate) fn sampled(op: &'static str, x: &Tensor, dy: &Tensor, meta: &Tensor, shape: Dims) -> Result<Tensor> {
    fn run<T: Float>(op: &'static str, x: &Tensor, dy: &Tensor, meta: &Tensor, shape: Dims) -> Result<Tensor> {
        let (tokens, blocks) = (x.shape()[0], meta.shape()[1]);
        // What is summed over lies side by side.
        let (x, dy) = (x.transpose(0, 1)?.contiguous()?, dy.transpose(0, 1)?.contiguous()?);
        let (x, dy, words) = (x.cpu_slice::<T>(op)?, dy.cpu_slice::<T>(op)?, meta.cpu_slice::<u32>(op)?);
        let made = fill_rows(shape[0], shape[1], |row, out: &mut [T]| {
            let dy = &dy[row * tokens..][..tokens];
            let words = &words[row * blocks..][..blocks];
            for ((&word, out), x) in words.iter().zip(out.chunks_mut(BLOCK / 2)).zip(x.chunks(BLOCK * tokens)) {
                Sums { columns: columns(word), x, dy, out }.dispatch();
            }
        });
        Tensor::from_cpu(op, made, shape, meta.device())
    }
    match x.dtype() {
        DType::F64 => run::<f64>(op, x, dy, meta, shape),
        _ => run::<f32>(op, x, dy, meta, shape),
    }
}

/// Products of the columns of a word, `[32, tokens]`, with `dy`.
struct Sums<'a, T> {
    columns: [usize; BLOCK / 2],
    x: &'a [T],
    dy: &'a [T],
    out: &'a mut [T],
}

impl<T: Float> Vectorised for Sums<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let tokens = self.dy.len();
        for (out, column) in self.out.iter_mut().zip(self.columns) {
            let x = &self.x[column * tokens..][..tokens];
            // Lanes of their own, so that the loop becomes vector code with a fixed order of additions.
            let mut lanes = [T::zero(); 8];
            let (whole, rest) = x.as_chunks::<8>();
            let (of_dy, rest_of_dy) = self.dy.as_chunks::<8>();
            for (x, dy) in whole.iter().zip(of_dy) {
                lanes.iter_mut().zip(x.iter().zip(dy)).for_each(|(sum, (&x, &dy))| *sum += x * dy);
            }
            let last: T = rest.iter().zip(rest_of_dy).map(|(&x, &dy)| x * dy).sum();
            *out = lanes.iter().copied().sum::<T>() + last;
        }
    }
}
