//! Discrete Fourier transforms of any length, as matrix products.
//!
//! A length that has a divisor of at most [`BASE`] is split there (Cooley, Tukey 1965): a product with the matrix of the divisor, a turn of each
//! element, and transforms of the rest. Small matrices on the tuned product need about as many operations for an element as a radix of that size,
//! and it is the same code on every device. What has only large prime divisors goes by a circular convolution of the next power of
//! two (Bluestein 1970). The gradient of a transform is the one in the other direction. Tables are made in f64 on the host.

use std::f64::consts::TAU;

use crate::autograd::{Flow, record_many};
use crate::ops::view::reshape_to;
use crate::{DType, Device, Dims, Error, PadMode, Result, Tensor};

/// Lengths up to which one matrix makes a transform, and the largest divisor that is split off.
const BASE: usize = 64;
/// Lengths without such a divisor, up to which one matrix is still less work than a convolution.
const PRIME: usize = 256;

/// By what the transforms are multiplied: both together by 1 / n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FftNorm {
    /// The inverse by 1 / n.
    #[default]
    Backward,
    /// Both by 1 / sqrt(n).
    Ortho,
    /// The forward one by 1 / n.
    Forward,
}

impl FftNorm {
    fn scale(self, n: usize, inverse: bool) -> f64 {
        match (self, inverse) {
            (FftNorm::Ortho, _) => 1.0 / (n as f64).sqrt(),
            (FftNorm::Forward, false) | (FftNorm::Backward, true) => 1.0 / n as f64,
            _ => 1.0,
        }
    }
}

/// Rows of complex numbers, `[rows, n]` each; real ones have no second part.
#[derive(Clone)]
struct Complex {
    re: Tensor,
    im: Option<Tensor>,
}

/// `exp(+-2 pi i a / n)`: the sign is that of the direction.
fn turn(a: usize, n: usize, inverse: bool) -> (f64, f64) {
    let angle = TAU * (a % n) as f64 / n as f64;
    (angle.cos(), if inverse { angle.sin() } else { -angle.sin() })
}

/// A table of f32 or f64.
fn table(values: Vec<f64>, shape: &[usize], like: &Tensor) -> Result<Tensor> {
    match like.dtype() {
        DType::F64 => Tensor::from_vec(values, shape, like.device()),
        _ => Tensor::from_vec(values.into_iter().map(|v| v as f32).collect(), shape, like.device()),
    }
}

/// Complex numbers `[rows, columns]` as a pair of tables.
fn tables(values: impl Iterator<Item = (f64, f64)>, shape: &[usize], like: &Tensor) -> Result<(Tensor, Tensor)> {
    // Both, and both as they are uploaded.
    Device::cpu().expect_room("fft", shape.iter().product::<usize>().saturating_mul(4), DType::F64)?;
    let (re, im): (Vec<f64>, Vec<f64>) = values.unzip();
    Ok((table(re, shape, like)?, table(im, shape, like)?))
}

impl Complex {
    /// Element by element, with numbers that broadcast.
    fn times(&self, (re, im): &(Tensor, Tensor)) -> Result<Complex> {
        let Some(own) = &self.im else {
            return Ok(Complex { re: self.re.mul(re)?, im: Some(self.re.mul(im)?) });
        };
        Ok(Complex { re: self.re.mul(re)?.sub(&own.mul(im)?)?, im: Some(self.re.mul(im)?.add(&own.mul(re)?)?) })
    }

    fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Complex> {
        Ok(Complex { re: f(&self.re)?, im: self.im.as_ref().map(&f).transpose()? })
    }

    fn shaped(&self, shape: &[usize]) -> Result<Complex> {
        let shape = Dims::new("fft", shape)?;
        self.map(|x| reshape_to(x, shape))
    }

    fn imaginary(&self) -> Result<Tensor> {
        self.im.clone().map_or_else(|| self.re.zeros_like(), Ok)
    }
}

/// Transforms along the middle of `[rows, n, inner]`, by one matrix that has real and imaginary parts below each other.
fn by_matrix(x: &Complex, n: usize, inverse: bool) -> Result<Complex> {
    let parts = if x.im.is_some() { 2 } else { 1 };
    let entry = |i: usize| {
        let (row, column) = (i / (parts * n), i % (parts * n));
        let (re, im) = turn(row % n * (column % n), n, inverse);
        match (row < n, column < n) {
            (true, true) | (false, false) => re,
            (true, false) => -im,
            (false, true) => im,
        }
    };
    let matrix = table((0..2 * parts * n * n).map(entry).collect(), &[2 * n, parts * n], &x.re)?;
    let both = match &x.im {
        Some(im) => Tensor::concat(&[&x.re, im], 1)?,
        None => x.re.clone(),
    };
    let y = matrix.matmul(&both)?;
    Ok(Complex { re: y.narrow(1, 0, n)?, im: Some(y.narrow(1, n, n)?) })
}

/// The transforms of rows `[rows, n]`, not scaled.
fn transform(x: &Complex, n: usize, inverse: bool) -> Result<Complex> {
    let rows = x.re.shape()[0];
    let divisor = (2..=BASE.min(n / 2)).rev().find(|d| n.is_multiple_of(*d));
    match divisor {
        _ if n <= BASE => by_matrix(&x.shaped(&[rows, n, 1])?, n, inverse)?.shaped(&[rows, n]),
        Some(first) => {
            let rest = n / first;
            let columns = by_matrix(&x.shaped(&[rows, first, rest])?, first, inverse)?;
            let turns = (0..n).map(|i| turn(i / rest * (i % rest), n, inverse));
            let turned = columns.times(&tables(turns, &[first, rest], &x.re)?)?;
            let done = transform(&turned.shaped(&[rows * first, rest])?, rest, inverse)?;
            done.shaped(&[rows, first, rest])?.map(|x| x.transpose(1, 2))?.shaped(&[rows, n])
        }
        None if n <= PRIME => by_matrix(&x.shaped(&[rows, n, 1])?, n, inverse)?.shaped(&[rows, n]),
        None => by_convolution(x, n, inverse),
    }
}

/// Bluestein's: with w(a) = exp(+-pi i a^2 / n), X(k) = w(k) sum over j of (x(j) w(j)) conj(w(k - j)).
fn by_convolution(x: &Complex, n: usize, inverse: bool) -> Result<Complex> {
    let padded = (2 * n - 1).next_power_of_two();
    // Squares are taken modulo 2n, after which w repeats.
    let chirp = |a: usize| turn((a as u128 * a as u128 % (2 * n) as u128) as usize, 2 * n, inverse);
    let turns = tables((0..n).map(chirp), &[n], &x.re)?;
    let filter = |i: usize| match i.min(padded - i) {
        a if a < n => (chirp(a).0, -chirp(a).1),
        _ => (0.0, 0.0),
    };
    let (re, im) = tables((0..padded).map(filter), &[1, padded], &x.re)?;
    let filter = transform(&Complex { re, im: Some(im) }, padded, false)?;
    let filter = (filter.re.mul_scalar(1.0 / padded as f64)?, filter.imaginary()?.mul_scalar(1.0 / padded as f64)?);
    let pad = [(0, 0), (0, (padded - n) as isize)];
    let spread = x.times(&turns)?.map(|x| x.pad(&pad, PadMode::Constant(0.0)))?;
    let product = transform(&transform(&spread, padded, false)?.times(&filter)?, padded, true)?;
    product.map(|x| x.narrow(1, 0, n))?.times(&turns)
}

/// The transform along the last dimension, recorded.
fn recorded(op: &'static str, re: &Tensor, im: Option<&Tensor>, inverse: bool, scale: f64) -> Result<(Tensor, Tensor)> {
    let run = move |re: &Tensor, im: Option<&Tensor>, inverse: bool| -> Result<(Tensor, Tensor)> {
        let shape = re.dims();
        if re.elements() == 0 {
            return Ok((re.zeros_like()?, re.zeros_like()?));
        }
        let n = shape.last().copied().unwrap_or(1);
        let flat = |x: &Tensor| reshape_to(&x.detach(), Dims::new(op, &[x.elements() / n, n])?);
        let x = Complex { re: flat(re)?, im: im.map(flat).transpose()? };
        let y = transform(&x, n, inverse)?;
        let finish = |x: &Tensor| reshape_to(&if scale == 1.0 { x.clone() } else { x.mul_scalar(scale)? }, shape);
        Ok((finish(&y.re)?, finish(&y.imaginary()?)?))
    };
    let (y_re, y_im) = run(re, im, inverse)?;
    let inputs: Vec<&Tensor> = [Some(re), im].into_iter().flatten().collect();
    let count = inputs.len();
    let like = re.detach();
    let outputs = record_many(op, vec![y_re, y_im], &inputs, move |grads, _| {
        let grad = |i: usize| grads.get(i).and_then(Clone::clone).map_or_else(|| like.zeros_like(), Ok);
        let (re, im) = run(&grad(0)?, Some(&grad(1)?), !inverse)?;
        Ok(Flow { inputs: [re, im].into_iter().take(count).map(Some).collect(), captured: Vec::new() })
    });
    match <[Tensor; 2]>::try_from(outputs) {
        Ok([re, im]) => Ok((re, im)),
        Err(_) => Err(Error::argument(op, "lost an output")),
    }
}

/// Checks the operands, and widens halves.
fn checked(op: &'static str, re: &Tensor, im: Option<&Tensor>) -> Result<(Tensor, Option<Tensor>, usize)> {
    re.expect_float(op)?;
    let n = re.size(-1).map_err(|_| Error::shape(op, "a scalar, expected at least one dimension"))?;
    if let Some(im) = im {
        re.expect_like(op, im)?;
        if re.shape() != im.shape() {
            let (re, im) = (re.shape(), im.shape());
            return Err(Error::shape(op, format!("an imaginary part of shape {im:?} for a real one of shape {re:?}")));
        }
    }
    if n >= 1 << 30 {
        return Err(Error::shape(op, format!("length {n}, expected less than 2^30")));
    }
    let wide = |x: &Tensor| if x.dtype().is_half() { x.cast(DType::F32) } else { Ok(x.clone()) };
    Ok((wide(re)?, im.map(wide).transpose()?, n))
}

/// See [`Tensor::fft`].
pub(crate) fn fft(re: &Tensor, im: &Tensor, inverse: bool, norm: FftNorm) -> Result<(Tensor, Tensor)> {
    let op = if inverse { "ifft" } else { "fft" };
    let (wide, im, n) = checked(op, re, Some(im))?;
    let (y, z) = recorded(op, &wide, im.as_ref(), inverse, norm.scale(n.max(1), inverse))?;
    Ok((y.cast(re.dtype())?, z.cast(re.dtype())?))
}

/// The last dimension cut or filled with zeros.
fn resized(x: &Tensor, n: usize) -> Result<Tensor> {
    let mut pads = vec![(0, 0); x.rank()];
    if let (Some(last), Some(&size)) = (pads.last_mut(), x.shape().last()) {
        *last = (0, n as isize - size as isize);
    }
    x.pad(&pads, PadMode::Constant(0.0))
}

fn expect_length(op: &'static str, n: usize) -> Result<()> {
    match n {
        1..0x4000_0000 => Ok(()),
        _ => Err(Error::argument(op, format!("length {n}, expected 1 to 2^30"))),
    }
}

/// See [`Tensor::rfft`].
pub(crate) fn rfft(x: &Tensor, n: usize, norm: FftNorm) -> Result<(Tensor, Tensor)> {
    let op = "rfft";
    expect_length(op, n)?;
    let (wide, _, _) = checked(op, x, None)?;
    let (re, im) = recorded(op, &resized(&wide, n)?, None, false, norm.scale(n, false))?;
    let half = |y: Tensor| y.narrow(-1, 0, n / 2 + 1)?.cast(x.dtype());
    Ok((half(re)?, half(im)?))
}

/// See [`Tensor::irfft`].
pub(crate) fn irfft(re: &Tensor, im: &Tensor, n: usize, norm: FftNorm) -> Result<Tensor> {
    let op = "irfft";
    expect_length(op, n)?;
    let (wide, imaginary, _) = checked(op, re, Some(im))?;
    let imaginary = imaginary.ok_or_else(|| Error::argument(op, "no imaginary part"))?;
    let (re_half, im_half) = (resized(&wide, n / 2 + 1)?, resized(&imaginary, n / 2 + 1)?);
    // The bins that have a mirror image, which is their conjugate. The others are real.
    let mirrored = (n - 1) / 2;
    let mirror = |x: &Tensor| x.narrow(-1, 1, mirrored)?.flip(&[-1]);
    let re_full = Tensor::concat(&[&re_half, &mirror(&re_half)?], -1)?;
    let zeros = |x: &Tensor, size: usize| x.narrow(-1, 0, size)?.zeros_like();
    let inner = im_half.narrow(-1, 1, mirrored)?;
    let im_full = Tensor::concat(
        &[&zeros(&im_half, 1)?, &inner, &zeros(&im_half, n / 2 - mirrored)?, &mirror(&im_half)?.neg()?],
        -1,
    )?;
    recorded(op, &re_full, Some(&im_full), true, norm.scale(n, true))?.0.cast(re.dtype())
}
