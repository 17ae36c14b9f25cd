//! Linear layers whose matrix is normalised rather than their input.

use wgrad::nn::{Build, Init, Module, Param, Visitor};
use wgrad::{NormKind, NormOptions, Tensor, no_grad};

use crate::{Error, Result};

/// How the matrix `[outputs, inputs]` of a layer follows from its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WeightView {
    /// Weight normalization: `g v / |v|` for each row `v`, of length `g` (Salimans, Kingma 2016, arXiv:1602.07868).
    WeightNorm,
    /// Scaled weight standardization: `g (v - mean(v)) / sqrt(max(n var(v), eps))` for each row of `n` (Brock, De, Smith 2021,
    /// arXiv:2101.08692). The authors' eps is 1e-4. Of inputs of variance 1, the outputs have mean 0 and variance `g^2`.
    Standardized {
        /// The least sum of squares.
        eps: f64,
    },
    /// Rows of length 1, as nGPT has them where a row is an embedding (Loshchilov et al. 2024, arXiv:2410.01131).
    UnitRows,
    /// Columns of length 1.
    UnitColumns,
}

impl WeightView {
    /// The matrix. `gain [outputs]`, where there is one, multiplies the rows.
    ///
    /// # Errors
    /// If it is not a matrix of floats, or the gain does not fit.
    pub fn matrix(self, weight: &Tensor, gain: Option<&Tensor>) -> wgrad::Result<Tensor> {
        let rows = match self {
            WeightView::WeightNorm | WeightView::UnitRows => weight.l2_norm(-1, 0.0)?,
            WeightView::UnitColumns => weight.l2_norm(0, 0.0)?,
            WeightView::Standardized { eps } => {
                let centred = weight.row_norm(&NormOptions::new(NormKind::Centre, 0.0))?;
                let squares = centred.square()?.sum(&[-1], true)?.clamp(Some(eps), None)?;
                centred.mul(&squares.rsqrt()?)?
            }
        };
        gain.map_or_else(|| Ok(rows.clone()), |gain| rows.mul(&gain.unsqueeze(-1)?))
    }

    fn has_gain(self) -> bool {
        matches!(self, WeightView::WeightNorm | WeightView::Standardized { .. })
    }
}

/// `y = x W^T + bias` with `W` seen through a [`WeightView`].
pub struct NormedLinear {
    view: WeightView,
    weight: Param,
    gain: Option<Param>,
    bias: Param,
}

impl NormedLinear {
    /// A layer with new directions and gains of one.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn new(view: WeightView, inputs: usize, outputs: usize, build: &Build) -> Result<Self> {
        let gain = view.has_gain().then(|| build.param(&[outputs], Init::Ones)).transpose()?;
        let bias = build.param(&[outputs], Init::Zeros)?;
        Ok(NormedLinear { view, weight: build.weight(&[outputs, inputs])?, gain, bias })
    }

    /// The matrix, `[outputs, inputs]`.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn matrix(&self) -> Result<Tensor> {
        let gain = self.gain.as_ref().map(Param::tensor);
        Ok(self.view.matrix(&self.weight.tensor(), gain.as_ref())?)
    }

    /// The bias, `[outputs]`.
    pub fn bias(&self) -> &Param {
        &self.bias
    }

    /// Applies the layer to `x [.., inputs]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.linear(&self.matrix()?, Some(&self.bias.tensor()))?)
    }

    /// Sets gains and biases so that each output has mean 0 and variance 1 over the batch `x [.., inputs]` (Salimans, Kingma 2016,
    /// section 3).
    ///
    /// # Errors
    /// If the view has no gains, shapes do not fit, or an output does not vary.
    pub fn init_from(&self, x: &Tensor) -> Result<()> {
        let Some(gain) = &self.gain else {
            return Err(Error::argument("view", format!("{:?} has no gain to set", self.view)));
        };
        no_grad(|| {
            gain.set(&gain.tensor().ones_like()?)?;
            self.bias.set(&self.bias.tensor().zeros_like()?)?;
            let t = self.forward(x)?.reshape(&[-1, gain.elements() as isize])?;
            let (mean, std) = (t.mean(&[0], false)?, t.std(&[0], 0.0, false)?);
            if std.min(&[], false)?.item()? <= 0.0 {
                return Err(Error::argument("x", "an output is the same for the whole batch"));
            }
            gain.set(&std.reciprocal()?)?;
            Ok(self.bias.set(&mean.div(&std)?.neg()?)?)
        })
    }
}

impl Module for NormedLinear {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("weight", &self.weight);
        v.optional("gain", self.gain.as_ref());
        v.param("bias", &self.bias);
    }
}
