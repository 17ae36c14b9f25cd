//! Inputs of an operation under test: host values that can be put on any device, in any float dtype, seen through a view.

use half::{bf16, f16};
use wgrad::{DType, Device, Result, Tensor};

use crate::Random;

/// One step from a stored tensor to the operand that an operation gets.
#[derive(Debug, Clone, PartialEq)]
pub enum View {
    /// `Tensor::permute`.
    Permute(Vec<isize>),
    /// `Tensor::slice`: dimension, start, stop, step.
    Slice(isize, usize, usize, usize),
    /// `Tensor::expand`.
    Expand(Vec<usize>),
    /// `Tensor::reshape`.
    Reshape(Vec<isize>),
}

impl View {
    /// The view of `x`.
    ///
    /// # Errors
    /// If `x` has no such view.
    pub fn of(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            View::Permute(axes) => x.permute(axes),
            View::Slice(dim, start, stop, step) => x.slice(*dim, *start, *stop, *step),
            View::Expand(shape) => x.expand(shape),
            View::Reshape(shape) => x.reshape(shape),
        }
    }
}

/// One input: values, and how the operand views them. Floats take the dtype of the check that runs.
#[derive(Debug, Clone)]
pub struct Input {
    /// Values in row-major order.
    pub values: Vec<f64>,
    /// Shape of the stored tensor.
    pub shape: Vec<usize>,
    /// Element type; every float dtype means "the float dtype of the check".
    pub dtype: DType,
    /// Steps from the stored tensor to the operand.
    pub views: Vec<View>,
    /// Whether the gradient with respect to the stored tensor is checked.
    pub differentiable: bool,
}

impl Input {
    /// Given float values.
    pub fn of(values: &[f64], shape: &[usize]) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "values for shape {shape:?}");
        let (values, shape) = (values.to_vec(), shape.to_vec());
        Input { values, shape, dtype: DType::F32, views: Vec::new(), differentiable: true }
    }

    /// Standard normal floats.
    pub fn normal(shape: &[usize], seed: u64) -> Self {
        let mut random = Random::new(seed);
        Input::with(shape, |_| random.normal())
    }

    /// Uniform floats in `[low, high)`.
    pub fn uniform(low: f64, high: f64, shape: &[usize], seed: u64) -> Self {
        let mut random = Random::new(seed);
        Input::with(shape, |_| random.uniform(low, high))
    }

    /// Different floats about zero in random order, at least `gap` apart from each other and half of it from zero: for
    /// operations with ties and kinks, such as maximum, sort or relu.
    pub fn distinct(gap: f64, shape: &[usize], seed: u64) -> Self {
        let mut order: Vec<usize> = (0..shape.iter().product()).collect();
        Random::new(seed).shuffle(&mut order);
        let middle = (order.len() / 2) as f64;
        Input::with(shape, |i| (order[i] as f64 - middle + 0.5) * gap)
    }

    /// Integers in `0..bound`.
    pub fn indices(bound: usize, shape: &[usize], dtype: DType, seed: u64) -> Self {
        let mut random = Random::new(seed);
        Input { dtype, differentiable: false, ..Input::with(shape, |_| random.below(bound) as f64) }
    }

    /// Truth values.
    pub fn bools(shape: &[usize], seed: u64) -> Self {
        Input::indices(2, shape, DType::Bool, seed)
    }

    fn with(shape: &[usize], value: impl FnMut(usize) -> f64) -> Self {
        let values: Vec<f64> = (0..shape.iter().product()).map(value).collect();
        Input::of(&values, shape)
    }

    /// The same, seen through one more view.
    #[must_use]
    pub fn view(mut self, view: View) -> Self {
        self.views.push(view);
        self
    }

    /// The same, but its gradient is not asked for.
    #[must_use]
    pub fn constant(self) -> Self {
        Input { differentiable: false, ..self }
    }

    /// The stored tensor on a device; floats as `float`. A leaf of the graph if it is differentiable.
    ///
    /// # Errors
    /// If the device cannot hold it.
    pub fn stored(&self, device: &Device, float: DType) -> Result<Tensor> {
        let dtype = if self.dtype.is_float() { float } else { self.dtype };
        let tensor = tensor(&self.values, &self.shape, dtype, device)?;
        Ok(if self.differentiable { tensor.requires_grad() } else { tensor })
    }

    /// What the operation gets.
    ///
    /// # Errors
    /// If there is no such view.
    pub fn operand(&self, stored: &Tensor) -> Result<Tensor> {
        self.views.iter().try_fold(stored.clone(), |x, view| view.of(&x))
    }
}

/// What the operation gets for all inputs.
pub(crate) fn operands(inputs: &[Input], stored: &[Tensor]) -> Result<Vec<Tensor>> {
    inputs.iter().zip(stored).map(|(input, tensor)| input.operand(tensor)).collect()
}

/// A tensor of `values` rounded to `dtype`.
pub(crate) fn tensor(values: &[f64], shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    fn map<T>(values: &[f64], f: impl Fn(f64) -> T) -> Vec<T> {
        values.iter().map(|&v| f(v)).collect()
    }
    match dtype {
        DType::F32 => Tensor::from_vec(map(values, |v| v as f32), shape, device),
        DType::F16 => Tensor::from_vec(map(values, f16::from_f64), shape, device),
        DType::BF16 => Tensor::from_vec(map(values, bf16::from_f64), shape, device),
        DType::F64 => Tensor::from_vec(values.to_vec(), shape, device),
        DType::I32 => Tensor::from_vec(map(values, |v| v as i32), shape, device),
        DType::U32 => Tensor::from_vec(map(values, |v| v as u32), shape, device),
        DType::Bool => Tensor::from_vec(map(values, |v| v != 0.0), shape, device),
    }
}

/// Weights of a loss over an output of this shape, as gradients come to an operation in the middle of a graph: random, and
/// not contiguous where the shape allows it.
pub(crate) fn cotangent(shape: &[usize], dtype: DType, device: &Device, seed: u64) -> Result<Tensor> {
    let mut random = Random::new(seed ^ 0xc07a_46e7);
    let backwards: Vec<usize> = shape.iter().rev().copied().collect();
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| 1.7 * random.normal()).collect();
    let axes: Vec<isize> = (0..shape.len() as isize).rev().collect();
    tensor(&values, &backwards, dtype, device)?.permute(&axes)
}
