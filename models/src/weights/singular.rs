//! Tuning of singular values alone (Sun et al., SVFit, 2024, arXiv 2409.05926).

use wgrad::Tensor;
use wgrad::nn::{Module, Param, Visitor};

use super::{Matrix, View, Views};
use crate::svd::Svd;
use crate::{Error, Result};

/// `W + U diag(s - s0) V^T`: the largest singular values `s0` of W are trained, its singular vectors and all else are frozen.
pub struct SingularValues {
    /// `[outputs, rank]`.
    left: Tensor,
    /// `[rank, inputs]`.
    right: Tensor,
    start: Tensor,
    values: Param,
}

impl SingularValues {
    /// The `rank` largest singular values of a matrix `[outputs, inputs]`, whose decomposition is computed on the host.
    ///
    /// # Errors
    /// If the rank is 0 or more than a side of the matrix, the matrix is not finite, or memory is exhausted.
    pub fn new(weight: &Tensor, rank: usize) -> Result<Self> {
        let [outputs, inputs] = [weight.size(0)?, weight.size(1)?];
        if rank == 0 || rank > outputs.min(inputs) {
            let message = format!("{rank}, expected 1 to {} for a matrix [{outputs}, {inputs}]", outputs.min(inputs));
            return Err(Error::argument("rank", message));
        }
        let (svd, device) = (Svd::of(weight)?, weight.device());
        let as_stored = |x: Tensor| x.cast(weight.dtype());
        let start = as_stored(svd.values(rank, device)?)?;
        Ok(SingularValues {
            left: as_stored(svd.left(rank, device)?)?,
            right: as_stored(svd.right(rank, device)?)?.transpose(0, 1)?.contiguous()?,
            values: Param::new(&start)?,
            start,
        })
    }

    /// Such a view over each of the matrices, of as many values as `rank` or as the matrix has. What is under them is frozen.
    ///
    /// # Errors
    /// As [`SingularValues::new`], naming the matrix.
    pub fn over(matrices: Vec<(String, Matrix)>, rank: usize) -> Result<Views> {
        Views::new(matrices, |name, matrix| {
            let weight = matrix.rows()?.detach();
            let rank = rank.min(weight.size(0)?).min(weight.size(1)?);
            let view = SingularValues::new(&weight, rank);
            matrix.param.set_trainable(false);
            Ok(Some(Box::new(view.map_err(|error| Error::config(format!("`{name}`: {error}")))?) as Box<dyn View>))
        })
    }
}

impl View for SingularValues {
    fn matrix(&self, weight: &Tensor) -> Result<Tensor> {
        let change = self.values.tensor().sub(&self.start)?;
        Ok(weight.add(&self.left.mul(&change)?.matmul(&self.right)?)?)
    }
}

impl Module for SingularValues {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("singular_values", &self.values);
    }
}

#[cfg(test)]
mod tests {
    use wgrad::{DType, Device};

    use super::*;

    #[test]
    fn starts_at_the_matrix_and_scales_its_own_directions() {
        let device = Device::new_cpu();
        device.set_seed(4);
        for (outputs, inputs, rank) in [(5, 3, 2), (3, 5, 3), (1, 4, 1), (4, 4, 4)] {
            let weight = Tensor::normal(0.0, 1.0, &[outputs, inputs], DType::F32, &device).unwrap();
            let view = SingularValues::new(&weight, rank).unwrap();
            let same = view.matrix(&weight).unwrap();
            assert_eq!(same.to_vec::<f32>().unwrap(), weight.to_vec::<f32>().unwrap());
            // The values that are trained are those of what is shown, the others stay.
            let doubled = view.start.mul_scalar(2.0).unwrap();
            view.values.set(&doubled).unwrap();
            let [old, new] = [&weight, &view.matrix(&weight).unwrap()].map(|matrix| Svd::of(matrix).unwrap().values);
            let mut want: Vec<f64> =
                old.iter().enumerate().map(|(at, s)| if at < rank { 2.0 * s } else { *s }).collect();
            want.sort_by(|a, b| b.total_cmp(a));
            assert!(new.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-5), "{new:?} {want:?}");
            // The derivative of the sum of all elements in a value is the product of the sums of its vectors.
            let gradients = view.matrix(&weight).unwrap().sum_all().unwrap().backward().unwrap();
            let got = view.values.gradient(&gradients).unwrap().to_f64_vec().unwrap();
            let sums = |side: &Tensor, axis| side.sum(&[axis], false).unwrap().to_f64_vec().unwrap();
            let (left, right) = (sums(&view.left, 0), sums(&view.right, 1));
            assert!((0..rank).all(|k| (got[k] - left[k] * right[k]).abs() < 1e-5), "{got:?}");
        }
    }

    #[test]
    fn ranks_outside_the_matrix_are_refused() {
        let weight = Tensor::ones(&[2, 3], DType::F32, &Device::new_cpu()).unwrap();
        for rank in [0, 3] {
            let error = SingularValues::new(&weight, rank).err().unwrap().to_string();
            assert!(error.contains("1 to 2") && error.contains("[2, 3]"), "{error}");
        }
    }
}
