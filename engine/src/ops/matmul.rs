//! Matrix products. Transposed and broadcast operands are read in place; a matrix that is shared by a whole batch
//! makes one large product, forward and backward.

use crate::autograd::{record, tracks};
use crate::cpu::matmul as cpu;
use crate::device::Kind;
use crate::kernels::matmul as kernels;
use crate::layout::{Dims, Layout, broadcast_shape};
use crate::ops::elementwise::{Activation, Unary, unary_grad};
use crate::ops::view::reshape_to;
use crate::{DType, Error, Result, Tensor};

/// Operands of one raw product: `a` [batch.., m, k] and `b` [batch.., k, n] as views with the same batch dimensions,
/// and what is done with the sums.
pub(crate) struct Product<'a> {
    pub op: &'static str,
    pub a: &'a Tensor,
    pub b: &'a Tensor,
    pub finish: Finish<'a>,
}

/// What a product does with its sums s: `y = activation(z) + residual`, `z = scale s + bias`.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a> {
    pub scale: f64,
    /// `[n]`, for every row.
    pub bias: Option<&'a Tensor>,
    pub activation: Option<Activation>,
    /// Of the shape of the result.
    pub residual: Option<&'a Tensor>,
    /// Whether z is wanted too.
    pub keep: bool,
}

impl Default for Finish<'_> {
    fn default() -> Self {
        Finish { scale: 1.0, bias: None, activation: None, residual: None, keep: false }
    }
}

/// What a product gives.
pub(crate) struct Output {
    pub y: Tensor,
    /// If it was to be kept.
    pub z: Option<Tensor>,
}

impl<'a> Product<'a> {
    pub fn new(op: &'static str, a: &'a Tensor, b: &'a Tensor) -> Self {
        Product { op, a, b, finish: Finish::default() }
    }

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

    /// Runs it on the device of the operands; the results have their dtype. Nothing is recorded.
    pub fn run(&self) -> Result<Output> {
        let dtype = self.a.dtype();
        self.a.device().expect_room(self.op, self.shape()?.elements(), dtype)?;
        match self.a.device().kind() {
            Kind::Gpu(gpu) => kernels::product(gpu, self),
            Kind::Cpu(_) if dtype.is_half() => {
                let wide = |x: &Tensor| x.detach().cast(DType::F32);
                let bias = self.finish.bias.map(wide).transpose()?;
                let residual = self.finish.residual.map(wide).transpose()?;
                let finish = Finish { bias: bias.as_ref(), residual: residual.as_ref(), ..self.finish };
                let b = if cpu::takes_halves(self) { self.b.detach() } else { wide(self.b)? };
                let Output { y, z } = cpu::product(&Product { op: self.op, a: &wide(self.a)?, b: &b, finish })?;
                Ok(Output { y: y.cast(dtype)?, z: z.map(|z| z.cast(dtype)).transpose()? })
            }
            Kind::Cpu(_) => cpu::product(self),
        }
    }

    /// As [`run`](Self::run), where no z is wanted.
    pub fn value(&self) -> Result<Tensor> {
        Ok(self.run()?.y)
    }
}

/// `a` [.., m, k] times `b` [.., k, n] with broadcasting over the leading dimensions; not recorded.
fn multiply(op: &'static str, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (ra, rb) = (a.rank(), b.rank());
    let batch = broadcast_shape(op, &a.shape()[..ra - 2], &b.shape()[..rb - 2])?;
    if is_one_matrix(b) {
        let out = [&*batch, &a.shape()[ra - 2..ra - 1], &b.shape()[rb - 1..]].concat();
        let out = Layout::contiguous(op, &out)?.shape;
        return reshape_to(&Product::new(op, &fold(op, a)?, &fold(op, b)?).value()?, out);
    }
    let spread = |x: &Tensor| {
        let shape = [&*batch, &x.shape()[x.rank() - 2..]].concat();
        Ok::<_, Error>(x.with_layout(x.layout().broadcast_to(op, &shape)?))
    };
    Product::new(op, &spread(a)?, &spread(b)?).value()
}

/// Whether all leading dimensions are of size 1.
fn is_one_matrix(x: &Tensor) -> bool {
    x.shape()[..x.rank() - 2].iter().all(|&size| size == 1)
}

/// All rows of all matrices as one matrix. A view where strides allow it.
pub(crate) fn fold(op: &'static str, x: &Tensor) -> Result<Tensor> {
    let (width, lead) = match x.shape() {
        [lead @ .., width] => (*width, lead),
        [] => return Err(Error::shape(op, "a scalar where a matrix is expected")),
    };
    reshape_to(&x.detach(), Dims::new(op, &[lead.iter().product(), width])?)
}

/// Swaps the last two dimensions.
pub(crate) fn transposed(x: &Tensor) -> Tensor {
    let mut axes: Vec<usize> = (0..x.rank()).collect();
    let rank = axes.len();
    axes.swap(rank - 2, rank - 1);
    x.with_layout(x.layout().permute(&axes))
}

/// Gradient of `b` in `a b`. One product over all rows where `b` is one matrix.
fn gradient_of_right(op: &'static str, a: &Tensor, b: &Tensor, dy: &Tensor) -> Result<Tensor> {
    if is_one_matrix(b) {
        let (a, dy) = (fold(op, a)?, fold(op, dy)?);
        return reshape_to(&Product::new(op, &transposed(&a), &dy).value()?, b.dims());
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

/// What follows a linear layer in the same pass over its result: `activation(scale x weight^T + bias) + residual`.
#[derive(Debug, Clone)]
pub struct Epilogue {
    /// Factor of the product.
    pub scale: f64,
    /// Function of the scaled product and bias.
    pub activation: Option<Activation>,
    /// Added at the end; of the shape of the result.
    pub residual: Option<Tensor>,
}

impl Default for Epilogue {
    fn default() -> Self {
        Epilogue { scale: 1.0, activation: None, residual: None }
    }
}

impl Epilogue {
    /// An activation alone.
    pub fn of(activation: Activation) -> Self {
        Epilogue { activation: Some(activation), ..Epilogue::default() }
    }
}

fn check_linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, residual: Option<&Tensor>) -> Result<Dims> {
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
    let shape = Layout::contiguous(op, &[&x.shape()[..x.rank() - 1], &[outputs]].concat())?.shape;
    for (name, given, expected) in [("bias", bias, &[outputs][..]), ("residual", residual, &shape)] {
        let Some(given) = given else { continue };
        x.expect_like(op, given)?;
        if given.shape() != expected {
            return Err(Error::shape(op, format!("{name} of shape {:?}, expected {expected:?}", given.shape())));
        }
    }
    Ok(shape)
}

/// [`Tensor::linear`], and what may follow it in one pass.
///
/// The backward needs z = scale x weight^T + bias where there is an activation. It is stored by the same kernel rather than computed
/// again, which would cost half as much as the backward, and the gradient of z is written once, since two products and the gradient of the
/// bias read it: applied while they load, the derivative would be evaluated for every tile again.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, then: &Epilogue) -> Result<Tensor> {
    let op = "linear";
    let residual = then.residual.as_ref();
    let shape = check_linear(x, weight, bias, residual)?;
    let (scale, activation) = (then.scale, then.activation);
    let inputs: Vec<&Tensor> = [Some(x), Some(weight), bias, residual].into_iter().flatten().collect();

    let (rows, w) = (fold(op, x)?, weight.detach());
    let added_to_rows = bias.map(Tensor::detach);
    let added = residual.map(|r| fold(op, r)).transpose()?;
    let finish = Finish {
        scale,
        bias: added_to_rows.as_ref(),
        activation,
        residual: added.as_ref(),
        keep: activation.is_some() && tracks(&inputs),
    };
    let Output { y, z } = Product { op, a: &rows, b: &transposed(&w), finish }.run()?;
    let y = reshape_to(&y, shape)?;

    let (old, outputs, with_bias, with_residual) = (x.dims(), w.shape()[0], bias.is_some(), residual.is_some());
    let backward = move |dy: &Tensor, needs: &[bool]| {
        let dy_rows = fold(op, dy)?;
        let dz = match (activation, &z) {
            (Some(f), Some(z)) => unary_grad(op, z, &dy_rows, Unary::new(f.op()))?,
            _ => dy_rows,
        };
        let scaled = Finish { scale, ..Finish::default() };
        let dx = || reshape_to(&Product { op, a: &dz, b: &w, finish: scaled }.value()?, old);
        let dw = || Product { op, a: &transposed(&dz), b: &rows, finish: scaled }.value();
        let mut wanted = needs.iter().copied();
        let mut next = || wanted.next().unwrap_or(false);
        let mut gradients = vec![next().then(dx).transpose()?, next().then(dw).transpose()?];
        if with_bias {
            gradients.push(next().then(|| dz.sum_to(&[outputs])).transpose()?);
        }
        if with_residual {
            gradients.push(next().then(|| dy.clone()));
        }
        Ok(gradients)
    };
    Ok(record(op, y, &inputs, backward))
}

/// [`Tensor::linear_then`] from primitive operations, which is what the kernels are tested against.
///
/// # Errors
/// As [`Tensor::linear_then`].
pub fn reference(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, then: &Epilogue) -> Result<Tensor> {
    let mut y = x.matmul(&weight.transpose(0, 1)?)?.mul_scalar(then.scale)?;
    if let Some(bias) = bias {
        y = y.add(bias)?;
    }
    if let Some(activation) = then.activation {
        y = activation.apply(&y)?;
    }
    match &then.residual {
        Some(residual) => y.add(residual),
        None => Ok(y),
    }
}
