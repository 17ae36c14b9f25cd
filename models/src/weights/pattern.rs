//! N:M sparsity: so many weights kept of each group of so many neighbours (Mishra et al., Accelerating Sparse Deep Neural Networks, 2021, arXiv
//! 2104.08378).

use std::fmt;
use std::str::FromStr;

use wgrad::{PadMode, Tensor};

use crate::{Error, Result};

/// `keep` of each `of` neighbours along a row, the direction that a product sums over. The last group of a row may be cut off: of it too `keep`
/// are kept, or all if it has fewer.
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

    /// 1 for the largest scores `[.., inputs]` of each group, of equal ones for those with the smaller column, and 0 for the others.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn mask(self, scores: &Tensor) -> Result<Tensor> {
        Ok(scores.n_of_m_mask(self.keep, self.of)?.cast(scores.dtype())?)
    }

    /// Whether in each group of a mask exactly as many are 1 as are kept, and the others 0.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn is_exact(self, mask: &Tensor) -> Result<bool> {
        let inputs = mask.size(-1)?;
        let groups = inputs.div_ceil(self.of).max(1);
        let kept = |group: usize| self.keep.min(inputs - group * self.of) as f64;
        let counts = self.counts(mask)?;
        let values = mask.to_f64_vec()?;
        Ok(counts.iter().enumerate().all(|(at, &count)| count == kept(at % groups))
            && values.iter().all(|&v| v == 0.0 || v == 1.0))
    }

    /// The largest number of weights that are not 0 in a group of `weight [.., inputs]`.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn most(self, weight: &Tensor) -> Result<usize> {
        let used = weight.ne(&weight.zeros_like()?)?.cast(wgrad::DType::F32)?;
        Ok(self.counts(&used)?.iter().fold(0.0f64, |most, &count| most.max(count)) as usize)
    }

    /// The sum of each group of `x [.., inputs]`.
    fn counts(self, x: &Tensor) -> Result<Vec<f64>> {
        let x = self.whole(x)?;
        let groups = (x.size(-1)? / self.of) as isize;
        let mut shape: Vec<isize> = x.shape().iter().map(|&n| n as isize).collect();
        shape.pop();
        shape.extend([groups, self.of as isize]);
        Ok(x.reshape(&shape)?.sum(&[-1], false)?.to_f64_vec()?)
    }

    /// `x [.., inputs]`, zeros behind each row up to a whole group.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn whole(self, x: &Tensor) -> Result<Tensor> {
        let inputs = x.size(-1)?;
        let missing = inputs.next_multiple_of(self.of) - inputs;
        if missing == 0 {
            return Ok(x.clone());
        }
        let mut pads = vec![(0, 0); x.rank()];
        pads[x.rank() - 1].1 = missing as isize;
        Ok(x.pad(&pads, PadMode::Constant(0.0))?)
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
    }

    #[test]
    fn the_last_group_may_be_cut_off() {
        let rows = |values: &[f32]| Tensor::from_slice(values, &[2, values.len() / 2], &Device::cpu()).unwrap();
        let exact = |values: &[f32]| Pattern::TWO_OF_FOUR.is_exact(&rows(values)).unwrap();
        let mask = Pattern::TWO_OF_FOUR.mask(&rows(&[1.0, 2.0, 3.0, 4.0, 1.0, 4.0, 3.0, 2.0, 1.0, 1.0])).unwrap();
        assert_eq!(mask.to_vec::<f32>().unwrap(), [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0]);
        assert!(exact(&mask.to_vec::<f32>().unwrap()));
        assert!(!exact(&[0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]));
        assert!(exact(&[1.0, 0.0, 1.0, 1.0, 1.0, 0.0]) && !exact(&[1.0, 1.0, 1.0, 1.0, 1.0, 0.0]));
        assert_eq!(Pattern::TWO_OF_FOUR.most(&rows(&[1.0; 6])).unwrap(), 3);
    }
}
