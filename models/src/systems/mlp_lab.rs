//! Multilayer perceptrons that tell classes of vectors apart: the bench of norms over samples and of normalised matrices.

use wgrad::nn::{Build, Linear, Module, Visitor};
use wgrad::rng::Philox;
use wgrad::{Device, Tensor, no_grad};

use super::lab::{answers, loss};
use crate::Result;
use crate::front::synthetic::{below, normal};
use crate::norm::{Norm, NormConfig, NormedLinear, WeightView};

/// Elements of a vector.
pub const FEATURES: usize = 16;
/// Classes.
pub const CLASSES: usize = 8;
/// Width of a network.
pub const WIDTH: usize = 64;

/// Vectors about the centres of their classes, two for each class, so that no class lies on one side of a plane.
pub struct Blobs {
    centres: Vec<f64>,
    seed: u64,
    device: Device,
}

impl Blobs {
    /// Centres of their own for the seed, so far from zero as `spread` in each direction; vectors are one from their centre.
    pub fn new(spread: f64, seed: u64, device: &Device) -> Self {
        let mut rng = Philox::new(seed, 0);
        let centres = (0..2 * CLASSES * FEATURES).map(|_| spread * normal(&mut rng)).collect();
        Blobs { centres, seed, device: device.clone() }
    }

    /// Vectors `[rows, features]` and their classes: batch `number` of a stream.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn batch(&self, rows: usize, [stream, number]: [u64; 2]) -> Result<(Tensor, Vec<i32>)> {
        let mut rng = Philox::new(self.seed, (stream + 1) << 32 | number);
        let (mut x, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..rows {
            let centre = below(2 * CLASSES, &mut rng);
            let about = &self.centres[centre * FEATURES..(centre + 1) * FEATURES];
            x.extend(about.iter().map(|c| (c + normal(&mut rng)) as f32));
            labels.push((centre % CLASSES) as i32);
        }
        Ok((Tensor::from_vec(x, &[rows, FEATURES], &self.device)?, labels))
    }

    /// The share of right answers of a network in evaluation over `batches` batches of a stream, whose vectors `shift` has changed.
    ///
    /// # Errors
    /// If the device fails.
    pub fn measure(
        &self,
        mlp: &Mlp,
        [rows, batches]: [usize; 2],
        stream: u64,
        shift: impl Fn(Tensor) -> wgrad::Result<Tensor>,
    ) -> Result<f64> {
        mlp.train(false);
        let shares = (0..batches as u64).map(|number| {
            let (x, labels) = self.batch(rows, [stream, number])?;
            answers(&no_grad(|| mlp.forward(&shift(x)?))?, &labels)
        });
        let share = shares.sum::<Result<f64>>()? / batches as f64;
        mlp.train(true);
        Ok(share)
    }
}

/// The matrix of a layer.
enum Matrix {
    Plain(Linear),
    Viewed(NormedLinear),
}

/// Layers of a matrix, perhaps a norm, and the larger of the result and zero; then a matrix.
pub struct Mlp {
    layers: Vec<(Matrix, Option<Norm>)>,
    head: Linear,
}

impl Mlp {
    /// A network of so many layers, its matrices through `view` if there is one.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn new(layers: usize, norm: Option<NormConfig>, view: Option<WeightView>, build: &Build) -> Result<Self> {
        let layer = |n: usize| {
            let inputs = if n == 0 { FEATURES } else { WIDTH };
            let matrix = match view {
                Some(view) => Matrix::Viewed(NormedLinear::new(view, inputs, WIDTH, build)?),
                None => Matrix::Plain(Linear::new(inputs, WIDTH, true, build)?),
            };
            Ok((matrix, norm.map(|norm| Norm::new(norm, WIDTH, build)).transpose()?))
        };
        Ok(Mlp {
            layers: (0..layers).map(layer).collect::<Result<_>>()?,
            head: Linear::new(WIDTH, CLASSES, true, build)?,
        })
    }

    /// Sets gains and biases of viewed matrices by a batch: see [`NormedLinear::init_from`].
    ///
    /// # Errors
    /// As there.
    pub fn init_from(&self, x: &Tensor) -> Result<()> {
        let mut x = x.clone();
        for (matrix, norm) in &self.layers {
            if let Matrix::Viewed(matrix) = matrix {
                matrix.init_from(&x)?;
            }
            x = no_grad(|| layer(matrix, norm.as_ref(), &x))?;
        }
        Ok(())
    }

    /// The same function with plain matrices.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn plain(&self, build: &Build) -> Result<Self> {
        let plain = Mlp::new(self.layers.len(), None, None, build)?;
        let layers = self.layers.iter().zip(&plain.layers);
        let pairs = layers.filter_map(|((from, _), (to, _))| match (from, to) {
            (Matrix::Viewed(from), Matrix::Plain(to)) => Some((from, to)),
            _ => None,
        });
        for (from, to) in pairs {
            to.weight.set(&from.matrix()?.detach())?;
            if let Some(bias) = &to.bias {
                bias.set(&from.bias().tensor().detach())?;
            }
        }
        for ((_, from), (_, to)) in self.head.named_parameters().into_iter().zip(plain.head.named_parameters()) {
            to.set(&from.tensor().detach())?;
        }
        Ok(plain)
    }

    /// Logits `[rows, classes]` of vectors `[rows, features]`.
    ///
    /// # Errors
    /// If shapes do not fit, or a norm cannot do with so few rows.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.layers.iter().try_fold(x.clone(), |x, (matrix, norm)| layer(matrix, norm.as_ref(), &x))?;
        Ok(self.head.forward(&x)?)
    }

    /// Mean cross-entropy of a batch.
    ///
    /// # Errors
    /// As [`Mlp::forward`].
    pub fn loss(&self, (x, labels): &(Tensor, Vec<i32>)) -> Result<Tensor> {
        loss(&self.forward(x)?, labels)
    }
}

fn layer(matrix: &Matrix, norm: Option<&Norm>, x: &Tensor) -> Result<Tensor> {
    let x = match matrix {
        Matrix::Plain(linear) => linear.forward(x)?,
        Matrix::Viewed(linear) => linear.forward(x)?,
    };
    Ok(norm.map_or_else(|| Ok(x.clone()), |norm| norm.forward(&x))?.relu()?)
}

impl Module for Mlp {
    fn visit(&self, v: &mut Visitor<'_>) {
        for (n, (matrix, norm)) in self.layers.iter().enumerate() {
            match matrix {
                Matrix::Plain(linear) => v.module(&format!("layers.{n}"), linear),
                Matrix::Viewed(linear) => v.module(&format!("layers.{n}"), linear),
            }
            if let Some(norm) = norm {
                v.module(&format!("norms.{n}"), norm);
            }
        }
        v.module("head", &self.head);
    }
}
