//! Matrix products on the GPU: which kernel for which shape, and where the matrices lie.

use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use super::{flag, size};
use crate::device::gpu::{Bind, Caps, Gpu, Launch};
use crate::layout::{Layout, collapse};
use crate::ops::matmul::Product;
use crate::{DType, Error, Result, Tensor};

/// `Params` of `shaders/common/product.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    m: u32,
    n: u32,
    k: u32,
    batch: u32,
    inner: u32,
    a: Matrices,
    b: Matrices,
    c_matrix: u32,
    c_row: u32,
    c_column: u32,
    bias_start: u32,
    bias_row: u32,
    bias_column: u32,
}

/// Where the matrices of an operand lie.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Matrices {
    start: u32,
    outer: u32,
    inner: u32,
    row: u32,
    column: u32,
}

impl Matrices {
    /// Of the transposed matrices.
    fn transposed(self) -> Self {
        Matrices { row: self.column, column: self.row, ..self }
    }
}

impl Params {
    /// Of `c^T = b^T a^T`, the same product.
    fn transposed(self) -> Self {
        Params {
            m: self.n,
            n: self.m,
            a: self.b.transposed(),
            b: self.a.transposed(),
            c_row: self.c_column,
            c_column: self.c_row,
            bias_row: self.bias_column,
            bias_column: self.bias_row,
            ..self
        }
    }
}

/// A kernel and its shape.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Variant {
    /// `matmul/tile`, of 8 * side rows and columns.
    Tile { side: u32 },
    /// `matmul/skinny`; `transposed` where it is `b` that has few columns.
    Skinny { transposed: bool },
    /// `matmul/direct`.
    Direct,
}

/// Rows, or columns, up to which a product is bound by reading the other matrix.
const FEW: u32 = 4;
/// Tiles of 128 x 128 that keep a large GPU busy; with fewer, smaller tiles are faster.
const MANY_TILES: u64 = 128;

fn choose(caps: &Caps, p: &Params) -> Variant {
    if p.m.min(p.n) <= FEW {
        return Variant::Skinny { transposed: p.n < p.m };
    }
    if caps.software {
        return Variant::Direct;
    }
    let tiles = u64::from(p.batch) * u64::from(p.m.div_ceil(128)) * u64::from(p.n.div_ceil(128));
    Variant::Tile { side: if tiles >= MANY_TILES { 16 } else { 8 } }
}

/// The product as contiguous f32.
pub(crate) fn product(gpu: &Arc<Gpu>, product: &Product) -> Result<Tensor> {
    run(gpu, product, |p| choose(gpu.caps(), p))
}

fn run(gpu: &Arc<Gpu>, product: &Product, choose: impl Fn(&Params) -> Variant) -> Result<Tensor> {
    let op = product.op;
    let out = Tensor::gpu_uninit(op, product.shape()?, DType::F32, product.a.device())?;
    if out.elements() == 0 {
        return Ok(out);
    }
    let (a, b) = (readable(product.a)?, readable(product.b)?);
    let bias = product.bias.map(Tensor::contiguous).transpose()?;
    let product = Product { op, a: &a, b: &b, bias: bias.as_ref() };
    let Some(params) = params(&product)? else {
        // A batch of more than two dimensions that do not merge.
        let (a, b) = (dense(&a)?, dense(&b)?);
        return run(gpu, &Product { op, a: &a, b: &b, bias: bias.as_ref() }, choose);
    };
    let variant = choose(&params);
    let swap = variant == Variant::Skinny { transposed: true };
    let (params, a, b) = if swap { (params.transposed(), &b, &a) } else { (params, &a, &b) };
    let along_k = [params.a.column < params.a.row, params.b.row < params.b.column].map(flag);
    let has_bias = flag(bias.is_some());
    let software = gpu.caps().software;

    let Params { m, n, batch, .. } = params;
    let blocks =
        |rows: u32, columns: u32| u64::from(batch) * u64::from(m.div_ceil(rows)) * u64::from(n.div_ceil(columns));
    let (kernel, groups, mut constants) = match variant {
        Variant::Tile { side } => (
            "matmul/tile",
            blocks(8 * side, 8 * side),
            vec![("SIDE", f64::from(side)), ("A_ALONG_K", along_k[0]), ("B_ALONG_K", along_k[1])],
        ),
        Variant::Skinny { .. } => {
            let (lanes_n, lanes_k) = match (software, along_k[1] == 1.0) {
                (true, _) => (8, 1),
                (false, true) => (1, 64),
                (false, false) => (32, 2),
            };
            let constants = vec![("LANES_N", f64::from(lanes_n)), ("LANES_K", f64::from(lanes_k))];
            ("matmul/skinny", blocks(4, lanes_n), constants)
        }
        Variant::Direct => ("matmul/direct", blocks(8, 32), Vec::new()),
    };
    constants.push(("HAS_BIAS", has_bias));
    let bias = bias.as_ref().unwrap_or(b);
    let operations = 2 * u64::from(batch) * u64::from(m) * u64::from(n) * u64::from(params.k);
    let launch = Launch {
        kernel,
        elems: &[("a", a.dtype()), ("b", b.dtype()), ("bias", bias.dtype())],
        constants: &constants,
        bind: &[
            Bind::Read(a.gpu_buffer(op)?),
            Bind::Read(b.gpu_buffer(op)?),
            Bind::Read(bias.gpu_buffer(op)?),
            Bind::Write(out.gpu_buffer(op)?),
        ],
        params: bytemuck::bytes_of(&params),
        groups,
    };
    gpu.run_counted(launch, operations)?;
    Ok(out)
}

/// The operand itself if rows or columns are dense, so that neighbouring invocations can read neighbouring elements;
/// else a dense copy.
fn readable(x: &Tensor) -> Result<Tensor> {
    let dense = x.layout().strides.iter().zip(x.shape()).rev().take(2).any(|(&stride, &size)| stride == 1 || size == 1);
    if dense { Ok(x.clone()) } else { x.contiguous() }
}

/// A copy in row-major order, also of what is broadcast.
fn dense(x: &Tensor) -> Result<Tensor> {
    if x.is_contiguous() { Ok(x.clone()) } else { x.copy() }
}

/// None if the batch has more than two dimensions that do not merge.
fn params(product: &Product) -> Result<Option<Params>> {
    let op = product.op;
    let lead = product.batch().len();
    let batch_layout = |x: &Tensor| {
        let mut batch = Layout::contiguous(op, product.batch())?;
        batch.strides.copy_from_slice(&x.layout().strides[..lead]);
        Ok::<_, Error>(batch)
    };
    let (sizes, strides) = collapse(&[batch_layout(product.a)?, batch_layout(product.b)?]);
    let word = |value| size(op, value);
    let matrices = |x: &Tensor, steps: &[usize]| {
        let Layout { strides, offset, .. } = *x.layout();
        let (outer, inner) = match *steps {
            [] => (0, 0),
            [inner] => (0, inner),
            [outer, inner, ..] => (outer, inner),
        };
        Ok::<_, Error>(Matrices {
            start: word(offset)?,
            outer: word(outer)?,
            inner: word(inner)?,
            row: word(strides[lead])?,
            column: word(strides[lead + 1])?,
        })
    };
    if sizes.len() > 2 {
        return Ok(None);
    }
    let (m, n, k) = product.sizes();
    let batch = sizes.iter().product::<usize>();
    Ok(Some(Params {
        m: word(m)?,
        n: word(n)?,
        k: word(k)?,
        batch: word(batch)?,
        inner: word(sizes.last().copied().unwrap_or(1))?,
        a: matrices(product.a, &strides[0])?,
        b: matrices(product.b, &strides[1])?,
        c_matrix: word(m * n)?,
        c_row: word(n)?,
        c_column: 1,
        bias_start: word(product.bias.map_or(0, |bias| bias.layout().offset))?,
        bias_row: 0,
        bias_column: 1,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, GpuOptions, Select};

    const VARIANTS: [Variant; 5] = [
        Variant::Tile { side: 4 },
        Variant::Tile { side: 8 },
        Variant::Skinny { transposed: false },
        Variant::Skinny { transposed: true },
        Variant::Direct,
    ];

    fn software() -> Option<Device> {
        if std::env::var("WGRAD_SKIP_GPU").is_ok_and(|v| v == "1") {
            eprintln!("skipped: WGRAD_SKIP_GPU=1");
            return None;
        }
        let options = GpuOptions { checked: true, guards: true, ..GpuOptions::default() };
        Some(Device::open(Select::Software, options).expect("a Vulkan software driver such as Mesa's llvmpipe"))
    }

    /// Small integers, exact in every dtype, so that every order of summation gives the same bits.
    fn values(shape: &[usize], salt: usize) -> Vec<f32> {
        let n = shape.iter().product();
        (0..n).map(|i: usize| ((i * 37 + salt * 11 + i / 7) % 13) as f32 - 6.0).collect()
    }

    /// The sum over k, written down.
    fn expected(a: &Tensor, b: &Tensor, bias: Option<&Tensor>) -> Vec<f64> {
        let product = Product { op: "test", a, b, bias };
        let (m, n, k) = product.sizes();
        let (x, w) = (a.to_f64_vec().unwrap(), b.to_f64_vec().unwrap());
        let bias = bias.map_or(vec![0.0; n], |bias| bias.to_f64_vec().unwrap());
        let matrices: usize = product.batch().iter().product();
        let at = |i: usize, r: usize, c: usize| {
            (0..k).map(|j| x[(i * m + r) * k + j] * w[(i * k + j) * n + c]).sum::<f64>() + bias[c]
        };
        (0..matrices * m * n).map(|i| at(i / (m * n), i / n % m, i % n)).collect()
    }

    fn tensor(shape: &[usize], dtype: DType, salt: usize, device: &Device) -> Tensor {
        let values = values(shape, salt);
        match dtype {
            DType::F16 => Tensor::from_vec(values.iter().map(|&v| half::f16::from_f32(v)).collect(), shape, device),
            DType::BF16 => Tensor::from_vec(values.iter().map(|&v| half::bf16::from_f32(v)).collect(), shape, device),
            _ => Tensor::from_vec(values, shape, device),
        }
        .unwrap()
    }

    /// Runs every variant on the device and compares with sums over the same views on the host.
    fn check(gpu: &Device, view: impl Fn(&Device) -> (Tensor, Tensor, Option<Tensor>)) {
        let (a, b, bias) = view(&Device::cpu());
        let want = expected(&a, &b, bias.as_ref());
        let (a, b, bias) = view(gpu);
        let product = Product { op: "test", a: &a, b: &b, bias: bias.as_ref() };
        for variant in VARIANTS {
            let got = run(gpu.gpu_ref().unwrap(), &product, |_| variant).unwrap().to_f64_vec().unwrap();
            assert!(got == want, "{variant:?}, {:?} times {:?}", a.layout(), b.layout());
            gpu.check_guards().unwrap();
        }
    }

    #[test]
    fn every_variant_on_every_shape() {
        let Some(gpu) = software() else { return };
        for (m, n, k) in [(1, 1, 1), (17, 65, 33), (5, 3, 0), (70, 9, 8), (0, 4, 3), (4, 130, 19)] {
            check(&gpu, |device| {
                let bias = tensor(&[n], DType::F32, 3, device);
                (tensor(&[m, k], DType::F32, 1, device), tensor(&[k, n], DType::F32, 2, device), Some(bias))
            });
        }
        for dtype in [DType::F16, DType::BF16] {
            check(&gpu, |device| {
                let bias = tensor(&[37], dtype, 3, device);
                (tensor(&[9, 5], dtype, 1, device), tensor(&[5, 37], dtype, 2, device), Some(bias))
            });
        }
    }

    #[test]
    fn every_variant_on_views() {
        let Some(gpu) = software() else { return };
        for flip in 0..4 {
            check(&gpu, |device| {
                let side = |flipped: bool, shape: [usize; 3], salt| match flipped {
                    true => tensor(&[shape[0], shape[2], shape[1]], DType::F32, salt, device).transpose(1, 2).unwrap(),
                    false => tensor(&shape, DType::F32, salt, device),
                };
                (side(flip & 1 == 1, [3, 18, 21], 1), side(flip & 2 == 2, [3, 21, 35], 2), None)
            });
        }
        // Attention heads: two batch dimensions that do not merge, with an offset, against a broadcast matrix.
        check(&gpu, |device| {
            let heads = tensor(&[2, 9, 12], DType::BF16, 1, device).narrow(1, 2, 6).unwrap();
            let heads = heads.reshape(&[2, 6, 3, 4]).unwrap().permute(&[0, 2, 1, 3]).unwrap();
            let one = tensor(&[3, 4, 7], DType::BF16, 2, device).expand(&[2, 3, 4, 7]).unwrap();
            (heads, one, None)
        });
        check(&gpu, |device| {
            let wide = tensor(&[5, 6, 8], DType::F32, 1, device).slice(2, 0, 8, 2).unwrap().slice(1, 0, 6, 3).unwrap();
            (wide, tensor(&[5, 4, 6], DType::F32, 2, device), None)
        });
    }

    #[test]
    fn more_matrices_than_one_grid_dimension() {
        let Some(gpu) = software() else { return };
        check(&gpu, |device| {
            (tensor(&[66_000, 2, 1], DType::F32, 1, device), tensor(&[66_000, 1, 1], DType::F32, 2, device), None)
        });
    }
}
