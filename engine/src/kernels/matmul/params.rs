//! Where the matrices of a product lie: the parameters of its kernels.

use bytemuck::{Pod, Zeroable};

use super::packed::Packed;
use crate::kernels::size;
use crate::layout::{Layout, collapse};
use crate::ops::matmul::{Finish, Product};
use crate::sparse24::BLOCK;
use crate::{Error, Result, Tensor};

/// `Params` of `shaders/common/product.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Params {
    pub m: u32,
    pub n: u32,
    pub k: u32,
    pub batch: u32,
    inner: u32,
    pub a: Matrices,
    pub b: Matrices,
    pub c_matrix: u32,
    pub c_row: u32,
    pub c_column: u32,
    bias_start: u32,
    bias_row: u32,
    bias_column: u32,
    residual_start: u32,
    pub slices: u32,
    pub depth: u32,
    pub c_slice: u32,
    scale: f32,
    words_start: u32,
}

/// Where the matrices of an operand lie.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Matrices {
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

/// How an operand can be read: which dimension is dense, and whether in whole fours.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Access {
    pub along_k: bool,
    pub fours: bool,
}

impl Access {
    /// Of matrices with `lines` rows (of `a`) or columns (of `b`), `line` apart, whose elements along k are `step` apart.
    fn new(x: &Matrices, lines: (u32, u32), k: (u32, u32)) -> Self {
        let ((lines, line), (k, step)) = (lines, k);
        let along_k = step < line || lines == 1 && step == 1;
        let ((dense, unit), (others, apart)) =
            if along_k { ((k, step), (lines, line)) } else { ((lines, line), (k, step)) };
        let apart = if others > 1 { apart } else { 0 };
        Access {
            along_k,
            fours: unit == 1 && [dense, apart, x.start, x.outer, x.inner].iter().all(|s| s.is_multiple_of(4)),
        }
    }
}

impl Params {
    /// None if the batch has more than two dimensions that do not merge.
    pub fn new(product: &Product) -> Result<Option<Self>> {
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
            k: word(k)?,
            batch: word(batch)?,
            inner: word(sizes.last().copied().unwrap_or(1))?,
            a: matrices(product.a, &strides[0])?,
            b: matrices(product.b, &strides[1])?,
            c_matrix: word(m * n)?,
            depth: word(k)?,
            ..Self::of_sums(op, batch * m, n, &product.finish)?
        }))
    }

    /// Of `x [m, k]` and a packed 2:4 matrix, or its transpose, as `[k, n]`.
    pub fn of_packed(op: &'static str, x: &Tensor, b: &Packed, n: usize, finish: &Finish) -> Result<Self> {
        let word = |value| size(op, value);
        let (m, k) = (x.shape()[0], x.shape()[1]);
        let line = word(b.meta.shape()[1] * BLOCK)?;
        let (row, column) = if b.transposed { (1, line) } else { (line, 1) };
        let Layout { strides, offset, .. } = *x.layout();
        Ok(Params {
            m: word(m)?,
            k: word(k)?,
            a: Matrices { start: word(offset)?, outer: 0, inner: 0, row: word(strides[0])?, column: word(strides[1])? },
            b: Matrices { start: word(2 * b.values.layout().offset)?, outer: 0, inner: 0, row, column },
            c_matrix: word(m * n)?,
            depth: word(k)?,
            words_start: word(b.meta.layout().offset)?,
            ..Self::of_sums(op, m, n, finish)?
        })
    }

    /// For the sums of `rows` rows of one matrix, which are there already.
    pub fn of_sums(op: &'static str, rows: usize, n: usize, finish: &Finish) -> Result<Self> {
        let word = |value| size(op, value);
        let start = |x: Option<&Tensor>| word(x.map_or(0, |x| x.layout().offset));
        let c_slice = word((rows * n).next_multiple_of(4))?;
        Ok(Params {
            m: word(rows)?,
            n: word(n)?,
            batch: 1,
            inner: 1,
            c_matrix: c_slice,
            c_row: word(n)?,
            c_column: 1,
            bias_start: start(finish.bias)?,
            bias_column: 1,
            residual_start: start(finish.residual)?,
            slices: 1,
            c_slice,
            scale: finish.scale as f32,
            ..Self::zeroed()
        })
    }

    /// Of `c^T = b^T a^T`, the same product.
    pub fn transposed(self) -> Self {
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

    pub fn access_a(&self) -> Access {
        Access::new(&self.a, (self.m, self.a.row), (self.k, self.a.column))
    }

    pub fn access_b(&self) -> Access {
        Access::new(&self.b, (self.n, self.b.column), (self.k, self.b.row))
    }

    /// Into how large groups of consecutive results rows fall, of which no group crosses a row: 4, 2 or 1.
    pub fn store(&self) -> u32 {
        let row = if self.m > 1 { self.c_row } else { 0 };
        let matrix = if self.batch > 1 { self.c_matrix } else { 0 };
        let fits = |group: u32| [self.n, row, matrix].iter().all(|s| s.is_multiple_of(group));
        match self.c_column {
            1 if fits(4) => 4,
            1 if fits(2) => 2,
            _ => 1,
        }
    }
}
