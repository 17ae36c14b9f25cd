//! What happens along the depth of a language model: the residual stream, and gradients block by block.

use wgrad::nn::{Module, Param};
use wgrad::{Gradients, Tensor, no_grad};

use crate::initial::Role;
use crate::lm::Lm;
use crate::{Result, heads};

/// One pass there and back.
pub struct Probe {
    /// The loss in nats for each token.
    pub loss: f64,
    /// Mean squares of the residual stream before the first block and after each.
    pub squares: Vec<f64>,
    /// Norms of the gradient of each block's matrices.
    pub blocks: Vec<f64>,
    /// Norm of the gradient of the last matrix of the last block.
    pub last: f64,
    /// All gradients.
    pub gradients: Gradients,
}

impl Probe {
    /// Runs a model on tokens and labels `[batch, length]`.
    ///
    /// # Errors
    /// If an id is outside the vocabulary, or the device fails.
    pub fn new(lm: &Lm, ids: &Tensor, labels: &Tensor) -> Result<Self> {
        let (logits, states) = lm.trace(ids)?;
        let loss = heads::cross_entropy(&logits, labels)?;
        let gradients = loss.backward()?;
        let blocks = block_norms(lm, |param| Ok(param.gradient(&gradients).cloned()))?;
        let layers = lm.config().blocks.len();
        let mut last = 0.0;
        for (name, param) in lm.named_parameters() {
            if let (Some((Role::Down, block)), Some(gradient)) = (Role::of(&name), param.gradient(&gradients))
                && block + 1 == layers
            {
                last = gradient.norm(2.0, &[], false)?.item()?;
            }
        }
        Ok(Probe { loss: loss.item()?, squares: mean_squares(&states)?, blocks, last, gradients })
    }
}

/// The mean square of each tensor.
///
/// # Errors
/// If the device fails.
pub fn mean_squares(states: &[Tensor]) -> Result<Vec<f64>> {
    numbers(states.iter().map(|x| Ok(x.detach().square()?.mean_all()?)))
}

/// Norms over all matrices of each block of what `of` gives for them.
///
/// # Errors
/// If the device fails.
pub fn block_norms(lm: &Lm, of: impl Fn(&Param) -> Result<Option<Tensor>>) -> Result<Vec<f64>> {
    let mut places = Vec::new();
    let mut sums = Vec::new();
    for (name, param) in lm.named_parameters() {
        if let Some((role, block)) = Role::of(&name)
            && !matches!(role, Role::Embedding | Role::Head)
            && let Some(x) = of(&param)?
        {
            places.push(block);
            sums.push(x.detach().square()?.sum_all()?);
        }
    }
    let mut norms = vec![0.0; lm.config().blocks.len()];
    for (block, sum) in places.into_iter().zip(numbers(sums.into_iter().map(Ok))?) {
        norms[block] += sum;
    }
    Ok(norms.into_iter().map(f64::sqrt).collect())
}

/// Tensors of one element, read at once.
fn numbers(tensors: impl Iterator<Item = Result<Tensor>>) -> Result<Vec<f64>> {
    let tensors = no_grad(|| tensors.collect::<Result<Vec<_>>>())?;
    if tensors.is_empty() {
        return Ok(Vec::new());
    }
    Ok(Tensor::stack(&tensors.iter().collect::<Vec<_>>(), 0)?.to_f64_vec()?)
}

/// The largest of some numbers over the smallest.
pub fn spread(values: &[f64]) -> f64 {
    let (low, high) = values.iter().fold((f64::MAX, 0.0f64), |(low, high), &v| (low.min(v), high.max(v)));
    high / low
}

/// The standard deviation of some numbers over their mean.
pub fn variation(values: &[f64]) -> f64 {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt() / mean
}

/// The exponent `a` of the power law `y = c x^a` that fits points best in logarithms.
pub fn exponent(points: &[(f64, f64)]) -> f64 {
    let logs = || points.iter().map(|(x, y)| (x.ln(), y.ln()));
    let count = points.len().max(1) as f64;
    let (mx, my) = logs().fold((0.0, 0.0), |(mx, my), (x, y)| (mx + x / count, my + y / count));
    let (over, under) = logs().fold((0.0, 0.0), |(o, u), (x, y)| (o + (x - mx) * (y - my), u + (x - mx) * (x - mx)));
    over / under
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_plain_numbers() {
        assert_eq!(spread(&[2.0, 6.0, 3.0]), 3.0);
        assert!((variation(&[1.0, 3.0]) - 0.5).abs() < 1e-12);
        let law: Vec<(f64, f64)> = [1.0, 2.0, 8.0].map(|x: f64| (x, 3.0 * x.powf(-0.5))).to_vec();
        assert!((exponent(&law) + 0.5).abs() < 1e-12);
    }
}
