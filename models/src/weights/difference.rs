//! A few single weights of a frozen matrix that are trained (Ansell et al., Composable Sparse Fine-Tuning, 2021, arXiv 2110.07560).

use wgrad::nn::{Build, Init, Module, Param, Visitor};
use wgrad::{DType, Tensor};

use super::View;
use crate::{Error, Result};

/// `W + S`, where S is zero but for some places.
pub struct SparseDifference {
    shape: [usize; 2],
    /// Numbers of elements, row after row.
    places: Tensor,
    values: Param,
}

impl SparseDifference {
    /// A difference for a matrix `[outputs, inputs]` that starts at zero, with values at `places`, which are numbers of elements, row after
    /// row, each there once.
    ///
    /// # Errors
    /// If a place is outside the matrix or is there twice, or memory is exhausted.
    pub fn new(shape: [usize; 2], mut places: Vec<u32>, build: &Build) -> Result<Self> {
        places.sort_unstable();
        let elements = shape[0] * shape[1];
        if let Some(twice) = places.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::argument("places", format!("{} is there twice", twice[0])));
        }
        if let Some(last) = places.last().filter(|&&last| last as usize >= elements) {
            return Err(Error::argument("places", format!("{last} in a matrix {shape:?} of {elements} elements")));
        }
        Ok(SparseDifference {
            shape,
            places: Tensor::from_slice(&places, &[places.len()], &build.device)?,
            values: build.param(&[places.len()], Init::Zeros)?,
        })
    }

    /// The same with values at the `count` largest elements of `scores [outputs, inputs]`.
    ///
    /// # Errors
    /// As [`SparseDifference::new`].
    pub fn at_largest(scores: &Tensor, count: usize, build: &Build) -> Result<Self> {
        let (_, places) = scores.detach().flatten(0, 1)?.topk(count.min(scores.elements()), 0, true)?;
        Self::new([scores.size(0)?, scores.size(1)?], places.cast(DType::U32)?.to_vec::<u32>()?, build)
    }

    /// The difference `[outputs, inputs]`.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn difference(&self) -> Result<Tensor> {
        let [outputs, inputs] = self.shape;
        let values = self.values.tensor();
        let zeros = Tensor::zeros(&[outputs * inputs], values.dtype(), values.device())?;
        Ok(zeros.index_add(0, &self.places, &values)?.reshape(&[outputs as isize, inputs as isize])?)
    }
}

impl View for SparseDifference {
    fn matrix(&self, weight: &Tensor) -> Result<Tensor> {
        Ok(weight.add(&self.difference()?)?)
    }
}

impl Module for SparseDifference {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("values", &self.values);
    }
}

#[cfg(test)]
mod tests {
    use wgrad::Device;

    use super::*;

    #[test]
    fn values_stand_at_their_places_and_get_gradients() {
        let build = Build::new(&Device::new_cpu());
        let scores = Tensor::from_slice(&[3.0f32, -1.0, 7.0, 5.0, 0.0, 6.0], &[2, 3], &build.device).unwrap();
        let view = SparseDifference::at_largest(&scores, 2, &build).unwrap();
        view.values.set(&Tensor::from_slice(&[10.0f32, 20.0], &[2], &build.device).unwrap()).unwrap();
        let shown = view.matrix(&scores).unwrap();
        assert_eq!(shown.to_vec::<f32>().unwrap(), [3.0, -1.0, 17.0, 5.0, 0.0, 26.0]);
        let gradients = shown.square().unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(view.values.gradient(&gradients).unwrap().to_vec::<f32>().unwrap(), [34.0, 52.0]);
        assert!(SparseDifference::at_largest(&scores, 0, &build).is_ok());
        for (places, word) in [(vec![1, 4, 1], "twice"), (vec![6], "6 elements")] {
            let error = SparseDifference::new([2, 3], places, &build).err().unwrap().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
