//! Losses and other scalars, read late.

use crate::{DType, Device, Error, Result, Tensor};

const OP: &str = "Meter";

/// Collects scalars on the device, so that a training loop need not wait for the loss of each step.
///
/// ```
/// # fn main() -> wgrad::Result<()> {
/// let device = wgrad::Device::cpu();
/// let mut losses = wgrad::Meter::new(&device, 100)?;
/// for step in 0..10 {
///     let loss = wgrad::Tensor::scalar(f64::from(step), wgrad::DType::F32, &device)?;
///     losses.push(&loss)?; // waits for nothing
/// }
/// assert_eq!(losses.take()?.iter().sum::<f64>(), 45.0); // waits once
/// # Ok(())
/// # }
/// ```
pub struct Meter {
    device: Device,
    /// On a GPU: what was pushed since the last read, from the start.
    waiting: Option<Tensor>,
    capacity: usize,
    filled: usize,
    /// What is on the host already.
    values: Vec<f64>,
}

impl Meter {
    /// A meter of a device. It waits by itself when `capacity` scalars are on the device.
    ///
    /// # Errors
    /// If `capacity` is 0 or memory is exhausted.
    pub fn new(device: &Device, capacity: usize) -> Result<Self> {
        if capacity == 0 {
            return Err(Error::argument(OP, "capacity is 0, expected at least 1"));
        }
        let waiting = if device.is_gpu() { Some(Tensor::zeros(&[capacity], DType::F32, device)?) } else { None };
        Ok(Meter { device: device.clone(), waiting, capacity, filled: 0, values: Vec::new() })
    }

    /// Adds a tensor of one element, of any dtype.
    ///
    /// # Errors
    /// If it has another number of elements or is on another device.
    pub fn push(&mut self, value: &Tensor) -> Result<()> {
        if value.elements() != 1 {
            return Err(Error::shape(OP, format!("needs exactly one element, got shape {:?}", value.shape())));
        }
        if !value.device().same(&self.device) {
            let (left, right) = (self.device.to_string(), value.device().to_string());
            return Err(Error::DeviceMismatch { op: OP, left, right });
        }
        if self.filled == self.capacity {
            self.read()?;
        }
        let (Some(gpu), Some(waiting)) = (self.device.gpu_ref(), &self.waiting) else {
            self.values.push(value.item()?);
            return Ok(());
        };
        let value = value.detach().cast(DType::F32)?;
        let (from, to) = (4 * value.layout().offset as u64, 4 * self.filled as u64);
        let (source, target) = (value.gpu_buffer(OP)?, waiting.gpu_buffer(OP)?);
        gpu.copy(&source, from, &target, to, 4)?;
        self.filled += 1;
        Ok(())
    }

    /// How many scalars there are.
    pub fn len(&self) -> usize {
        self.values.len() + self.filled
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for the device, and takes all scalars out, in the order in which they came.
    ///
    /// # Errors
    /// If the device failed since the last wait.
    pub fn take(&mut self) -> Result<Vec<f64>> {
        self.read()?;
        Ok(std::mem::take(&mut self.values))
    }

    fn read(&mut self) -> Result<()> {
        if let Some(waiting) = self.waiting.as_ref().filter(|_| self.filled > 0) {
            let read = waiting.narrow(0, 0, self.filled)?.to_f64_vec()?;
            self.values.extend(read);
            self.filled = 0;
        }
        Ok(())
    }
}
