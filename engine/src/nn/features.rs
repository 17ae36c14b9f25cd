//! Features of queries and keys with which linear attention stands for another: Performer's random features of the softmax, and rotary
//! positions that are learned.

use super::{Build, Init, Module, Param, Visitor};
use crate::{Error, Result, Tensor};

/// Which kernel random features estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Favor {
    /// Positive features of `exp(q k / sqrt(head_dim))`, so that normalised linear attention estimates softmax attention.
    Softmax,
    /// `relu(w x)`: a kernel of its own, without a maximum over all keys, so that no later key touches an earlier query.
    Relu,
}

/// Performer's feature map (Choromanski et al., "Rethinking attention with performers", 2021): `head_dim` numbers become as many
/// features as there are rows of random weights, which are orthogonal in blocks. They are not trained, but saved with a model: what was
/// learned on some features means nothing on others.
///
/// ```
/// # fn main() -> wgrad::Result<()> {
/// use wgrad::nn::{Build, Favor, RandomFeatures};
/// use wgrad::{Device, LinearAttention, Tensor};
/// let device = Device::cpu();
/// let features = RandomFeatures::new(8, None, Favor::Softmax, &Build::new(&device))?;
/// let x = Tensor::ones(&[1, 2, 5, 8], wgrad::DType::F32, &device)?;
/// let options = LinearAttention { normalize: Some(1e-6), ..Default::default() };
/// let (out, _) = features.query(&x)?.linear_attention(&features.key(&x)?, &x, &options)?;
/// assert_eq!(out.shape(), [1, 2, 5, 8]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RandomFeatures {
    kind: Favor,
    /// [features, head_dim].
    weight: Param,
}

impl RandomFeatures {
    /// `features` random features of vectors of `head_dim`, by default `head_dim ln(head_dim)` of them. To draw others, make it again.
    ///
    /// # Errors
    /// If a size is 0 or memory is exhausted.
    pub fn new(head_dim: usize, features: Option<usize>, kind: Favor, build: &Build) -> Result<Self> {
        let features = features.unwrap_or((head_dim as f64 * (head_dim as f64).ln()).max(1.0) as usize);
        Self::with_weights(&orthogonal_gaussian(features, head_dim, build)?, kind)
    }

    /// Features with given weights [features, head_dim].
    ///
    /// # Errors
    /// If the weights are no matrix of floats.
    pub fn with_weights(weights: &Tensor, kind: Favor) -> Result<Self> {
        weights.expect_float("RandomFeatures")?;
        if weights.rank() != 2 {
            let message = format!("weights of shape {:?}, expected [features, head_dim]", weights.shape());
            return Err(Error::shape("RandomFeatures", message));
        }
        let weight = Param::new(weights)?;
        weight.set_trainable(false);
        Ok(RandomFeatures { kind, weight })
    }

    /// Features [.., features] of queries [.., head_dim].
    ///
    /// # Errors
    /// If shapes, dtypes or devices do not fit.
    pub fn query(&self, x: &Tensor) -> Result<Tensor> {
        self.features(x, &[-1])
    }

    /// Features [batch, heads, keys, features] of keys [batch, heads, keys, head_dim]. With [`Favor::Softmax`] they are relative to the largest
    /// exponent of all keys of a head, which cancels in normalised attention.
    ///
    /// # Errors
    /// As [`RandomFeatures::query`].
    pub fn key(&self, x: &Tensor) -> Result<Tensor> {
        self.features(x, &[-2, -1])
    }

    fn features(&self, x: &Tensor, common: &[isize]) -> Result<Tensor> {
        let head_dim = x.size(-1)? as f64;
        let x = x.mul_scalar(head_dim.powf(-0.25))?;
        let products = x.linear(&self.weight.tensor(), None)?;
        if self.kind == Favor::Relu {
            return products.relu()?.add_scalar(1e-3);
        }
        let half_square = x.square()?.sum(&[-1], true)?.mul_scalar(0.5)?;
        // The maximum only keeps the exponential in range: it gets no gradient.
        let exponents = products.sub(&products.detach().max(common, true)?)?.sub(&half_square)?;
        exponents.exp()?.add_scalar(1e-4)?.mul_scalar((self.weight.shape()[0] as f64).powf(-0.5))
    }
}

impl Module for RandomFeatures {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("weight", &self.weight);
    }
}

/// Rows of independent normal numbers, made orthogonal in blocks of `columns`, each with the length of another such row.
///
/// # Errors
/// If a size is 0 or memory is exhausted.
pub fn orthogonal_gaussian(rows: usize, columns: usize, build: &Build) -> Result<Tensor> {
    let op = "orthogonal_gaussian";
    if rows == 0 || columns == 0 {
        return Err(Error::argument(op, format!("{rows} rows of {columns}: expected at least 1 each")));
    }
    let normal = Init::Normal { mean: 0.0, std: 1.0 };
    let draw = |rows: usize| normal.tensor(&[rows, columns], crate::DType::F32, &build.device)?.to_f64_vec();
    let mut values = draw(rows)?;
    let lengths = draw(rows)?;
    for block in values.chunks_mut(columns * columns) {
        orthonormalise(block, columns);
    }
    let norm = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>().sqrt();
    for (row, other) in values.chunks_exact_mut(columns).zip(lengths.chunks_exact(columns)) {
        let length = norm(other);
        row.iter_mut().for_each(|x| *x *= length);
    }
    let values = values.into_iter().map(|x| x as f32).collect();
    Tensor::from_vec(values, &[rows, columns], &build.device)?.cast(build.dtype)
}

/// Gram and Schmidt, twice for the sake of rounding. Since no sign is chosen, each direction is as likely as any other.
fn orthonormalise(rows: &mut [f64], columns: usize) {
    for at in 0..rows.len() / columns {
        let (before, row) = rows.split_at_mut(at * columns);
        let row = &mut row[..columns];
        for _ in 0..2 {
            for other in before.chunks_exact(columns) {
                let along: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(other).for_each(|(x, b)| *x -= along * b);
            }
        }
        let length = row.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        row.iter_mut().for_each(|x| *x /= length);
    }
}

/// Learned rotary features of linear attention (Qin et al., "TransNormerLLM", 2023): `[x cos(theta t), x sin(theta t)]`, so that products of
/// queries and keys weigh each pair by `cos(theta (i - j))`. `x` [batch, heads, length, width] becomes twice as wide; `theta` [heads, width] gets a
/// gradient; the first token has position `offset`.
///
/// # Errors
/// If shapes, dtypes or devices do not fit.
pub fn lrpe(x: &Tensor, theta: &Tensor, offset: usize) -> Result<Tensor> {
    let op = "lrpe";
    let &[_, heads, length, width] = x.shape() else {
        return Err(Error::shape(
            op,
            format!("input of shape {:?}, expected [batch, heads, length, width]", x.shape()),
        ));
    };
    x.expect_like(op, theta)?;
    if theta.shape() != [heads, width] {
        return Err(Error::shape(op, format!("theta of shape {:?}, expected [{heads}, {width}]", theta.shape())));
    }
    let times: Vec<f32> = (offset..offset + length).map(|t| t as f32).collect();
    let times = Tensor::from_vec(times, &[length, 1], x.device())?.cast(theta.dtype())?;
    let angles = theta.unsqueeze(1)?.mul(&times)?;
    Tensor::concat(&[&x.mul(&angles.cos()?)?, &x.mul(&angles.sin()?)?], 3)
}

/// The logarithms of TransNormerLLM's decays, one for each head: ALiBi's slopes, which fade from the first layer to the last.
pub fn decay_by_layer(heads: usize, layer: usize, layers: usize) -> Vec<f64> {
    let share = 1.0 - layer as f64 / (layers.max(2) - 1) as f64 + 1e-5;
    super::alibi_slopes(heads).into_iter().map(|slope| -slope * share).collect()
}
