//! N:M sparsity: so many weights kept of each group of so many neighbours (Mishra et al., Accelerating Sparse Deep Neural Networks, 2021, arXiv
//! 2104.08378).

use std::fmt;
use std::str::FromStr;

use wgrad::Tensor;

use super::Matrix;
use crate::{Error, Result};

/// `keep` of each `of` neighbours along a row, the direction that a product sums over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    keep: usize,
    of: usize,
}

/// Weights of a group at most.
const LARGEST: usize = 32;

impl Pattern {
    /// 2:4, which is [packed](wgrad::Sparse24).
    pub const TWO_OF_FOUR: Pattern = Pattern { keep: 2, of: 4 };

    /// `keep` weights of each `of`.
    ///
    /// # Errors
    /// If `keep` is 0 or beyond `of`, or `of` beyond 32.
    pub fn new(keep: usize, of: usize) -> Result<Self> {
        match (1..=of).contains(&keep) && of <= LARGEST {
            true => Ok(Pattern { keep, of }),
            false => {
                let message = format!("{keep}:{of}, expected N:M with 1 <= N <= M <= {LARGEST}");
                Err(Error::argument("pattern", message))
            }
        }
    }

    /// Weights kept of a group.
    pub fn keep(self) -> usize {
        self.keep
    }

    /// Weights of a group.
    pub fn of(self) -> usize {
        self.of
    }

    /// Errs if there is a matrix whose rows are not whole groups.
    ///
    /// # Errors
    /// Names the matrix.
    pub fn fits(self, matrices: &[(String, Matrix)]) -> Result<()> {
        if matrices.is_empty() {
            return Err(Error::argument("pattern", "the model has no blocks with linear layers to make sparse"));
        }
        for (name, matrix) in matrices {
            let inputs = matrix.inputs();
            if !inputs.is_multiple_of(self.of) {
                let message = format!("`{name}` has {inputs} inputs, which groups of {} do not divide", self.of);
                return Err(Error::argument("pattern", message));
            }
        }
        Ok(())
    }

    /// 1 for the largest scores `[.., inputs]` of each group, of equal ones for those with the smaller column, and 0 for the others.
    ///
    /// # Errors
    /// If rows are not whole groups.
    pub fn mask(self, scores: &Tensor) -> Result<Tensor> {
        self.groups(scores)?;
        Ok(scores.n_of_m_mask(self.keep, self.of)?.cast(scores.dtype())?)
    }

    /// Whether in each group of a mask exactly as many are 1 as are kept, and the others 0.
    ///
    /// # Errors
    /// If rows are not whole groups.
    pub fn is_exact(self, mask: &Tensor) -> Result<bool> {
        let counts = self.groups(mask)?.sum(&[-1], false)?.to_f64_vec()?;
        let values = mask.to_f64_vec()?;
        Ok(counts.iter().all(|&count| count == self.keep as f64) && values.iter().all(|&v| v == 0.0 || v == 1.0))
    }

    /// The largest number of weights that are not 0 in a group of `weight [.., inputs]`.
    ///
    /// # Errors
    /// If rows are not whole groups.
    pub fn most(self, weight: &Tensor) -> Result<usize> {
        let used = weight.ne(&weight.zeros_like()?)?.cast(wgrad::DType::F32)?;
        let counts = self.groups(&used)?.sum(&[-1], false)?.to_f64_vec()?;
        Ok(counts.iter().fold(0.0f64, |most, &count| most.max(count)) as usize)
    }

    /// `[.., inputs / of, of]`
    fn groups(self, x: &Tensor) -> Result<Tensor> {
        let inputs = x.size(-1)?;
        if !inputs.is_multiple_of(self.of) {
            let message = format!("rows of {inputs}, which groups of {} do not divide", self.of);
            return Err(Error::argument("pattern", message));
        }
        let mut shape: Vec<isize> = x.shape().iter().map(|&n| n as isize).collect();
        shape.pop();
        shape.extend([(inputs / self.of) as isize, self.of as isize]);
        Ok(x.reshape(&shape)?)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}", self.keep, self.of)
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once(':').and_then(|(keep, of)| Some((keep.parse().ok()?, of.parse().ok()?)));
        let Some((keep, of)) = parts else {
            return Err(Error::argument("pattern", format!("{text:?}, expected N:M such as 2:4")));
        };
        Pattern::new(keep, of)
    }
}

#[cfg(test)]
mod tests {
    use wgrad::Device;

    use super::*;

    #[test]
    fn the_largest_of_each_group_stay_and_ties_go_to_the_smaller_column() {
        let device = Device::cpu();
        let scores = [1.0f32, 3.0, 2.0, 0.0, 5.0, 5.0, 5.0, 5.0, 0.0, 0.0, 0.0, 7.0];
        let scores = Tensor::from_slice(&scores, &[1, 12], &device).unwrap();
        let mask = Pattern::TWO_OF_FOUR.mask(&scores).unwrap();
        assert_eq!(mask.to_vec::<f32>().unwrap(), [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
        assert!(Pattern::TWO_OF_FOUR.is_exact(&mask).unwrap());
        assert!(!Pattern::new(1, 4).unwrap().is_exact(&mask).unwrap());
        assert!(!Pattern::TWO_OF_FOUR.is_exact(&mask.mul_scalar(2.0).unwrap()).unwrap());
        assert_eq!(Pattern::TWO_OF_FOUR.most(&scores).unwrap(), 4);
        let one = Pattern::new(1, 3).unwrap().mask(&scores).unwrap();
        assert_eq!(one.sum_all().unwrap().item().unwrap(), 4.0);
        assert_eq!(Pattern::new(4, 4).unwrap().mask(&scores).unwrap().sum_all().unwrap().item().unwrap(), 12.0);
    }

    #[test]
    fn patterns_are_read_and_checked() {
        assert_eq!("2:4".parse::<Pattern>().unwrap(), Pattern::TWO_OF_FOUR);
        assert_eq!("4:8".parse::<Pattern>().unwrap().to_string(), "4:8");
        for wrong in ["", "2", "2:", "0:4", "5:4", "a:b", "1:64"] {
            assert!(wrong.parse::<Pattern>().unwrap_err().to_string().contains("pattern"), "{wrong}");
        }
        let odd = Tensor::zeros(&[2, 6], wgrad::DType::F32, &Device::cpu()).unwrap();
        let sentence = Pattern::TWO_OF_FOUR.mask(&odd).unwrap_err().to_string();
        assert!(sentence.contains("rows of 6"), "{sentence}");
    }
}
