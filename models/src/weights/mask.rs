//! Views of a matrix under a mask: a fixed one, and one that follows the weights while they are trained.

use wgrad::nn::{Module, Visitor};
use wgrad::{Tensor, no_grad};

use super::{Pattern, View};
use crate::Result;

/// The matrix times a mask of zeros and ones, which stays. Weights under a zero get no gradient.
pub struct Fixed(Tensor);

impl Fixed {
    /// Under this mask `[outputs, inputs]`, of the dtype of the weights.
    pub fn new(mask: &Tensor) -> Self {
        Fixed(mask.detach())
    }
}

impl View for Fixed {
    fn matrix(&self, weight: &Tensor) -> Result<Tensor> {
        Ok(weight.mul(&self.0)?)
    }
}

impl Module for Fixed {
    fn visit(&self, _: &mut Visitor<'_>) {}
}

/// The largest weights of each group, chosen anew each time. The gradient of what is seen goes straight to all weights, and those that are not
/// seen decay, so that they do not come and go (SR-STE: Zhou et al., Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch,
/// 2021, arXiv 2102.04010).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SrSte {
    /// What is kept.
    pub pattern: Pattern,
    /// Decay of the weights that are not kept: what is added to the gradient for each unit of the weight. The plain straight-through
    /// estimator has none.
    pub decay: f64,
}

impl View for SrSte {
    fn matrix(&self, weight: &Tensor) -> Result<Tensor> {
        let change = no_grad(|| {
            let weight = weight.detach();
            Ok::<_, crate::Error>(self.pattern.mask(&weight.abs()?)?.mul(&weight)?.sub(&weight)?)
        })?;
        // Either a weight as it is, or exactly 0; the derivative is 1 in both cases.
        Ok(weight.add(&change)?)
    }

    fn penalty(&self, weight: &Tensor, shown: &Tensor) -> Result<Option<Tensor>> {
        if self.decay == 0.0 {
            return Ok(None);
        }
        Ok(Some(weight.sub(&shown.detach())?.square()?.sum_all()?.mul_scalar(self.decay / 2.0)?))
    }
}

impl Module for SrSte {
    fn visit(&self, _: &mut Visitor<'_>) {}
}

#[cfg(test)]
mod tests {
    use wgrad::Device;

    use super::*;

    fn weight() -> Tensor {
        Tensor::from_slice(&[1.0f64, -3.0, 2.0, 0.5], &[1, 4], &Device::cpu()).unwrap().requires_grad()
    }

    #[test]
    fn gradients_go_straight_to_all_weights_and_unseen_ones_decay() {
        let weight = weight();
        let view = SrSte { pattern: Pattern::TWO_OF_FOUR, decay: 0.1 };
        let shown = view.matrix(&weight).unwrap();
        assert_eq!(shown.to_vec::<f64>().unwrap(), [0.0, -3.0, 2.0, 0.0]);
        let loss = shown.square().unwrap().sum_all().unwrap();
        let loss = loss.add(&view.penalty(&weight, &shown).unwrap().unwrap()).unwrap();
        let gradients = loss.backward().unwrap();
        let got = gradients.get(&weight).unwrap().to_vec::<f64>().unwrap();
        let want = [0.1, -6.0, 4.0, 0.05];
        assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-12), "{got:?}");
        assert!(SrSte { decay: 0.0, ..view }.penalty(&weight, &shown).unwrap().is_none());
    }

    #[test]
    fn masked_weights_get_no_gradient() {
        let weight = weight();
        let mask = Tensor::from_slice(&[0.0f64, 1.0, 1.0, 0.0], &[1, 4], &Device::cpu()).unwrap();
        let gradients = Fixed::new(&mask).matrix(&weight).unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(gradients.get(&weight).unwrap().to_vec::<f64>().unwrap(), [0.0, 1.0, 1.0, 0.0]);
    }
}
