//! Masks from a look at the weights, and at what goes into the layers.

use wgrad::nn::Module;
use wgrad::{DType, Tensor, no_grad};

use super::Sparsity;
use super::calibrate::{Statistic, listen};
use super::sparse_gpt::sparse_gpt;
use crate::block::Replay;
use crate::weights::Matrix;
use crate::{Error, Result};

/// How weights are chosen without training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OneShot {
    /// The largest stay.
    Magnitude,
    /// Those stay whose size times the size of their input is largest (Sun et al., A Simple and Effective Pruning Approach for Large Language
    /// Models, 2023, arXiv 2306.11695).
    Wanda,
    /// As [`sparse_gpt`](fn@super::sparse_gpt) chooses, and mends what is kept.
    SparseGpt,
}

impl OneShot {
    /// Name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            OneShot::Magnitude => "magnitude",
            OneShot::Wanda => "wanda",
            OneShot::SparseGpt => "sparsegpt",
        }
    }
}

/// Prunes these matrices of a model, and returns the masks in their order. `run` runs the model on texts to learn from, the same ones each
/// time, and is called once for each block: a block is pruned by what the pruned blocks before it give. Of the
/// [blocks](crate::block::Block) of the model but two compute then, that one and the one pruned before it. The model must be ready to infer.
///
/// # Errors
/// If there are no matrices, `run` fails or does not come by one, or memory is exhausted.
pub fn one_shot(
    model: &(impl Module + ?Sized),
    matrices: &[(String, Matrix)],
    method: OneShot,
    sparsity: Sparsity,
    run: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<Tensor>> {
    expect_some(matrices)?;
    let course = Course::new(model, matrices);
    let mut masks = Vec::with_capacity(matrices.len());
    for (number, block) in blocks(matrices).enumerate() {
        course.come_to(number);
        let seen = match method {
            OneShot::Magnitude => vec![None; block.len()],
            OneShot::Wanda => listen(block, Statistic::Squares, run)?.into_iter().map(Some).collect(),
            OneShot::SparseGpt => listen(block, Statistic::Products, run)?.into_iter().map(Some).collect(),
        };
        for ((name, matrix), seen) in block.iter().zip(seen) {
            masks.push(prune(name, matrix, seen.as_ref(), method, sparsity)?);
        }
    }
    Ok(masks)
}

/// Errs if there is no matrix to make sparse.
pub(super) fn expect_some(matrices: &[(String, Matrix)]) -> Result<()> {
    match matrices {
        [] => Err(Error::argument("sparsify", "the model has no blocks with linear layers to make sparse")),
        _ => Ok(()),
    }
}

/// Prunes a matrix by what was seen of its inputs, and returns the mask.
fn prune(name: &str, matrix: &Matrix, seen: Option<&Tensor>, method: OneShot, sparsity: Sparsity) -> Result<Tensor> {
    let weight = matrix.rows()?.detach().cast(DType::F32)?;
    let (pruned, mask) = match (method, seen) {
        (OneShot::SparseGpt, Some(products)) => sparse_gpt(&weight, products, sparsity)
            .map_err(|error| Error::argument("sparsegpt", format!("`{name}`: {error}")))?,
        (_, seen) => {
            let size = weight.abs()?;
            let mask = match seen {
                // Each output loses as much: sizes of inputs say nothing of how outputs compare.
                Some(squares) => sparsity.mask_by_rows(&size.mul(&squares.sqrt()?)?)?,
                None => sparsity.mask(&size)?,
            };
            (weight.mul(&mask)?, mask)
        }
    };
    let pruned = pruned.cast(matrix.param.dtype())?;
    matrix.param.set(&no_grad(|| matrix.stored(&pruned))?.contiguous()?)?;
    Ok(mask)
}

/// The blocks of a model while it is pruned from the first to the last, each with the number of the matrices that it holds.
struct Course(Vec<(usize, Replay)>);

impl Course {
    /// Blocks without any of these matrices compute all the time.
    fn new(model: &(impl Module + ?Sized), matrices: &[(String, Matrix)]) -> Self {
        let names: Vec<&str> = blocks(matrices).filter_map(|block| Some(block_of(&block.first()?.0))).collect();
        let numbered = |(name, replay): (String, Replay)| {
            Some((names.iter().position(|&matrix| matrix == block_of(&name))?, replay))
        };
        Course(Replay::of(model).into_iter().filter_map(numbered).collect())
    }

    /// Makes the model ready for the run in which the block of this number is listened to, the one before having been pruned.
    fn come_to(&self, now: usize) {
        for (number, replay) in &self.0 {
            match number {
                number if *number == now => replay.compute(),
                number if *number > now => replay.skip(),
                number if *number + 1 == now => replay.record(),
                _ => replay.replay(),
            }
        }
        // Nor need be kept what goes into a block that is not computed.
        for ((_, this), (next, _)) in self.0.iter().zip(self.0.iter().skip(1)) {
            if this.is_inner() && next + 1 < now {
                this.skip();
            }
        }
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        self.0.iter().for_each(|(_, replay)| replay.compute());
    }
}

/// The matrices block by block: as long as what stands before and in the first number of their names is the same.
pub(super) fn blocks(matrices: &[(String, Matrix)]) -> impl Iterator<Item = &[(String, Matrix)]> {
    matrices.chunk_by(|(a, _), (b, _)| block_of(a) == block_of(b))
}

fn block_of(name: &str) -> &str {
    let mut end = 0;
    for part in name.split('.') {
        end += part.len();
        if part.parse::<usize>().is_ok() {
            return &name[..end];
        }
        end += 1;
    }
    name
}

/// Over what the share of pruned weights is kept to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Each matrix by itself.
    Matrix,
    /// All of them together: some lose more than others.
    Model,
}

/// Masks of zeros and ones that leave out the `share` of the weights with the smallest scores; of equal ones those that come later. The scores
/// are `[outputs, inputs]` each.
///
/// # Errors
/// If the share is not between 0 and 1, or memory is exhausted.
pub fn smallest(scores: &[Tensor], share: f64, scope: Scope) -> Result<Vec<Tensor>> {
    if !(0.0..=1.0).contains(&share) {
        return Err(Error::argument("share", format!("{share} of the weights, expected 0 to 1")));
    }
    let flat = |score: &Tensor| Ok::<_, Error>(score.detach().cast(DType::F32)?.contiguous()?.reshape(&[-1])?);
    let flats: Vec<Tensor> = scores.iter().map(flat).collect::<Result<_>>()?;
    let mask = |flat: &Tensor| {
        let kept = flat.elements() - (share * flat.elements() as f64).round() as usize;
        let places = flat.topk_places(kept, true)?;
        Ok::<_, Error>(flat.zeros_like()?.scatter(0, &places, &Tensor::ones(&[kept], DType::F32, flat.device())?)?)
    };
    let masks = match scope {
        _ if flats.is_empty() => Vec::new(),
        Scope::Matrix => flats.iter().map(mask).collect::<Result<_>>()?,
        Scope::Model => {
            let sizes: Vec<usize> = flats.iter().map(Tensor::elements).collect();
            mask(&Tensor::concat(&flats.iter().collect::<Vec<_>>(), 0)?)?.split(&sizes, 0)?
        }
    };
    let shaped = masks.iter().zip(scores).map(|(mask, score)| {
        let shape: Vec<isize> = score.shape().iter().map(|&n| n as isize).collect();
        Ok(mask.reshape(&shape)?)
    });
    shaped.collect()
}

#[cfg(test)]
mod tests {
    use wgrad::Device;

    use super::*;

    #[test]
    fn blocks_by_name() {
        assert_eq!(block_of("model.layers.10.mlp.up_proj.weight"), "model.layers.10");
        assert_eq!(block_of("encoder.block.0.layer.1.DenseReluDense.wi.weight"), "encoder.block.0");
        assert_eq!(block_of("head.weight"), "head.weight");
    }

    #[test]
    fn shares_are_exact_by_matrix_and_by_model() {
        let device = Device::new_cpu();
        let small = Tensor::from_slice(&[0.1f32, 0.2, 0.3, 0.4], &[2, 2], &device).unwrap();
        let large = Tensor::from_slice(&[1.0f32, 1.0, 1.0, 2.0, 3.0, 4.0], &[2, 3], &device).unwrap();
        let masks = |share, scope| -> Vec<Vec<f32>> {
            let masks = smallest(&[small.clone(), large.clone()], share, scope).unwrap();
            assert_eq!(masks[1].shape(), [2, 3]);
            masks.iter().map(|mask| mask.to_vec().unwrap()).collect()
        };
        assert_eq!(masks(0.5, Scope::Matrix), [vec![0.0, 0.0, 1.0, 1.0], vec![0.0, 0.0, 0.0, 1.0, 1.0, 1.0]]);
        // Of equal scores the earlier stays.
        assert_eq!(masks(0.5, Scope::Model), [vec![0.0; 4], vec![1.0, 1.0, 0.0, 1.0, 1.0, 1.0]]);
        assert_eq!(masks(0.0, Scope::Model), [vec![1.0; 4], vec![1.0; 6]]);
        assert_eq!(masks(1.0, Scope::Matrix), [vec![0.0; 4], vec![0.0; 6]]);
        assert!(smallest(std::slice::from_ref(&small), 1.5, Scope::Model).unwrap_err().to_string().contains("1.5"));
        assert!(smallest(&[], 0.5, Scope::Model).unwrap().is_empty());
    }
}
