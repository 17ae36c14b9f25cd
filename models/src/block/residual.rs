//! Norms and factors around a part of a block.
//!
//! Every placement of norms is a value of [`Place`]: `y = residual_norm(keep * x + add * after_norm(f(scale * before_norm(x))))`.

use wgrad::Tensor;
use wgrad::nn::{Build, Dropout, Module, Visitor};

use crate::gain::{Gain, GainConfig};
use crate::norm::{Norm, NormConfig};
use crate::{Error, Result};

/// A factor of a residual or of what is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Factor {
    /// One.
    #[default]
    One,
    /// A constant.
    Constant(f64),
    /// Learned.
    Learned(GainConfig),
    /// Of the residual alone: one minus the factor of what is added.
    Rest,
}

/// Where the norms of a part of a block stand, by their names in a checkpoint, and how its result joins the residual stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Norm of what goes into the part.
    pub before: Option<&'static str>,
    /// Norm of what comes out of it.
    pub after: Option<&'static str>,
    /// Norm of the sum.
    pub residual: Option<&'static str>,
    /// Whether the residual is what the part sees, normalised, rather than what came in.
    pub from_normed: bool,
    /// Factor of what goes into the part.
    pub scale: f64,
    /// Factor of the residual.
    pub keep: Factor,
    /// Factor of what is added.
    pub add: Factor,
}

impl Place {
    /// No norm: `x + f(x)`.
    pub const NONE: Place = Place {
        before: None,
        after: None,
        residual: None,
        from_normed: false,
        scale: 1.0,
        keep: Factor::One,
        add: Factor::One,
    };

    /// `x + f(norm(x))`.
    pub const fn pre(norm: &'static str) -> Self {
        Place { before: Some(norm), ..Self::NONE }
    }

    /// `norm(x + f(x))`.
    pub const fn post(norm: &'static str) -> Self {
        Place { residual: Some(norm), ..Self::NONE }
    }

    /// `x + norm(f(x))`.
    pub const fn after(norm: &'static str) -> Self {
        Place { after: Some(norm), ..Self::NONE }
    }

    /// `x + after(f(before(x)))`.
    pub const fn both(before: &'static str, after: &'static str) -> Self {
        Place { before: Some(before), after: Some(after), ..Self::NONE }
    }
}

/// A part's norms and factors with their parameters.
pub struct Residual {
    place: Place,
    norms: [Option<Norm>; 3],
    factors: [Option<Gain>; 2],
    dropout: Dropout,
}

impl Residual {
    /// New norms of vectors of `width`; dropout is that of what is added.
    ///
    /// # Errors
    /// If what is added is said to have the rest of itself as its factor, or memory is exhausted.
    pub fn new(place: Place, norm: NormConfig, width: usize, dropout: f64, build: &Build) -> Result<Self> {
        if place.add == Factor::Rest {
            return Err(Error::config("the factor of what a part adds is `Rest`, which the residual alone may have"));
        }
        let new = |name: Option<&str>| name.map(|_| Norm::new(norm, width, build)).transpose();
        let factor = |factor: Factor| match factor {
            Factor::Learned(gain) => Gain::new(gain, width, build).map(Some),
            _ => Ok(None),
        };
        Ok(Residual {
            place,
            norms: [new(place.before)?, new(place.after)?, new(place.residual)?],
            factors: [factor(place.keep)?, factor(place.add)?],
            dropout: Dropout::new(dropout)?,
        })
    }

    /// What goes into the part. `real`, here and below, as for [`Norm::forward_real`].
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn input(&self, x: &Tensor, real: Option<&Tensor>) -> Result<Tensor> {
        let x = match &self.norms[0] {
            Some(norm) => norm.forward_real(x, real)?,
            None => x.clone(),
        };
        if self.place.scale == 1.0 { Ok(x) } else { Ok(x.mul_scalar(self.place.scale)?) }
    }

    /// Whether the part may add the residual itself, in the kernel of its last product.
    pub fn is_plain(&self) -> bool {
        let Place { keep, add, from_normed, .. } = self.place;
        let [_, after, residual] = &self.norms;
        after.is_none()
            && residual.is_none()
            && !from_normed
            && (keep, add) == (Factor::One, Factor::One)
            && self.dropout.probability() == 0.0
    }

    /// Applies the part `f`, which is given its input, and the residual that it is to add itself if it is plain.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn around(
        &self,
        x: &Tensor,
        real: Option<&Tensor>,
        f: impl FnOnce(&Tensor, Option<&Tensor>) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let input = self.input(x, real)?;
        if self.is_plain() {
            return f(&input, Some(x));
        }
        let out = f(&input, None)?;
        self.join(if self.place.from_normed { &input } else { x }, &out, real)
    }

    /// The residual stream after what came out of the part.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn join(&self, x: &Tensor, out: &Tensor, real: Option<&Tensor>) -> Result<Tensor> {
        let Place { keep, add, .. } = self.place;
        if let ([_, None, Some(norm)], Factor::One | Factor::Constant(_), Factor::One) = (&self.norms, keep, add) {
            let x = if let Factor::Constant(c) = keep { x.mul_scalar(c)? } else { x.clone() };
            return norm.forward_add(out, &x, self.dropout.probability(), real);
        }
        let mut out = self.dropout.forward(out)?;
        if let Some(norm) = &self.norms[1] {
            out = norm.forward_real(&out, real)?;
        }
        let times = |x: &Tensor, factor: Factor, gain: &Option<Gain>| match (factor, gain) {
            (Factor::Constant(c), _) => Ok(x.mul_scalar(c)?),
            (_, Some(gain)) => gain.forward(x),
            _ => Ok(x.clone()),
        };
        let (x, out) = match (keep, add) {
            // x + a (out - x) is (1 - a) x + a out.
            (Factor::Rest, _) => (x.clone(), times(&out.sub(x)?, add, &self.factors[1])?),
            _ => (times(x, keep, &self.factors[0])?, times(&out, add, &self.factors[1])?),
        };
        match &self.norms[2] {
            Some(norm) => norm.forward_add(&out, &x, 0.0, real),
            None => Ok(x.add(&out)?),
        }
    }
}

impl Module for Residual {
    fn visit(&self, v: &mut Visitor<'_>) {
        let Place { before, after, residual, .. } = self.place;
        for (name, norm) in [before, after, residual].into_iter().zip(&self.norms) {
            if let (Some(name), Some(norm)) = (name, norm) {
                v.module(name, norm);
            }
        }
        self.factors.iter().flatten().for_each(|gain| v.module("", gain));
        v.module("", &self.dropout);
    }
}

#[cfg(test)]
mod tests {
    use wgrad::Device;

    use super::*;

    /// What is added is dropped within the kernel of the norm, in training alone.
    #[test]
    fn dropout_before_the_norm_of_the_sum() {
        let device = Device::new_cpu();
        let build = Build::new(&device).with_dtype(wgrad::DType::F64);
        let x = Tensor::normal(0.0, 1.0, &[7, 16], wgrad::DType::F64, &device).unwrap();
        for keep in [Factor::One, Factor::Constant(1.5)] {
            let place = Place { keep, ..Place::post("norm") };
            let residual = Residual::new(place, NormConfig::layer(1e-5), 16, 0.5, &build).unwrap();
            let run = || {
                device.set_seed(3);
                residual.around(&x, None, |x, _| Ok(x.clone())).unwrap().to_f64_vec().unwrap()
            };
            let want = |out: Tensor| {
                let kept = x.mul_scalar(if keep == Factor::One { 1.0 } else { 1.5 }).unwrap();
                kept.add(&out).unwrap().layer_norm(None, None, 1e-5).unwrap().to_f64_vec().unwrap()
            };
            let same = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
            let trained = run();
            device.set_seed(3);
            assert!(same(&trained, &want(x.dropout(0.5).unwrap())), "{keep:?}");
            residual.train(false);
            assert!(same(&run(), &want(x.clone())) && !same(&run(), &trained), "{keep:?}");
        }
    }
}
