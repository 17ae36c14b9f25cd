//! SparseGPT (Frantar and Alistarh, 2023, arXiv 2301.00774): weights are left out column by column, and those to the right are changed so that the
//! layer's outputs on what it sees change least.

use wgrad::{DType, Tensor};

use super::Sparsity;
use super::factor::inverse_upper_factor;
use super::sparsity::left_out;
use crate::{Error, Result};

/// Columns whose changes are gathered before the columns behind them learn of them.
const BLOCK: usize = 128;
/// What is added to the diagonal of the Hessian, as a share of its mean.
const DAMP: f64 = 0.01;

/// The pruned and mended `weight [outputs, inputs]` of f32, and its mask. `products` is the mean of `x xᵀ` over the layer's inputs.
///
/// # Errors
/// If the inputs were not finite, or memory is exhausted.
pub fn sparse_gpt(weight: &Tensor, products: &Tensor, sparsity: Sparsity) -> Result<(Tensor, Tensor)> {
    let (outputs, inputs) = (weight.size(0)?, weight.size(1)?);
    let factor = Factor::new(products.to_f64_vec()?, inputs)?;
    let alive: Vec<f32> = factor.dead.iter().map(|&dead| if dead { 0.0 } else { 1.0 }).collect();
    let device = weight.device();
    let mut rest = weight.detach().mul(&Tensor::from_vec(alive, &[inputs], device)?)?;
    let (mut pruned, mut masks) = (Vec::new(), Vec::new());
    let width = match sparsity {
        Sparsity::Groups(pattern) => (BLOCK / pattern.of()).max(1) * pattern.of(),
        Sparsity::Share(_) => BLOCK,
    };
    for start in (0..inputs).step_by(width) {
        let end = (start + width).min(inputs);
        let mut block = Block::new(rest.narrow(1, 0, end - start)?.to_f64_vec()?, [start, end]);
        block.prune(&factor, sparsity);
        let tensor = |values: &[f64]| {
            Tensor::from_vec(values.iter().map(|&v| v as f32).collect(), &[outputs, end - start], device)
        };
        pruned.push(tensor(&block.weights)?);
        masks.push(tensor(&block.mask)?);
        if end < inputs {
            let behind =
                Tensor::from_vec(factor.part([start, end], [end, inputs]), &[end - start, inputs - end], device)?;
            rest = rest.narrow(1, end - start, inputs - end)?.sub(&tensor(&block.errors)?.matmul(&behind)?)?;
        }
    }
    let join = |parts: &[Tensor]| Tensor::concat(&parts.iter().collect::<Vec<_>>(), 1);
    Ok((join(&pruned)?.cast(weight.dtype())?, join(&masks)?.cast(DType::F32)?))
}

/// `U` with `H⁻¹ = Uᵀ U` of the damped Hessian.
struct Factor {
    upper: Vec<f64>,
    inputs: usize,
    /// Inputs that were always 0: their weights do not matter.
    dead: Vec<bool>,
}

impl Factor {
    fn new(products: Vec<f64>, inputs: usize) -> Result<Self> {
        let mut hessian: Vec<f64> = products.into_iter().map(|v| 2.0 * v).collect();
        let mut dead = vec![false; inputs];
        for (at, dead) in dead.iter_mut().enumerate() {
            let diagonal = &mut hessian[at * inputs + at];
            *dead = *diagonal == 0.0;
            if *dead {
                *diagonal = 1.0;
            }
        }
        let mean = (0..inputs).map(|at| hessian[at * inputs + at]).sum::<f64>() / inputs.max(1) as f64;
        (0..inputs).for_each(|at| hessian[at * inputs + at] += DAMP * mean);
        let upper = inverse_upper_factor(&hessian, inputs);
        let upper =
            upper.ok_or_else(|| Error::argument("sparsegpt", "the inputs of a layer are not finite numbers"))?;
        Ok(Factor { upper, inputs, dead })
    }

    fn part(&self, rows: [usize; 2], columns: [usize; 2]) -> Vec<f32> {
        let row = |row: usize| &self.upper[row * self.inputs..(row + 1) * self.inputs];
        (rows[0]..rows[1]).flat_map(|r| &row(r)[columns[0]..columns[1]]).map(|&v| v as f32).collect()
    }
}

/// Some columns of all rows.
struct Block {
    from: usize,
    width: usize,
    weights: Vec<f64>,
    mask: Vec<f64>,
    /// What pruning did to each weight, over the diagonal of the factor.
    errors: Vec<f64>,
}

impl Block {
    fn new(weights: Vec<f64>, [from, to]: [usize; 2]) -> Self {
        Block { from, width: to - from, mask: vec![1.0; weights.len()], errors: vec![0.0; weights.len()], weights }
    }

    /// Leaves a share of all weights of the block out, before any has changed.
    fn leave_out(&mut self, factor: &Factor, share: f64) {
        let scores: Vec<f64> = (0..self.weights.len())
            .map(|at| {
                let column = self.from + at % self.width;
                (self.weights[at] / factor.upper[column * factor.inputs + column]).powi(2)
            })
            .collect();
        let mut order: Vec<usize> = (0..scores.len()).collect();
        // Of equal scores the earlier stays.
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a)));
        order.iter().take(left_out(share, scores.len())).for_each(|&at| self.mask[at] = 0.0);
    }

    /// Row by row, since rows do not know of each other.
    fn prune(&mut self, factor: &Factor, sparsity: Sparsity) {
        let pattern = match sparsity {
            Sparsity::Groups(pattern) => Some(pattern),
            Sparsity::Share(share) => {
                self.leave_out(factor, share);
                None
            }
        };
        let &mut Block { from, width, .. } = self;
        let upper = |column: usize| &factor.upper[(from + column) * factor.inputs + from..][..width];
        let rows = self.weights.chunks_exact_mut(width).zip(self.mask.chunks_exact_mut(width));
        for ((weights, mask), errors) in rows.zip(self.errors.chunks_exact_mut(width)) {
            for column in 0..width {
                if let Some(pattern) = pattern.filter(|pattern| column % pattern.of() == 0) {
                    let group = column..width.min(column + pattern.of());
                    let score = |c: usize| (weights[c] / upper(c)[c]).powi(2);
                    let mut order: Vec<usize> = group.collect();
                    // Stable, so that of equal scores the smaller column is kept.
                    order.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
                    order.iter().skip(pattern.keep()).for_each(|&c| mask[c] = 0.0);
                }
                let of_column = upper(column);
                let kept = weights[column] * mask[column];
                let error = (weights[column] - kept) / of_column[column];
                (weights[column], errors[column]) = (kept, error);
                let right = weights[column + 1..].iter_mut().zip(&of_column[column + 1..]);
                right.for_each(|(weight, u)| *weight -= error * u);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use wgrad::Device;

    use super::*;
    use crate::weights::Pattern;

    /// A layer whose inputs are correlated: magnitude knows nothing of them, Wanda their sizes, SparseGPT all of it.
    #[test]
    fn the_more_a_method_knows_the_less_it_errs() {
        let device = Device::new_cpu();
        let (mut sums, mut free_sums) = ([0.0; 3], [0.0; 2]);
        for seed in 0..16 {
            device.set_seed(seed);
            let normal = |shape: &[usize]| Tensor::normal(0.0, 1.0, shape, DType::F32, &device).unwrap();
            let (tokens, inputs, outputs) = (400, 16, 12);
            let x = normal(&[tokens, inputs]).matmul(&normal(&[inputs, inputs])).unwrap().mul_scalar(0.5).unwrap();
            let weight = normal(&[outputs, inputs]);
            let y = x.linear(&weight, None).unwrap();
            let error = |pruned: &Tensor| {
                let off = x.linear(pruned, None).unwrap().sub(&y).unwrap();
                off.square().unwrap().sum_all().unwrap().item().unwrap()
                    / y.square().unwrap().sum_all().unwrap().item().unwrap()
            };
            let pattern = Pattern::TWO_OF_FOUR;
            let by = |scores: &Tensor| error(&pattern.mask(scores).unwrap().mul(&weight).unwrap());
            let magnitude = by(&weight.abs().unwrap());
            let sizes = x.square().unwrap().mean(&[0], false).unwrap().sqrt().unwrap();
            let wanda = by(&weight.abs().unwrap().mul(&sizes).unwrap());
            let products = x.transpose(0, 1).unwrap().matmul(&x).unwrap().mul_scalar(1.0 / tokens as f64).unwrap();
            let (mended, mask) = sparse_gpt(&weight, &products, pattern.into()).unwrap();
            assert!(pattern.is_exact(&mask).unwrap() && pattern.most(&mended).unwrap() == 2);
            // What is mended is better in each draw, sizes of inputs help on average.
            let mended = error(&mended);
            assert!(mended < magnitude.min(wanda), "seed {seed}: {magnitude} {wanda} {mended}");
            // Without groups, as many, against the largest.
            let half = Sparsity::share(0.5).unwrap();
            let (free, mask) = sparse_gpt(&weight, &products, half).unwrap();
            assert_eq!(mask.sum_all().unwrap().item().unwrap() as usize, outputs * inputs / 2);
            half.check("free", &free, &mask).unwrap();
            let largest = half.mask(&weight.abs().unwrap()).unwrap().mul(&weight).unwrap();
            free_sums[0] += error(&largest);
            free_sums[1] += error(&free);
            sums.iter_mut().zip([magnitude, wanda, mended]).for_each(|(sum, error)| *sum += error);
        }
        let [magnitude, wanda, mended] = sums;
        assert!(magnitude > 1.05 * wanda && wanda > 1.1 * mended, "{sums:?}");
        assert!(free_sums[0] > 1.1 * free_sums[1], "{free_sums:?}");
    }

    /// Blocks of columns are an order of the same sums.
    #[test]
    fn wide_layers_and_dead_inputs() {
        let device = Device::new_cpu();
        device.set_seed(1);
        let normal = |shape: &[usize]| Tensor::normal(0.0, 1.0, shape, DType::F32, &device).unwrap();
        // The last group of four is cut off.
        let (inputs, dead) = (275, 200);
        let x = normal(&[600, inputs]).matmul(&normal(&[inputs, inputs])).unwrap();
        let alive = (0..inputs).map(|at| if at == dead { 0.0f32 } else { 1.0 }).collect();
        let x = x.mul(&Tensor::from_vec(alive, &[inputs], &device).unwrap()).unwrap();
        let weight = normal(&[3, inputs]);
        let products = x.transpose(0, 1).unwrap().matmul(&x).unwrap().mul_scalar(1.0 / 600.0).unwrap();
        let (mended, mask) = sparse_gpt(&weight, &products, Pattern::TWO_OF_FOUR.into()).unwrap();
        assert!(Pattern::TWO_OF_FOUR.is_exact(&mask).unwrap());
        let zeros = mended.select(1, dead).unwrap().to_f64_vec().unwrap();
        assert_eq!(zeros, [0.0; 3]);
        // The same with all columns in one block, in plain f64.
        let factor = Factor::new(products.to_f64_vec().unwrap(), inputs).unwrap();
        let mut weights = weight.to_f64_vec().unwrap();
        (0..3).for_each(|row| weights[row * inputs + dead] = 0.0);
        let mut block = Block::new(weights, [0, inputs]);
        block.prune(&factor, Pattern::TWO_OF_FOUR.into());
        for (got, want) in mended.to_f64_vec().unwrap().iter().zip(&block.weights) {
            assert!((got - want).abs() < 1e-3 * (1.0 + want.abs()), "{got}, expected {want}");
        }
        let nan = products.mul_scalar(f64::NAN).unwrap();
        let sentence = sparse_gpt(&weight, &nan, Pattern::TWO_OF_FOUR.into()).unwrap_err().to_string();
        assert!(sentence.contains("finite"), "{sentence}");
    }
}
