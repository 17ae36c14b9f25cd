//! Softmax cross-entropy against class indices: one kernel forward, which saves the logsumexp, and one backward.

use crate::autograd::record;
use crate::cpu::cross_entropy as cpu;
use crate::device::Kind;
use crate::device::gpu::Gpu;
use crate::kernels::{cross_entropy as kernels, rows, window};
use crate::layout::Dims;
use crate::ops::reduce;
use crate::ops::rows::{as_rows, from_rows, narrowed, prepared, trailing};
use crate::ops::view;
use crate::{DType, Error, Result, Tensor};

/// What becomes of the losses of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduction {
    /// Their sum divided by the weight of what was kept: the sum of row weight times class weight of the target, so the
    /// number of rows that are not ignored where there are no weights. 0 if nothing was kept.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// The losses themselves, in the shape of the targets.
    None,
}

/// Options of [`Tensor::cross_entropy`]. By default: every row counts once, hard targets, mean.
#[derive(Debug, Clone, Default)]
pub struct CrossEntropy {
    /// A target that says that its row has no loss and no gradient.
    pub ignore_index: Option<i64>,
    /// Probability spread evenly over all classes, in `[0, 1]`.
    pub label_smoothing: f64,
    /// A weight for each class, `[classes]`, not differentiated.
    pub class_weight: Option<Tensor>,
    /// A weight for each row, in the shape of the targets, not differentiated.
    pub row_weight: Option<Tensor>,
    /// What becomes of the losses of the rows.
    pub reduction: Reduction,
}

/// What the kernels need to know beside the logits.
#[derive(Clone)]
pub(crate) struct Problem {
    pub rows: usize,
    pub classes: usize,
    /// Contiguous, `[rows]`.
    pub targets: Tensor,
    /// Contiguous, `[classes]`, in the dtype that the kernel computes in.
    pub class_weight: Option<Tensor>,
    /// The ignored target as the bits of its 32-bit integer, if it is one.
    pub ignored: Option<u32>,
    pub smoothing: f64,
}

const OP: &str = "cross_entropy";

fn problem(logits: &Tensor, targets: &Tensor, options: &CrossEntropy) -> Result<Problem> {
    logits.expect_float(OP)?;
    targets.expect_int(OP)?;
    logits.expect_same_device(OP, targets)?;
    let (x, t) = (logits.shape(), targets.shape());
    let Some((&classes, rows)) = x.split_last() else {
        return Err(Error::shape(OP, "logits of rank 0, expected [rows.., classes]"));
    };
    if rows != t {
        return Err(Error::shape(OP, format!("targets of shape {t:?} for logits of shape {x:?}, expected {rows:?}")));
    }
    if classes == 0 && targets.elements() > 0 {
        return Err(Error::shape(OP, format!("logits of shape {x:?} have no class")));
    }
    let smoothing = options.label_smoothing;
    if !(0.0..=1.0).contains(&smoothing) {
        return Err(Error::argument(OP, format!("label smoothing is {smoothing}, expected 0 to 1")));
    }
    let weight = |name: &str, weight: &Option<Tensor>, shape: &[usize]| match weight {
        None => Ok(None),
        Some(w) if w.shape() != shape => {
            Err(Error::shape(OP, format!("{name} of shape {:?}, expected {shape:?}", w.shape())))
        }
        Some(w) => {
            w.expect_float(OP)?;
            logits.expect_same_device(OP, w)?;
            Ok(Some(()))
        }
    };
    weight("row weight", &options.row_weight, t)?;
    weight("class weight", &options.class_weight, &[classes])?;
    let wide = if logits.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let class_weight = match &options.class_weight {
        Some(w) => Some(view::contiguous(&w.detach().cast(wide)?)?),
        None => None,
    };
    // An index that the dtype of the targets cannot hold is never met.
    let ignored = options.ignore_index.and_then(|i| match targets.dtype() {
        DType::I32 => i32::try_from(i).ok().map(i32::cast_unsigned),
        _ => u32::try_from(i).ok(),
    });
    let rows = targets.elements();
    let targets = view::reshape_to(&view::contiguous(&targets.detach())?, Dims::new(OP, &[rows])?)?;
    Ok(Problem { rows, classes, targets, class_weight, ignored, smoothing })
}

pub(crate) fn cross_entropy(logits: &Tensor, targets: &Tensor, options: &CrossEntropy) -> Result<Tensor> {
    let problem = problem(logits, targets, options)?;
    let (shape, dtype) = (targets.dims(), logits.dtype());
    if problem.rows == 0 {
        let out = if options.reduction == Reduction::None { shape } else { Dims::default() };
        let out = Tensor::zeros(&out, dtype, logits.device())?;
        let logits = logits.clone();
        let zeros = logits.detach();
        return Ok(record(OP, out, &[&logits], move |_, _| Ok(vec![Some(zeros.zeros_like()?)])));
    }
    let x = prepared(logits)?;
    let stats = match x.device().kind() {
        Kind::Cpu(_) => cpu::forward(OP, &x, &problem)?,
        Kind::Gpu(gpu) => forward_in_pieces(gpu, &as_rows(OP, &x, problem.classes)?, &problem)?,
    };
    let rows = |i: usize| view::reshape_to(&view::slice(OP, &stats, 0, i, i + 1, 1)?, shape);
    let row_weight = match &options.row_weight {
        Some(w) => Some(w.detach().cast(stats.dtype())?),
        None => None,
    };
    let weighted = |t: Tensor| match &row_weight {
        Some(w) => t.mul(w),
        None => Ok(t),
    };
    let losses = weighted(rows(0)?)?;
    // What each row's loss is multiplied with to get the result, shape of the targets or of rank 0.
    let (out, scale) = match options.reduction {
        Reduction::None => (losses, row_weight.clone()),
        Reduction::Sum => (reduce::sum(OP, &losses, &[], false)?, row_weight.clone()),
        Reduction::Mean => {
            let kept = reduce::sum(OP, &weighted(rows(3)?)?, &[], false)?;
            let share = reduce::moments::divided(&kept.ones_like()?, &kept)?;
            let scale = match &row_weight {
                Some(w) => w.mul(&share)?,
                None => share.clone(),
            };
            (reduce::sum(OP, &losses, &[], false)?.mul(&share)?, Some(scale))
        }
    };
    let out = narrowed(&out, dtype)?;
    let saved = logits.detach();
    Ok(record(OP, out, &[logits], move |dy, _| {
        // For the CPU, logits in half precision are widened again rather than kept twice.
        let x = prepared(&saved)?;
        let dy = dy.detach().cast(stats.dtype())?;
        let gradient = match &scale {
            Some(scale) => dy.mul(scale)?,
            None => dy,
        };
        let gradient = view::contiguous(&view::expand(&gradient, &shape)?)?;
        let dx = match x.device().kind() {
            Kind::Cpu(_) => cpu::backward(OP, &x, &problem, &stats, &gradient)?,
            Kind::Gpu(gpu) => {
                let (rows, gradient) =
                    (as_rows(OP, &x, problem.classes)?, window::shaped(OP, &gradient, &[problem.rows])?);
                let dx = backward_in_pieces(gpu, &rows, &problem, &stats, &gradient)?;
                from_rows(&window::slice(&dx, 1, 0, problem.classes), x.dims(), 1)
            }
        };
        Ok(vec![Some(narrowed(&dx, saved.dtype())?)])
    }))
}

impl Problem {
    /// With these targets, which a kernel can bind, and such weights.
    fn seen(&self, gpu: &Gpu, targets: &Tensor) -> Result<Self> {
        let class_weight = self.class_weight.as_ref().map(|w| window::seen(gpu, w)).transpose()?;
        Ok(Problem { targets: targets.clone(), class_weight, ..self.clone() })
    }

    /// Of some of the rows.
    fn part(&self, start: usize, rows: usize) -> Self {
        Problem { rows, targets: window::slice(&self.targets, 0, start, rows), ..self.clone() }
    }
}

/// The kernel on rows `x` of any number: [5, rows].
fn forward_in_pieces(gpu: &Gpu, x: &Tensor, problem: &Problem) -> Result<Tensor> {
    let output = (Dims::new(OP, &[5, problem.rows])?, DType::F32);
    let inputs = [x.clone(), problem.targets.clone()];
    if let Some([x, targets]) = window::windows(gpu, &inputs, &[output]).as_deref() {
        return kernels::forward(OP, x, &problem.seen(gpu, targets)?);
    }
    if problem.rows < 2 {
        return Err(window::too_large(OP, gpu, &inputs, &[output]));
    }
    let bytes = window::bytes(x).max(DType::F32.gpu_bytes(5 * problem.rows));
    let length = window::length(gpu, problem.rows, bytes);
    window::one_side_by_side(OP, x.device(), output, 1, length, &mut |start, rows| {
        forward_in_pieces(gpu, &window::slice(x, 0, start, rows), &problem.part(start, rows))
    })
}

/// The gradient of rows `x`, in memory as [`rows::padded`]. `stats` is dense: [5, rows].
fn backward_in_pieces(gpu: &Gpu, x: &Tensor, problem: &Problem, stats: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let output = (rows::padded_shape(x.dims()), x.dtype());
    let inputs = [x.clone(), problem.targets.clone(), stats.clone(), gradient.clone()];
    if let Some([x, targets, stats, gradient]) = window::windows(gpu, &inputs, &[output]).as_deref() {
        return Ok(rows::padded(&kernels::backward(OP, x, &problem.seen(gpu, targets)?, stats, gradient)?));
    }
    if problem.rows < 2 {
        return Err(window::too_large(OP, gpu, &inputs, &[output]));
    }
    let bytes = inputs.iter().map(window::bytes).max().unwrap_or(0).max(output.1.gpu_bytes(output.0.elements()));
    let length = window::length(gpu, problem.rows, bytes);
    window::one_side_by_side(OP, x.device(), output, 0, length, &mut |start, rows| {
        let part = |x: &Tensor, d: usize| window::slice(x, d, start, rows);
        let stats = part(stats, 1).copy()?;
        backward_in_pieces(gpu, &part(x, 0), &problem.part(start, rows), &stats, &part(gradient, 0))
    })
}

/// [`Tensor::cross_entropy`] from primitive operations, for targets that are all classes (`ignore_index` is not looked at).
///
/// # Errors
/// As [`Tensor::cross_entropy`].
pub fn reference(logits: &Tensor, targets: &Tensor, options: &CrossEntropy) -> Result<Tensor> {
    let (_, classes) = trailing(logits.dims(), 1);
    let log_p = crate::ops::softmax::reference(true, logits, -1)?;
    let hot = targets.one_hot(classes)?.cast(logits.dtype())?;
    let ones = Tensor::ones(&[classes], logits.dtype(), logits.device())?;
    let weight = options.class_weight.clone().unwrap_or(ones);
    let target = hot.affine(1.0 - options.label_smoothing, options.label_smoothing / classes as f64)?;
    let losses = log_p.mul(&target)?.mul(&weight)?.sum(&[-1], false)?.neg()?;
    let weights = hot.mul(&weight)?.sum(&[-1], false)?;
    let (losses, weights) = match &options.row_weight {
        Some(w) => (losses.mul(w)?, weights.mul(w)?),
        None => (losses, weights),
    };
    match options.reduction {
        Reduction::None => Ok(losses),
        Reduction::Sum => losses.sum_all(),
        Reduction::Mean => losses.sum_all()?.div(&weights.sum_all()?),
    }
}
