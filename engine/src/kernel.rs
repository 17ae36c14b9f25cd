//! Compute kernels of the user: WGSL of one's own on the engine's buffers and in its stream.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::autograd::{record_many_without_backward, tracks};
use crate::device::gpu::{Bind, Launch};
use crate::device::unique_id;
use crate::kernels::window::window;
use crate::layout::{Dims, Layout};
use crate::{DType, Error, Result, Tensor};

/// Texts by name, for as long as the process runs.
static TEXTS: Mutex<Option<HashMap<&'static str, &'static str>>> = Mutex::new(None);

/// The text of a kernel of the user.
pub(crate) fn source(name: &str) -> Option<&'static str> {
    TEXTS.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.get(name).copied()
}

/// A handwritten WGSL kernel for GPU devices, usually the fused half of an [`autograd::Function`](crate::autograd::Function)
/// whose reference covers the CPU.
///
/// The text follows the rules of the engine's own kernels (`shaders/README.md`): entry point `main`; inputs and then outputs are
/// the bindings of group 0 from 0 up; parameters, if any, stand in the line `@group(1) @binding(0) var<uniform> p: Params;`; workgroups are numbered by
/// `wg.x + wg.y * nwg.x`, and there may be more of them than asked for. f16 and bf16 tensors come as words of two halves, bools as
/// words. Unlike the engine's own, these kernels run with the driver's bounds checks.
///
/// ```no_run
/// use wgrad::{DType, Device, Kernel, Tensor};
/// # fn main() -> wgrad::Result<()> {
/// let double = Kernel::new("double", "
///     @group(0) @binding(0) var<storage, read> x: array<f32>;
///     @group(0) @binding(1) var<storage, read_write> y: array<f32>;
///     @compute @workgroup_size(64)
///     fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
///             @builtin(local_invocation_index) local: u32) {
///         let i = (wg.x + wg.y * nwg.x) * 64u + local;
///         if (i < arrayLength(&y)) { y[i] = 2.0 * x[i]; }
///     }");
/// let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0], &[3], &Device::best()?)?;
/// let y = double.run(&[&x], &[(&[3], DType::F32)], &[], 1)?;
/// assert_eq!(y[0].to_vec::<f32>()?, [2.0, 4.0, 6.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    name: &'static str,
}

impl Kernel {
    /// A kernel of this text. Make it once: texts are kept until the process ends. The text is compiled at its first run.
    pub fn new(name: &str, wgsl: &str) -> Self {
        // Names of the user never meet: two kernels of one name are two kernels.
        let name: &'static str = Box::leak(format!("user/{name}#{}", unique_id()).into_boxed_str());
        let text: &'static str = Box::leak(wgsl.to_string().into_boxed_str());
        let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
        texts.get_or_insert_default().insert(name, text);
        Kernel { name }
    }

    /// Runs the kernel in `groups` workgroups on contiguous copies or views of `inputs`, and returns one new tensor for each
    /// shape and dtype in `outputs`. `params` are the bytes of its parameter struct, a multiple of 4, at most 128.
    ///
    /// The outputs carry no gradient: asking for one through them is an error.
    ///
    /// # Errors
    /// If there is no input, one is not on a GPU or they are on different ones, or
    /// the driver refuses the kernel.
    pub fn run(
        &self,
        inputs: &[&Tensor],
        outputs: &[(&[usize], DType)],
        params: &[u8],
        groups: u64,
    ) -> Result<Vec<Tensor>> {
        let op = "Kernel::run";
        let first = inputs.first().ok_or_else(|| Error::argument(op, "no input given, so no device known"))?;
        let device = first.device();
        let gpu = device.gpu_ref().ok_or_else(|| {
            Error::argument(op, "the tensors are on the CPU device, where WGSL does not run: compose operations there")
        })?;
        // A binding begins at the start of a buffer, so a view from its middle is copied.
        let dense = |x: &&Tensor| {
            first.expect_same_device(op, x)?;
            let x = x.detach();
            let whole = x.is_contiguous() && x.layout().offset == 0;
            if whole { Ok(window(gpu, &x).unwrap_or(x)) } else { x.copy() }
        };
        let dense: Vec<Tensor> = inputs.iter().map(dense).collect::<Result<_>>()?;
        let made: Vec<Tensor> = outputs
            .iter()
            .map(|&(shape, dtype)| {
                let shape: Dims = Layout::contiguous(op, shape)?.shape;
                Tensor::gpu_uninit(op, shape, dtype, device)
            })
            .collect::<Result<_>>()?;
        let mut bind = Vec::with_capacity(dense.len() + made.len());
        for x in &dense {
            bind.push(Bind::Read(x.gpu_buffer(op)?));
        }
        for y in &made {
            bind.push(Bind::Write(y.gpu_buffer(op)?));
        }
        gpu.run(Launch { kernel: self.name, elems: &[], constants: &[], bind: &bind, params, groups })?;
        Ok(if tracks(inputs) { record_many_without_backward(op, made, inputs) } else { made })
    }
}
