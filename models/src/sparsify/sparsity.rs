//! How much of a matrix is kept, and where.

use std::fmt;

use wgrad::{DType, Tensor};

use super::one_shot::{Scope, smallest};
use crate::weights::Pattern;
use crate::{Error, Result};

/// What is kept of a matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sparsity {
    /// So many of each group of neighbours.
    Groups(Pattern),
    /// All but this share of the weights, wherever they are.
    Share(f64),
}

impl From<Pattern> for Sparsity {
    fn from(pattern: Pattern) -> Self {
        Sparsity::Groups(pattern)
    }
}

impl Sparsity {
    /// All but a share of the weights.
    ///
    /// # Errors
    /// If it is not above 0 and below 1.
    pub fn share(share: f64) -> Result<Self> {
        match share > 0.0 && share < 1.0 {
            true => Ok(Sparsity::Share(share)),
            false => Err(Error::argument("share", format!("{share} of the weights, expected above 0 and below 1"))),
        }
    }

    /// 1 for the largest scores of a matrix `[outputs, inputs]`, and 0 for the others. A share is left out of the whole matrix.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn mask(self, scores: &Tensor) -> Result<Tensor> {
        match self {
            Sparsity::Groups(pattern) => pattern.mask(scores),
            Sparsity::Share(share) => {
                let mask = smallest(std::slice::from_ref(scores), share, Scope::Matrix)?;
                mask.into_iter().next().ok_or_else(|| Error::argument("share", "no mask of a matrix"))
            }
        }
    }

    /// As [`mask`](Self::mask), but a share is left out of each row by itself: where scores of rows do not compare.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn mask_by_rows(self, scores: &Tensor) -> Result<Tensor> {
        match self {
            Sparsity::Groups(pattern) => pattern.mask(scores),
            Sparsity::Share(share) => {
                let (outputs, inputs) = (scores.size(0)?, scores.size(1)?);
                let kept = inputs - left_out(share, inputs);
                let ones = Tensor::ones(&[outputs, kept], DType::F32, scores.device())?;
                let places = scores.detach().contiguous()?.topk_places(kept, true)?;
                Ok(scores.zeros_like()?.cast(DType::F32)?.scatter(1, &places, &ones)?.cast(scores.dtype())?)
            }
        }
    }

    /// Errs if more of a matrix is left than its mask says, or the mask is none of this sparsity.
    ///
    /// # Errors
    /// Names the matrix.
    pub fn check(self, name: &str, rows: &Tensor, mask: &Tensor) -> Result<()> {
        let sound = match self {
            Sparsity::Groups(pattern) => pattern.is_exact(mask)? && pattern.most(rows)? <= pattern.keep(),
            Sparsity::Share(_) => {
                let count = |x: &Tensor| Ok::<_, Error>(x.ne(&x.zeros_like()?)?.cast(DType::F32)?.sum_all()?.item()?);
                count(rows)? <= count(mask)?
            }
        };
        if sound { Ok(()) } else { Err(Error::Check { message: format!("`{name}` did not become {self} sparse") }) }
    }
}

/// How many of so many weights are left out.
pub(super) fn left_out(share: f64, count: usize) -> usize {
    (share * count as f64).round() as usize
}

impl fmt::Display for Sparsity {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Sparsity::Groups(pattern) => pattern.fmt(f),
            Sparsity::Share(share) => write!(f, "{} %", 100.0 * share),
        }
    }
}

#[cfg(test)]
mod tests {
    use wgrad::Device;

    use super::*;

    #[test]
    fn shares_of_matrices_and_of_rows() {
        let scores = [1.0f32, 2.0, 3.0, 4.0, 50.0, 60.0, 70.0, 80.0];
        let scores = Tensor::from_slice(&scores, &[2, 4], &Device::new_cpu()).unwrap();
        let half = Sparsity::share(0.5).unwrap();
        assert_eq!(half.mask(&scores).unwrap().to_vec::<f32>().unwrap(), [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
        let by_rows = half.mask_by_rows(&scores).unwrap();
        assert_eq!(by_rows.to_vec::<f32>().unwrap(), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
        half.check("m", &scores.mul(&by_rows).unwrap(), &by_rows).unwrap();
        let sentence = half.check("m", &scores, &by_rows).unwrap_err().to_string();
        assert!(sentence.contains("`m`") && sentence.contains("50 %"), "{sentence}");
        for wrong in [0.0, 1.0, f64::NAN] {
            assert!(Sparsity::share(wrong).is_err());
        }
    }
}
