//! Which norm, and what of it is refused.

use crate::ops::rows::trailing;
use crate::{Error, Result, Tensor};

/// What a norm takes from a row `x` of `d` elements, and what it divides the row by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NormKind {
    /// Layer norm: `(x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps)` (Ba, Kiros, Hinton 2016, arXiv:1607.06450).
    Layer,
    /// Its first half alone, `x - mean(x)`: the projection along the vector of ones (Brody, Alon, Yahav 2023,
    /// arXiv:2305.02582). Has no eps.
    Centre,
    /// Its second half alone, the root-mean-square norm: `x / sqrt(mean(x^2) + eps)` (Zhang, Sennrich 2019, arXiv:1910.07467). Without a
    /// gain, the SimpleRMSNorm of TransNormerLLM (Qin et al. 2023, arXiv:2307.14995).
    Rms,
    /// Compressed root-mean-square norm: that of `x` and one more element, `-sum(x)`, which makes the row's sum zero, without that
    /// element: `x / sqrt((sum(x^2) + sum(x)^2) / (d + 1) + eps)` (Jiang et al. 2023, arXiv:2305.14858). Has no gain and no bias, which
    /// belong into the next layer.
    Crms,
    /// The unit p-norm, `p >= 1`: `x / (sum(|x|^p) + eps^p)^(1/p)`. With `p = 2`, L2 normalisation.
    Unit(f64),
    /// Layer norm by the p-norm, `p >= 1`: `(x - mean(x)) / (mean(|x - mean(x)|^p) + eps)^(1/p)`.
    Lp(f64),
}

/// Which elements of a row count in its statistics. All of the row is normalised by them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counted {
    /// How many, from the first on, count fully.
    pub first: usize,
    /// How much each of the others counts, 0 to 1.
    pub rest: f64,
}

/// A norm of rows: [`Tensor::row_norm`].
#[derive(Clone, Debug)]
pub struct NormOptions {
    /// Which.
    pub kind: NormKind,
    /// Keeps rows of zeros finite: see the formulas of [`NormKind`]. A row that nothing remains to divide by gives zeros.
    pub eps: f64,
    /// Factors of the result, of the shape of the last dimensions. Gets a gradient.
    pub gain: Option<Tensor>,
    /// Added to the result, of the same shape. Gets a gradient.
    pub bias: Option<Tensor>,
    /// How many dimensions, the last ones, are a row. If absent as many as gain, or else bias, has; one if there is neither.
    pub dims: Option<usize>,
    /// Statistics of a part of each row. With `n` the sum of what elements count, `mean` is over `n`. The statistic of the first few
    /// features is partial RMSNorm (Zhang, Sennrich 2019, section 4); with gain and bias masked alike it is the norm of a model that
    /// grows (masked structural growth, Yao et al. 2023, arXiv:2305.02869). Not for [`NormKind::Crms`].
    pub counted: Option<Counted>,
    /// Whether a row is divided by its largest deviation before the statistic is taken, at the price of one more pass over it, so that
    /// no square overflows (f32 and bf16 beyond 1e19) or vanishes (below 1e-22). The result is the same, since norms do not depend on scale
    /// (a pre-normaliser, as for f16 speech models on devices, NAACL 2024). f16 does not need it: sums are in f32. Powers other than 2
    /// always have it.
    pub safe: bool,
}

impl NormOptions {
    /// A norm of the last dimension, without gain and bias.
    pub fn new(kind: NormKind, eps: f64) -> Self {
        NormOptions { kind, eps, gain: None, bias: None, dims: None, counted: None, safe: false }
    }
}

/// Rows and numbers of one norm.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub rows: usize,
    pub cols: usize,
    /// Dimensions that a row spans.
    pub dims: usize,
    pub kind: NormKind,
    /// Added to the mean power.
    pub eps: f64,
    pub counted: Counted,
    pub safe: bool,
}

impl Plan {
    /// Checks what a norm is asked for.
    pub fn new(op: &'static str, x: &Tensor, options: &NormOptions) -> Result<Self> {
        x.expect_float(op)?;
        let &NormOptions { kind, eps, ref gain, ref bias, dims, counted, safe } = options;
        let dims = dims.unwrap_or(gain.as_ref().or(bias.as_ref()).map_or(1, Tensor::rank));
        if dims == 0 || dims > x.rank() {
            let shape = x.shape();
            return Err(Error::argument(
                op,
                format!("cannot normalise over the last {dims} dimensions of shape {shape:?}"),
            ));
        }
        if !eps.is_finite() || eps < 0.0 {
            return Err(Error::argument(op, format!("eps is {eps}, expected a number that is not negative")));
        }
        for (name, parameter) in [("gain", gain), ("bias", bias)] {
            let Some(parameter) = parameter else { continue };
            if kind == NormKind::Crms {
                return Err(Error::argument(op, format!("{kind:?} has no {name}: fold it into the next layer")));
            }
            expect_parameter(op, name, x, parameter, dims)?;
        }
        let (rows, cols) = trailing(x.dims(), dims);
        let all = Counted { first: cols, rest: 0.0 };
        let plan = Plan { rows, cols, dims, kind, eps, counted: counted.unwrap_or(all), safe };
        let power = plan.power();
        if !power.is_finite() || power < 1.0 {
            return Err(Error::argument(op, format!("the power is {power}, expected a number from 1 on")));
        }
        if let Some(Counted { first, rest }) = counted {
            if kind == NormKind::Crms {
                return Err(Error::argument(op, format!("{kind:?} counts all of a row, given {counted:?}")));
            }
            if first > cols || !(0.0..=1.0).contains(&rest) || plan.count() <= 0.0 && cols > 0 {
                let message = format!(
                    "{first} elements of {cols} counted and {rest} of each other, expected some of them and 0 to 1"
                );
                return Err(Error::argument(op, message));
            }
        }
        let eps = if let NormKind::Unit(p) = kind { eps.powf(p) } else { eps };
        Ok(Plan { eps, safe: safe || power != 2.0, ..plan })
    }

    /// Whether the mean is subtracted.
    pub fn centres(&self) -> bool {
        matches!(self.kind, NormKind::Layer | NormKind::Centre | NormKind::Lp(_))
    }

    /// Whether the row is divided by the root of its mean power.
    pub fn scales(&self) -> bool {
        self.kind != NormKind::Centre
    }

    pub fn power(&self) -> f64 {
        match self.kind {
            NormKind::Unit(p) | NormKind::Lp(p) => p,
            _ => 2.0,
        }
    }

    /// Whether some elements count less than others.
    pub fn is_partial(&self) -> bool {
        self.counted.first < self.cols && self.counted.rest < 1.0
    }

    /// The number of elements that count.
    pub fn count(&self) -> f64 {
        let Counted { first, rest } = self.counted;
        first as f64 + rest * self.cols.saturating_sub(first) as f64
    }

    /// What the sum of powers is divided by.
    pub fn divisor(&self) -> f64 {
        match self.kind {
            NormKind::Unit(_) => 1.0,
            NormKind::Crms => self.cols as f64 + 1.0,
            _ => self.count(),
        }
    }
}

/// Checks that a parameter has the shape of the trailing dimensions it is to scale or shift.
fn expect_parameter(op: &'static str, name: &str, x: &Tensor, parameter: &Tensor, dims: usize) -> Result<()> {
    x.expect_like(op, parameter)?;
    let lead = x.rank().saturating_sub(dims);
    if parameter.shape() == &x.shape()[lead..] {
        return Ok(());
    }
    let (p, x) = (parameter.shape(), x.shape());
    Err(Error::shape(op, format!("{name} of shape {p:?} is not the end of shape {x:?}, expected {:?}", &x[lead..])))
}
