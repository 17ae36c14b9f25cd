//! Matrix products on the GPU: one pass, or two where k is cut into slices or halves cannot be stored in pairs.

mod cut;
mod packed;
mod params;
mod table;
mod units;

use std::sync::Arc;

pub(crate) use packed::{Packed, packed_product};
pub use table::{MatmulFamily, force_matmul};

use super::{flag, window};
use crate::device::gpu::{Bind, Gpu, Launch, Operand};
use crate::ops::matmul::{Finish, Output, Product};
use crate::{DType, Device, Dims, Error, Result, Tensor};
use params::Params;
use table::{Plan, choose, forced, groups, shape};

/// The families that run on a device, for tests and benchmarks; none on the CPU.
pub fn matmul_families(device: &Device) -> Vec<MatmulFamily> {
    let runs = |family: &MatmulFamily| device.gpu_ref().is_some_and(|gpu| family.runs_on(gpu.caps()));
    MatmulFamily::ALL.into_iter().filter(runs).collect()
}

/// The finished product, in the dtype of its operands.
pub(crate) fn product(gpu: &Arc<Gpu>, product: &Product) -> Result<Output> {
    let halves = product.a.dtype() == DType::F16 && product.b.dtype() == DType::F16;
    let device = product.a.device();
    run(gpu, product, product.a.dtype(), &|p| match forced(p) {
        Some(plan) => plan,
        None => choose(gpu.caps(), p, halves, |family| units::usable(gpu, device, family)),
    })
}

/// Chooses how to run a product.
type Planner<'a> = dyn Fn(&Params) -> Plan + 'a;

fn run(gpu: &Arc<Gpu>, product: &Product, dtype: DType, plan: &Planner) -> Result<Output> {
    let &Product { op, finish, .. } = product;
    let (a, b) = (readable(product.a)?, readable(product.b)?);
    let Some((a, b)) = cut::windows(gpu, &Product { op, a: &a, b: &b, finish })? else {
        return cut::cut(gpu, &Product { op, a: &a, b: &b, finish }, dtype, plan);
    };
    let bias = finish.bias.map(|x| window::seen(gpu, &x.contiguous()?)).transpose()?;
    let residual = finish.residual.map(|x| window::seen(gpu, &aligned(x)?)).transpose()?;
    let finish = Finish { bias: bias.as_ref(), residual: residual.as_ref(), ..finish };
    let product = Product { op, a: &a, b: &b, finish };
    let Some(params) = Params::new(&product)? else {
        // A batch of more than two dimensions that do not merge.
        let (a, b) = (dense(&a)?, dense(&b)?);
        return run(gpu, &Product { op, a: &a, b: &b, finish }, dtype, plan);
    };
    let output = output(&product, (product.shape()?, dtype))?;
    if output.y.elements() > 0 {
        let operands = Operands { op, a: &a, b: &b, words: None, finish };
        launch(gpu, &operands, params, plan(&params), &output)?;
    }
    Ok(output)
}

/// Memory for what a product gives.
fn output(product: &Product, (shape, dtype): window::Output) -> Result<Output> {
    let make = || Tensor::gpu_uninit(product.op, shape, dtype, product.a.device());
    Ok(Output { y: make()?, z: if product.finish.keep { Some(make()?) } else { None } })
}

/// What a kernel reads; with `words`, b is the values of a packed 2:4 matrix.
struct Operands<'a> {
    op: &'static str,
    a: &'a Tensor,
    b: &'a Tensor,
    words: Option<&'a Tensor>,
    finish: Finish<'a>,
}

fn launch(gpu: &Arc<Gpu>, operands: &Operands, params: Params, plan: Plan, output: &Output) -> Result<()> {
    let &Operands { op, a, b, words, finish } = operands;
    let Output { y: out, z: kept } = output;
    let (dtype, of_a) = (out.dtype(), a.dtype());
    if !plan.family.runs_on(gpu.caps()) || plan.family.on_units() && of_a != DType::F16 {
        let message =
            format!("{:?} kernels were asked for, which {} cannot run for {of_a}", plan.family, gpu.caps().name);
        return Err(Error::argument(op, message));
    }
    let (mut p, left, right) = if plan.swapped { (params.transposed(), b, a) } else { (params, a, b) };
    // Whole fours, so that a slice begins where a vec4 does.
    p.depth = p.k.div_ceil(plan.slices.max(1)).next_multiple_of(4).max(4);
    p.slices = p.k.div_ceil(p.depth).max(1);
    let most = gpu.caps().max_binding_bytes / (4 * u64::from(p.c_slice)).max(1);
    if u64::from(p.slices) > most {
        // The sums of all slices are one binding.
        p.depth = p.k.div_ceil((most as u32).max(1)).next_multiple_of(4);
        p.slices = p.k.div_ceil(p.depth);
    }
    // Halves that do not fall into pairs are packed by the second pass.
    let partial = p.slices > 1 || dtype.is_half() && p.store() == 1;
    let workspace = match partial {
        true => Some(scratch(op, p.slices as usize * p.c_slice as usize, DType::F32, out)?),
        false => None,
    };
    let target = workspace.as_ref().unwrap_or(out);
    let store = match p.store() {
        2 if !target.dtype().is_half() => 1,
        store => store,
    };
    let shape = shape(gpu.caps(), plan.family, &p);
    let (of_a, of_b) = (p.access_a(), p.access_b());
    // A packed matrix consists of whole groups of four.
    let b_fours = of_b.fours || words.is_some();
    let mut constants = shape.constants;
    constants.extend([
        ("A_ALONG_K", flag(of_a.along_k)),
        ("B_ALONG_K", flag(of_b.along_k)),
        ("A_FOURS", flag(of_a.fours)),
        ("B_FOURS", flag(b_fours)),
        ("STORE", f64::from(store)),
        ("PARTIAL", flag(partial)),
    ]);
    let groups = u64::from(p.slices) * groups((shape.rows, shape.columns), &p);
    if plan.family.takes_packed() {
        constants.push(("B_PACKED", flag(words.is_some())));
    }
    // Without words the binding is idle.
    let read = [left, right, words.unwrap_or(right)];
    let typed = [("a", left.dtype()), ("b", right.dtype())];
    let pass = Pass {
        op,
        kernel: shape.kernel,
        constants,
        // On matrix units the operands are f16 as such, not words of two.
        elems: if plan.family.on_units() { &[] } else { &typed },
        operands: if plan.family.takes_packed() { &read } else { &read[..2] },
        finish: if partial { Finish::default() } else { finish },
        out: target,
        kept: if partial { None } else { kept.as_ref() },
        groups,
        operations: 2 * u64::from(p.batch) * u64::from(p.m) * u64::from(p.n) * u64::from(p.k),
    };
    pass.run(gpu, &p)?;
    let Some(workspace) = workspace else { return Ok(()) };
    let mut params = params;
    params.slices = p.slices;
    finish_sums(gpu, op, &workspace, &params, finish, output)
}

/// The second pass: from the sums of slices to the result.
fn finish_sums(
    gpu: &Arc<Gpu>,
    op: &'static str,
    sums: &Tensor,
    params: &Params,
    finish: Finish,
    output: &Output,
) -> Result<()> {
    let pass = Pass {
        op,
        kernel: "matmul/finish",
        constants: vec![("WORKGROUP", 64.0)],
        elems: &[],
        operands: &[sums],
        finish,
        out: &output.y,
        kept: output.z.as_ref(),
        groups: u64::from(params.c_slice / 4).div_ceil(64),
        operations: 0,
    };
    pass.run(gpu, params)
}

/// One launch of a kernel that stores through `shaders/common/product.wgsl`.
struct Pass<'a> {
    op: &'static str,
    kernel: &'static str,
    constants: Vec<(&'static str, f64)>,
    elems: &'a [(&'static str, DType)],
    operands: &'a [&'a Tensor],
    finish: Finish<'a>,
    out: &'a Tensor,
    kept: Option<&'a Tensor>,
    groups: u64,
    operations: u64,
}

impl Pass<'_> {
    fn run(mut self, gpu: &Arc<Gpu>, params: &Params) -> Result<()> {
        let (op, finish) = (self.op, self.finish);
        self.constants.extend([
            ("HAS_BIAS", flag(finish.bias.is_some())),
            ("HAS_RESIDUAL", flag(finish.residual.is_some())),
            ("ACTIVATION", f64::from(finish.activation.map_or(0, |f| f.op() as u32))),
            ("KEEP", flag(self.kept.is_some())),
        ]);
        // Bindings that this variant does not touch still need a buffer.
        let first = self.operands[0].gpu_buffer(op)?;
        let written = scratch(op, 4, self.out.dtype(), self.out)?;
        let idle = (self.out.dtype(), Bind::Read(Operand::new(&first, 0)));
        let (of_bias, bias) = read(op, finish.bias)?.unwrap_or(idle);
        let (of_residual, residual) = read(op, finish.residual)?.unwrap_or(idle);
        let of_c = self.out.dtype();
        let z = self.kept.unwrap_or(&written);
        let elems = [("bias", of_bias), ("residual", of_residual), ("c", of_c), ("z", of_c)];
        let mut bind = vec![bias, residual, Bind::Write(self.out.gpu_buffer(op)?), Bind::Write(z.gpu_buffer(op)?)];
        for x in self.operands {
            bind.push(Bind::Read(x.gpu_buffer(op)?));
        }
        let launch = Launch {
            kernel: self.kernel,
            elems: &[self.elems, &elems].concat(),
            constants: &self.constants,
            bind: &bind,
            params: bytemuck::bytes_of(params),
            groups: self.groups,
        };
        gpu.run_counted(launch, self.operations)
    }
}

/// The dtype and the binding of an operand that may be missing.
fn read<'a>(op: &'static str, x: Option<&'a Tensor>) -> Result<Option<(DType, Bind<'a>)>> {
    x.map(|x| Ok((x.dtype(), Bind::Read(x.gpu_buffer(op)?)))).transpose()
}

/// Memory for one launch.
fn scratch(op: &'static str, elements: usize, dtype: DType, like: &Tensor) -> Result<Tensor> {
    Tensor::gpu_uninit(op, Dims::new(op, &[elements])?, dtype, like.device())
}

/// The operand itself if rows or columns are dense, so that neighbouring invocations can read neighbouring elements;
/// else a dense copy.
fn readable(x: &Tensor) -> Result<Tensor> {
    let dense = x.layout().strides.iter().zip(x.shape()).rev().take(2).any(|(&stride, &size)| stride == 1 || size == 1);
    if dense { Ok(x.clone()) } else { x.contiguous() }
}

/// The tensor itself if it is dense and begins with a whole four, else a copy.
fn aligned(x: &Tensor) -> Result<Tensor> {
    if x.is_contiguous() && x.layout().offset.is_multiple_of(4) { Ok(x.clone()) } else { x.copy() }
}

/// A copy in row-major order, also of what is broadcast.
fn dense(x: &Tensor) -> Result<Tensor> {
    if x.is_contiguous() { Ok(x.clone()) } else { x.copy() }
}
