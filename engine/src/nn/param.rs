//! A parameter: a tensor that a module owns and an optimizer changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use super::packed::Packed;
use crate::autograd::GradRef;
use crate::layout::Dims;
use crate::{DType, Device, Error, Gradients, Result, Tensor};

/// A trainable tensor in a cell. Cloning gives another handle on the same parameter, which is how weights are tied.
///
/// Its value changes only as a whole: a tensor once handed out by [`Param::tensor`] stays as it was.
///
/// ```
/// use wgrad::{DType, Device, Tensor, nn::Param};
/// # fn main() -> wgrad::Result<()> {
/// let param = Param::new(&Tensor::from_slice(&[1.0f32, 2.0], &[2], &Device::cpu())?)?;
/// let before = param.tensor();
/// param.set(&Tensor::from_slice(&[3.0f32, 4.0], &[2], &Device::cpu())?)?;
/// assert_eq!(before.to_vec::<f32>()?, [1.0, 2.0]);
/// assert_eq!(param.tensor().to_vec::<f32>()?, [3.0, 4.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Param(pub(super) Arc<Inner>);

pub(super) struct Inner {
    /// The parameter's place in every graph: it stays when the value changes.
    leaf: GradRef,
    trainable: AtomicBool,
    /// Whether the first dimension of the matrix is that of its inputs.
    columns: AtomicBool,
    shape: Dims,
    dtype: DType,
    device: Device,
    value: RwLock<Tensor>,
    /// What is shown in place of the value.
    shown: RwLock<Option<Tensor>>,
    /// The value, if it is packed.
    pub(super) packed: RwLock<Option<Packed>>,
}

impl Param {
    /// A trainable parameter with this value.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn new(value: &Tensor) -> Result<Self> {
        value.expect_float("Param::new")?;
        Ok(Param(Arc::new(Inner {
            leaf: GradRef::leaf(),
            trainable: AtomicBool::new(true),
            columns: AtomicBool::new(false),
            shape: value.dims(),
            dtype: value.dtype(),
            device: value.device().clone(),
            value: RwLock::new(value.with_grad(None)),
            shown: RwLock::new(None),
            packed: RwLock::new(None),
        })))
    }

    /// The value as a leaf of the graph, untracked if the parameter is not trainable; or what [is shown](Param::show) in its place.
    pub fn tensor(&self) -> Tensor {
        if let Some(shown) = &*self.0.shown.read().unwrap_or_else(PoisonError::into_inner) {
            return shown.clone();
        }
        self.leaf()
    }

    /// The value as a leaf of the graph, whatever is shown in its place. A [packed](Self::set_packed) value is expanded, and is no leaf.
    pub fn leaf(&self) -> Tensor {
        // Without memory for it, what remains is NaN, which nobody takes for a weight.
        if let Some(Ok(dense)) = self.expanded() {
            return dense;
        }
        let value = self.0.value.read().unwrap_or_else(PoisonError::into_inner);
        // Always a handle of its own, so that the optimizer can count who looks at the memory.
        value.with_grad(self.is_trainable().then(|| self.0.leaf.clone()))
    }

    /// Replaces the value. Gradients of graphs recorded before still belong to this parameter.
    ///
    /// # Errors
    /// If shape, dtype or device differ from the parameter's.
    pub fn set(&self, value: &Tensor) -> Result<()> {
        self.expect_like("Param::set", value)?;
        *self.lock() = value.with_grad(None);
        *self.0.packed.write().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    /// Says that the first dimension is that of the inputs, as in GPT-2's matrices `[inputs, outputs]`, and not of the outputs.
    pub fn set_columns(&self) {
        self.0.columns.store(true, Ordering::Relaxed);
    }

    /// The parameter's shape as a matrix `[outputs, inputs]`: the first dimension by all others, or all others by the first
    /// [if that is of inputs](Self::set_columns).
    pub fn matrix_shape(&self) -> [usize; 2] {
        let first = self.shape().first().copied().unwrap_or(1);
        let rest = self.shape().iter().skip(1).product();
        if self.has_columns() { [rest, first] } else { [first, rest] }
    }

    /// A value of the parameter as a matrix of [this shape](Self::matrix_shape).
    ///
    /// # Errors
    /// If the value has another number of elements.
    pub fn as_matrix(&self, value: &Tensor) -> Result<Tensor> {
        let [outputs, inputs] = self.matrix_shape().map(|n| n as isize);
        if self.has_columns() {
            value.reshape(&[inputs, outputs])?.transpose(0, 1)
        } else {
            value.reshape(&[outputs, inputs])
        }
    }

    /// A matrix of [this shape](Self::matrix_shape) as a value of the parameter.
    ///
    /// # Errors
    /// If it is no matrix, or has another number of elements.
    pub fn of_matrix(&self, matrix: &Tensor) -> Result<Tensor> {
        let shape: Vec<isize> = self.shape().iter().map(|&n| n as isize).collect();
        if self.has_columns() { matrix.transpose(0, 1)?.reshape(&shape) } else { matrix.reshape(&shape) }
    }

    /// Shows modules a tensor in place of the value, until another is shown, or `None`: the value under a learned mask, for
    /// instance, or with a low-rank product added. Gradients flow to what it was computed from. The value stays as it is, and so
    /// does what optimizers and files see.
    ///
    /// ```
    /// use wgrad::{Device, Tensor, nn::Param};
    /// # fn main() -> wgrad::Result<()> {
    /// let weight = Param::new(&Tensor::from_slice(&[1.0f32, 2.0], &[2], &Device::cpu())?)?;
    /// let scale = Param::new(&Tensor::from_slice(&[3.0f32], &[1], &Device::cpu())?)?;
    /// weight.show(Some(weight.leaf().mul(&scale.tensor())?))?;
    /// let gradients = weight.tensor().sum_all()?.backward()?;
    /// assert_eq!(scale.gradient(&gradients).unwrap().to_vec::<f32>()?, [3.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If shape, dtype or device differ from the parameter's.
    pub fn show(&self, shown: Option<Tensor>) -> Result<()> {
        if let Some(shown) = &shown {
            self.expect_like("Param::show", shown)?;
        }
        *self.0.shown.write().unwrap_or_else(PoisonError::into_inner) = shown;
        Ok(())
    }

    /// Whether something is shown in place of the value.
    pub(super) fn shows(&self) -> bool {
        self.0.shown.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn expect_like(&self, op: &'static str, value: &Tensor) -> Result<()> {
        let (given, own) = (value.shape(), self.shape());
        if given != own {
            return Err(Error::shape(op, format!("a value of shape {given:?} for a parameter of shape {own:?}")));
        }
        self.expect_kind(op, value.dtype(), value.device())
    }

    pub(super) fn expect_kind(&self, op: &'static str, dtype: DType, device: &Device) -> Result<()> {
        if dtype != self.dtype() {
            return Err(Error::DType { op, got: dtype, expected: "the dtype of the parameter" });
        }
        if !device.same(self.device()) {
            let (left, right) = (self.device().to_string(), device.to_string());
            return Err(Error::DeviceMismatch { op, left, right });
        }
        Ok(())
    }

    /// The parameter's gradient, if there is one.
    pub fn gradient<'a>(&self, gradients: &'a Gradients) -> Option<&'a Tensor> {
        gradients.at(&self.0.leaf)
    }

    /// Sizes of the dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.0.shape.elements()
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// The device it lives on.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// Whether gradients flow to it.
    pub fn is_trainable(&self) -> bool {
        self.0.trainable.load(Ordering::Relaxed)
    }

    /// Whether the first dimension [is that of the inputs](Self::set_columns).
    pub fn has_columns(&self) -> bool {
        self.0.columns.load(Ordering::Relaxed)
    }

    /// Freezes the parameter, or thaws it. Graphs recorded before keep what they recorded.
    pub fn set_trainable(&self, trainable: bool) {
        self.0.trainable.store(trainable, Ordering::Relaxed);
    }

    /// Whether both are handles on one parameter.
    pub fn is(&self, other: &Param) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// A number that no other parameter of the process has.
    pub(crate) fn id(&self) -> u64 {
        self.0.leaf.node.id
    }

    pub(crate) fn dims(&self) -> Dims {
        self.0.shape
    }

    /// Exclusive access for an optimizer: nobody sees the value until the guard is dropped.
    pub(crate) fn lock(&self) -> RwLockWriteGuard<'_, Tensor> {
        self.0.value.write().unwrap_or_else(PoisonError::into_inner)
    }
}
