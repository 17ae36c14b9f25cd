//! Rules that change parameters after a step of the optimizer.

use wgrad::nn::Param;
use wgrad::optim::{Adam, Group, Optimizer, Rule};
use wgrad::{Gradients, Tensor, no_grad};

use crate::Result;

/// Vectors of matrices that are brought back to length one (Loshchilov et al., nGPT, 2024, arXiv 2410.01131, section 2.6).
pub struct UnitVectors(Vec<(Param, isize)>);

impl UnitVectors {
    /// Of each matrix the vectors along a dimension.
    pub fn new(params: Vec<(Param, isize)>) -> Self {
        UnitVectors(params)
    }

    /// Brings them back.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn apply(&self) -> Result<()> {
        no_grad(|| {
            for (param, dim) in &self.0 {
                let value = param.tensor();
                let length = value.norm(2.0, &[*dim], true)?.clamp(Some(1e-12), None)?;
                param.set(&value.div(&length)?)?;
            }
            Ok(())
        })
    }

    /// The largest distance of a length from one.
    ///
    /// # Errors
    /// If the device fails.
    pub fn deviation(&self) -> Result<f64> {
        let mut most = 0.0f64;
        for (param, dim) in &self.0 {
            let length = param.tensor().detach().norm(2.0, &[*dim], false)?;
            most = most.max(length.add_scalar(-1.0)?.abs()?.max(&[], false)?.item()?);
        }
        Ok(most)
    }
}

/// AdamP (Heo et al., 2021, arXiv 2006.08217, algorithm 2): Adam, but for weights whose scale does not matter the part of an update that
/// points along the weights is left out. That the scale does not matter is told from gradients that are at right angles to the weights.
pub struct AdamP {
    optimizer: Optimizer,
    params: Vec<Param>,
    weight_decay: f64,
    delta: f64,
    decay_ratio: f64,
}

impl AdamP {
    /// For all of these parameters. Matrices decay as the settings say, a tenth of it where their scale does not matter; vectors do not.
    ///
    /// # Errors
    /// As [`Optimizer::new`].
    pub fn new(adam: Adam, learning_rate: f64, params: Vec<(String, Param)>) -> Result<Self> {
        let matrices = params.iter().filter(|(_, param)| param.shape().len() > 1).map(|(_, param)| param.clone());
        let (matrices, weight_decay) = (matrices.collect(), adam.weight_decay);
        let rule = Rule::AdamW(Adam { weight_decay: 0.0, ..adam });
        let optimizer = Optimizer::new(rule, learning_rate, vec![Group::new(params)])?;
        Ok(AdamP { optimizer, params: matrices, weight_decay, delta: 0.1, decay_ratio: 0.1 })
    }

    /// One update.
    ///
    /// # Errors
    /// If a gradient does not fit its parameter, or memory is exhausted.
    pub fn step(&mut self, gradients: &Gradients) -> Result<()> {
        let before: Vec<Tensor> = self.params.iter().map(|param| param.tensor().detach()).collect();
        self.optimizer.step(gradients)?;
        let decay = self.optimizer.learning_rate() * self.weight_decay;
        no_grad(|| {
            for (param, before) in self.params.iter().zip(before) {
                let Some(gradient) = param.gradient(gradients) else { continue };
                let update = param.tensor().detach().sub(&before)?;
                let rows = |x: &Tensor| x.reshape(&[x.size(0)? as isize, -1]);
                let (weight, gradient, update) = (rows(&before)?, rows(gradient)?, rows(&update)?);
                let by_row = self.free(&weight, &gradient, &[1])?;
                // Row by row if that fits, else the matrix as a whole if that does, else not at all: factors of 0 and 1.
                let whole = by_row.affine(-1.0, 1.0)?.mul(&self.free(&weight, &gradient, &[0, 1])?)?;
                let radial = along(&update, &weight, &[1])?.mul(&by_row)?;
                let radial = radial.add(&along(&update, &weight, &[0, 1])?.mul(&whole)?)?;
                let ratio = by_row.add(&whole)?.affine(self.decay_ratio - 1.0, 1.0)?;
                let kept = weight.mul(&ratio.affine(-decay, 1.0)?)?;
                let after = kept.add(&update)?.sub(&radial)?;
                let shape: Vec<isize> = param.shape().iter().map(|&n| n as isize).collect();
                param.set(&after.reshape(&shape)?.contiguous()?)?;
            }
            Ok(())
        })
    }

    /// 1 if all gradients are at right angles to their weights, else 0: cosines below `delta / sqrt(elements)`.
    fn free(&self, weight: &Tensor, gradient: &Tensor, dims: &[isize]) -> Result<Tensor> {
        let elements: usize = dims.iter().map(|&dim| weight.size(dim)).product::<wgrad::Result<usize>>()?;
        let length = |x: &Tensor| x.norm(2.0, dims, true);
        let lengths = length(weight)?.mul(&length(gradient)?)?.add_scalar(1e-30)?;
        let cosine = weight.mul(gradient)?.sum(dims, true)?.abs()?.div(&lengths)?.max(&[], false)?;
        let bound = Tensor::scalar(self.delta / (elements as f64).sqrt(), cosine.dtype(), cosine.device())?;
        Ok(cosine.lt(&bound)?.cast(weight.dtype())?)
    }
}

/// The part of `x` along `weight`.
fn along(x: &Tensor, weight: &Tensor, dims: &[isize]) -> Result<Tensor> {
    let square = weight.square()?.sum(dims, true)?.add_scalar(1e-30)?;
    Ok(weight.mul(&x.mul(weight)?.sum(dims, true)?.div(&square)?)?)
}

#[cfg(test)]
mod tests {
    use wgrad::Device;

    use super::*;

    #[test]
    fn lengths_become_one() {
        let device = Device::new_cpu();
        let param = || Param::new(&Tensor::from_vec(vec![3.0f32, 0.0, 4.0, 0.0], &[2, 2], &device).unwrap()).unwrap();
        let (rows, columns) = (param(), param());
        let unit = UnitVectors::new(vec![(rows.clone(), 1), (columns.clone(), 0)]);
        assert_eq!(unit.deviation().unwrap(), 4.0);
        unit.apply().unwrap();
        assert_eq!(rows.tensor().to_vec::<f32>().unwrap(), [1.0, 0.0, 1.0, 0.0]);
        // A vector of zeros has no direction: it stays.
        assert_eq!(columns.tensor().to_vec::<f32>().unwrap(), [0.6, 0.0, 0.8, 0.0]);
    }

    /// Two steps of the paper's algorithm in plain Rust.
    #[test]
    fn adamp_step_by_step() {
        let device = Device::new_cpu();
        // The first matrix has gradients at right angles to each row, the second to all of it alone, the third not at all.
        let matrices = [vec![1.0, 2.0, -1.0, 0.5], vec![1.0, 0.0, 0.0, 1.0], vec![1.0, 2.0, 3.0, 4.0]];
        let gradients = [vec![2.0, -1.0, 0.5, 1.0], vec![1.0, 0.3, 0.2, -1.0], vec![0.1, 0.2, -0.3, 0.4]];
        let tensor = |values: &[f64]| Tensor::from_slice(values, &[2, 2], &device).unwrap();
        let params: Vec<Param> = matrices.iter().map(|values| Param::new(&tensor(values)).unwrap()).collect();
        let named = params.iter().enumerate().map(|(n, param)| (n.to_string(), param.clone())).collect();
        let (rate, decay) = (0.01, 0.5);
        let mut optimizer = AdamP::new(Adam { weight_decay: decay, ..Adam::default() }, rate, named).unwrap();
        let loss =
            params.iter().zip(&gradients).map(|(param, g)| param.tensor().mul(&tensor(g)).unwrap().sum_all().unwrap());
        let loss = loss.reduce(|a, b| a.add(&b).unwrap()).unwrap();
        optimizer.step(&loss.backward().unwrap()).unwrap();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for (n, param) in params.iter().enumerate() {
            let (w, g) = (&matrices[n], &gradients[n]);
            // The first step of Adam is the sign of the gradient.
            let mut p: Vec<f64> = g.iter().map(|g| g / (g.abs() + 1e-8)).collect();
            let spans: &[(usize, usize)] = [&[(0, 2), (2, 4)][..], &[(0, 4)], &[]][n];
            for span in spans.iter().map(|&(from, to)| from..to) {
                let share = dot(&p[span.clone()], &w[span.clone()]) / dot(&w[span.clone()], &w[span.clone()]);
                span.clone().for_each(|i| p[i] -= share * w[i]);
            }
            let ratio = if spans.is_empty() { 1.0 } else { 0.1 };
            let got = param.tensor().to_vec::<f64>().unwrap();
            for i in 0..4 {
                let want = w[i] * (1.0 - rate * decay * ratio) - rate * p[i];
                assert!((got[i] - want).abs() < 1e-9, "matrix {n}, element {i}: {}, expected {want}", got[i]);
            }
        }
    }
}
