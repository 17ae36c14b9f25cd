//! Matrix products. Transposed and broadcast operands are read in place; a matrix that is shared by a whole batch
//! makes one large product, forward and backward.

use crate::autograd::record;
use crate::cpu::matmul as cpu;
use crate::device::Kind;
use crate::kernels::matmul as kernels;
use crate::layout::{Dims, Layout, broadcast_shape};
use crate::ops::view::reshape_to;
use crate::{DType, Error, Result, Tensor};

/// Operands of one raw product: `a` [batch.., m, k] and `b` [batch.., k, n] as views with the same batch dimensions,
/// and what is added to every row of the result, `bias` [n].
pub(crate) struct Product<'a> {
    pub op: &'static str,
    pub a: &'a Tensor,
    pub b: &'a Tensor,
    pub bias: Option<&'a Tensor>,
}

impl Product<'_> {
    /// The dimensions before the last two.
    pub fn batch(&self) -> &[usize] {
        &self.a.shape()[..self.a.rank() - 2]
    }

    /// Rows of `a`, columns of `b`, and the length of the sums.
    pub fn sizes(&self) -> (usize, usize, usize) {
        let (rank, a, b) = (self.a.rank(), self.a.shape(), self.b.shape());
        (a[rank - 2], b[rank - 1], a[rank - 1])
    }

    /// Shape of the result.
    pub fn shape(&self) -> Result<Dims> {
        let (m, n, _) = self.sizes();
        Ok(Layout::contiguous(self.op, &[self.batch(), &[m, n]].concat())?.shape)
    }

    /// Runs it on the device of the operands; the result has their dtype. Nothing is recorded.
    fn run(&self) -> Result<Tensor> {
        let dtype = self.a.dtype();
        self.a.device().expect_room(self.op, self.shape()?.elements(), dtype)?;
        let out = match self.a.device().kind() {
            Kind::Gpu(gpu) => kernels::product(gpu, self)?,
            Kind::Cpu(_) if dtype.is_half() => {
                let wide = |x: &Tensor| x.detach().cast(DType::F32);
                let bias = self.bias.map(wide).transpose()?;
                cpu::product(&Product { op: self.op, a: &wide(self.a)?, b: &wide(self.b)?, bias: bias.as_ref() })?
            }
            Kind::Cpu(_) => cpu::product(self)?,
        };
        // Kernels sum halves in f32 and hand out the f32 sums: one rounding, here.
        if out.dtype() == dtype { Ok(out) } else { out.detach().cast(dtype) }
    }
}

/// `a` [.., m, k] times `b` [.., k, n] with broadcasting over the leading dimensions; not recorded.
fn multiply(op: &'static str, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (ra, rb) = (a.rank(), b.rank());
    let batch = broadcast_shape(op, &a.shape()[..ra - 2], &b.shape()[..rb - 2])?;
    if is_one_matrix(b) {
        let out = [&*batch, &a.shape()[ra - 2..ra - 1], &b.shape()[rb - 1..]].concat();
        let out = Layout::contiguous(op, &out)?.shape;
        let rows = Product { op, a: &fold(op, a)?, b: &fold(op, b)?, bias: None };
        return reshape_to(&rows.run()?, out);
    }
    let spread = |x: &Tensor| {
        let shape = [&*batch, &x.shape()[x.rank() - 2..]].concat();
        Ok::<_, Error>(x.with_layout(x.layout().broadcast_to(op, &shape)?))
    };
    Product { op, a: &spread(a)?, b: &spread(b)?, bias: None }.run()
}

/// Whether all leading dimensions are of size 1.
fn is_one_matrix(x: &Tensor) -> bool {
    x.shape()[..x.rank() - 2].iter().all(|&size| size == 1)
}

/// All rows of all matrices as one matrix. A view where strides allow it.
fn fold(op: &'static str, x: &Tensor) -> Result<Tensor> {
    let (width, lead) = match x.shape() {
        [lead @ .., width] => (*width, lead),
        [] => return Err(Error::shape(op, "a scalar where a matrix is expected")),
    };
    reshape_to(&x.detach(), Dims::new(op, &[lead.iter().product(), width])?)
}

/// Swaps the last two dimensions.
fn transposed(x: &Tensor) -> Tensor {
    let mut axes: Vec<usize> = (0..x.rank()).collect();
    let rank = axes.len();
    axes.swap(rank - 2, rank - 1);
    x.with_layout(x.layout().permute(&axes))
}

/// Gradient of `b` in `a b`. One product over all rows where `b` is one matrix.
fn gradient_of_right(op: &'static str, a: &Tensor, b: &Tensor, dy: &Tensor) -> Result<Tensor> {
    if is_one_matrix(b) {
        let (a, dy) = (fold(op, a)?, fold(op, dy)?);
        return reshape_to(&Product { op, a: &transposed(&a), b: &dy, bias: None }.run()?, b.dims());
    }
    multiply(op, &transposed(a), dy)?.sum_to(b.shape())
}

fn check(op: &'static str, a: &Tensor, b: &Tensor) -> Result<()> {
    a.expect_float(op)?;
    a.expect_like(op, b)?;
    match a.rank() == 0 || b.rank() == 0 {
        true => {
            Err(Error::shape(op, format!("shapes {:?} and {:?}: scalars have no matrix product", a.shape(), b.shape())))
        }
        false => Ok(()),
    }
}

pub(crate) fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let op = "matmul";
    check(op, a, b)?;
    let refuse = |k, l| {
        let (a, b) = (a.shape(), b.shape());
        Err(Error::shape(
            op,
            format!("shapes {a:?} and {b:?} do not fit: {k} columns on the left, {l} rows on the right"),
        ))
    };
    let (k, l) = (a.shape()[a.rank() - 1], b.shape()[b.rank().saturating_sub(2)]);
    if k != l {
        return refuse(k, l);
    }
    // Vectors are matrices of one row or one column; that dimension goes away again.
    if a.rank() == 1 {
        let y = matmul(&a.unsqueeze(0)?, b)?;
        return y.squeeze(if b.rank() == 1 { -1 } else { -2 });
    }
    if b.rank() == 1 {
        return matmul(a, &b.unsqueeze(1)?)?.squeeze(-1);
    }
    let (x, w) = (a.detach(), b.detach());
    let y = multiply(op, &x, &w)?;
    Ok(record(op, y, &[a, b], move |dy, needs| {
        let da = || multiply(op, dy, &transposed(&w))?.sum_to(x.shape());
        let db = || gradient_of_right(op, &x, &w, dy);
        Ok(vec![needs[0].then(da).transpose()?, needs[1].then(db).transpose()?])
    }))
}

/// `x weight^T + bias` over the last dimension of `x` [.., in]; `weight` is [out, in], `bias` [out].
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let op = "linear";
    check(op, x, weight)?;
    let &[outputs, inputs] = weight.shape() else {
        return Err(Error::shape(op, format!("weight of shape {:?}, expected [outputs, inputs]", weight.shape())));
    };
    if x.shape()[x.rank() - 1] != inputs {
        let (x, weight) = (x.shape(), weight.shape());
        return Err(Error::shape(
            op,
            format!("input of shape {x:?} does not end in the {inputs} inputs of weight {weight:?}"),
        ));
    }
    if let Some(bias) = bias {
        x.expect_like(op, bias)?;
        if bias.shape() != [outputs] {
            return Err(Error::shape(op, format!("bias of shape {:?}, expected [{outputs}]", bias.shape())));
        }
    }
    let shape = [&x.shape()[..x.rank() - 1], &[outputs]].concat();
    let shape = Layout::contiguous(op, &shape)?.shape;
    let (rows, w) = (fold(op, x)?, weight.detach());
    let y = Product { op, a: &rows, b: &transposed(&w), bias: bias.map(Tensor::detach).as_ref() }.run()?;
    let y = reshape_to(&y, shape)?;

    let old = x.dims();
    let backward = move |dy: &Tensor, needs: &[bool]| {
        let dy = fold(op, dy)?;
        let dx = || reshape_to(&Product { op, a: &dy, b: &w, bias: None }.run()?, old);
        let dw = || Product { op, a: &transposed(&dy), b: &rows, bias: None }.run();
        let mut gradients = vec![needs[0].then(dx).transpose()?, needs[1].then(dw).transpose()?];
        if let Some(&wanted) = needs.get(2) {
            gradients.push(wanted.then(|| dy.sum_to(&[outputs])).transpose()?);
        }
        Ok(gradients)
    };
    Ok(match bias {
        Some(bias) => record(op, y, &[x, weight, bias], backward),
        None => record(op, y, &[x, weight], backward),
    })
}
