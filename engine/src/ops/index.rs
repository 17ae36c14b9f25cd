//! Reading and writing at positions that are data.
//!
//! All of it is made of *slots*: `u32`, where 0 stands for nothing and `r + 1` for row `r` of a block `[outer, rows, inner]`.
//! [`slots`] makes them of a user's indices, and is the one place where indices are checked. [`take`] reads the rows of
//! slots. [`invert`] turns "entry i goes to row r" into "row r comes from entry i". [`sum_groups`] sorts entries by their rows, and
//! adds up each row's entries in their order: the gradient of every read, the same each time, without atomic additions.

use crate::autograd::record;
use crate::cpu::index as cpu;
use crate::device::Kind;
use crate::kernels::index::cut as kernels;
use crate::layout::{Dims, Layout};
use crate::{DType, Error, Result, Tensor};

/// A tensor seen as `[outer, rows, inner]`, where slots choose rows.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    pub outer: usize,
    pub rows: usize,
    pub inner: usize,
}

impl Block {
    fn around(shape: &[usize], dim: usize) -> Self {
        let (outer, inner) = (shape[..dim].iter().product(), shape[dim + 1..].iter().product());
        Block { outer, rows: shape[dim], inner }
    }

    /// Elements as rows of one element each.
    fn flat(elements: usize) -> Self {
        Block { outer: 1, rows: elements, inner: 1 }
    }

    /// `[outer, rows, inner]` for another number of rows.
    pub fn dims(&self, op: &'static str, rows: usize) -> Result<Dims> {
        Dims::new(op, &[self.outer, rows, self.inner])
    }
}

/// Which element of a row-major tensor an entry of an index tensor stands for: that at the entry's own coordinates, except for
/// dimension `dim`, where the index says.
pub(crate) struct Positions {
    /// Shape of the index tensor.
    pub shape: Dims,
    /// Strides of the indexed tensor.
    pub strides: Dims,
    pub dim: usize,
    /// Size of dimension `dim` of the indexed tensor: indices are below.
    pub size: usize,
}

impl Positions {
    /// Positions of rows: the index is a list.
    fn rows(op: &'static str, index: &Tensor, size: usize) -> Result<Self> {
        let shape = Dims::new(op, &[index.elements()])?;
        Ok(Positions { shape, strides: Dims::new(op, &[1])?, dim: 0, size })
    }

    /// The slot of entry `i`, whose index is `value`.
    pub fn slot(&self, i: usize, value: usize) -> u32 {
        let (mut rest, mut at) = (i, value * self.strides[self.dim]);
        for d in (0..self.shape.len()).rev() {
            if d != self.dim {
                at += rest % self.shape[d] * self.strides[d];
            }
            rest /= self.shape[d];
        }
        at as u32 + 1
    }
}

/// Entries sorted by row.
#[derive(Debug)]
pub(crate) struct Groups {
    /// Numbers of the entries; those of one row stand together, in their order.
    pub order: Tensor,
    /// Row `r` has the entries `order[starts[r]..starts[r + 1]]`.
    pub starts: Tensor,
}

/// Checks indices and turns them into slots. On a GPU an index out of range is clamped, and reported by the next call that
/// waits.
pub(crate) fn slots(op: &'static str, index: &Tensor, positions: &Positions) -> Result<Tensor> {
    index.expect_int(op)?;
    let index = index.detach().contiguous()?;
    if positions.size == 0 && index.elements() > 0 {
        return Err(Error::argument(op, "the indexed dimension is empty"));
    }
    match index.device().kind() {
        Kind::Cpu(_) => cpu::slots(op, &index, positions),
        Kind::Gpu(_) => kernels::slots(op, &index, positions),
    }
}

/// `y[o, i, :] = x[o, slots[i] - 1, :]`; where the slot is 0, `base[o, i, :]`, or zeros.
pub(crate) fn take(
    op: &'static str,
    base: Option<&Tensor>,
    x: &Tensor,
    slots: &Tensor,
    block: &Block,
) -> Result<Tensor> {
    let base = base.map(|b| b.detach().contiguous()).transpose()?;
    let x = x.detach().contiguous()?;
    let elements = block.outer.saturating_mul(slots.elements()).saturating_mul(block.inner);
    x.device().expect_room(op, elements, x.dtype())?;
    match x.device().kind() {
        Kind::Cpu(_) => cpu::take(op, base.as_ref(), &x, slots, block),
        Kind::Gpu(_) => kernels::take(op, base.as_ref(), &x, slots, block),
    }
}

/// The slots of `rows` rows: the last entry that goes there, or nothing.
fn invert(op: &'static str, slots: &Tensor, rows: usize) -> Result<Tensor> {
    match slots.device().kind() {
        Kind::Cpu(_) => cpu::invert(op, slots, rows),
        Kind::Gpu(_) => kernels::invert(op, slots, rows),
    }
}

/// Sorts entries by the row they go to.
pub(crate) fn group(op: &'static str, slots: &Tensor, rows: usize) -> Result<Groups> {
    match slots.device().kind() {
        Kind::Cpu(_) => cpu::group(op, slots, rows),
        Kind::Gpu(_) => crate::kernels::index::group(op, slots, rows),
    }
}

/// `y[o, r, :] = base[o, r, :] + sum of src[o, i, :] over the entries i of row r`; nothing is added to row `skip`.
fn sum_groups(
    op: &'static str,
    base: Option<&Tensor>,
    src: &Tensor,
    slots: &Tensor,
    skip: Option<usize>,
    block: &Block,
) -> Result<Tensor> {
    let base = base.map(|b| b.detach().contiguous()).transpose()?;
    let src = src.detach().contiguous()?;
    match src.device().kind() {
        Kind::Cpu(_) => {
            let groups = group(op, slots, block.rows)?;
            cpu::sum_groups(op, base.as_ref(), &src, &groups, skip, block)
        }
        Kind::Gpu(_) => kernels::sum_groups(op, base.as_ref(), &src, slots, skip, block),
    }
}

/// Slots count elements in 32 bits.
fn expect_countable(op: &'static str, x: &Tensor) -> Result<()> {
    match u32::try_from(x.elements()) {
        Ok(n) if n < u32::MAX => Ok(()),
        _ => Err(Error::shape(op, format!("{:?} has too many elements to be indexed", x.shape()))),
    }
}

fn shaped(x: &Tensor, shape: Dims) -> Tensor {
    x.with_layout(Layout::row_major(shape))
}

/// Rows of `weight` by `ids`; no gradient goes to row `padding_idx`.
pub(crate) fn embedding(weight: &Tensor, ids: &Tensor, padding_idx: Option<usize>) -> Result<Tensor> {
    let op = "embedding";
    let &[rows, inner] = weight.shape() else {
        return Err(Error::shape(op, format!("the weight has shape {:?}, expected [rows, features]", weight.shape())));
    };
    if let Some(index) = padding_idx.filter(|&i| i >= rows) {
        return Err(Error::Index { op, index: index as i64, size: rows });
    }
    let shape = Dims::new(op, &[ids.shape(), &[inner]].concat())?;
    select_rows(op, weight, 0, ids, padding_idx, shape)
}

/// Slices of `x` along `dim` by a list of indices.
pub(crate) fn index_select(x: &Tensor, dim: isize, index: &Tensor) -> Result<Tensor> {
    let op = "index_select";
    let d = x.dim(op, dim)?;
    expect_list(op, index)?;
    let mut shape = x.dims();
    shape[d] = index.elements();
    select_rows(op, x, d, index, None, shape)
}

fn select_rows(
    op: &'static str,
    x: &Tensor,
    dim: usize,
    index: &Tensor,
    skip: Option<usize>,
    shape: Dims,
) -> Result<Tensor> {
    x.expect_same_device(op, index)?;
    expect_countable(op, x)?;
    let (block, from) = (Block::around(x.shape(), dim), x.dims());
    let slots = slots(op, index, &Positions::rows(op, index, block.rows)?)?;
    let out = shaped(&take(op, None, x, &slots, &block)?, shape);
    Ok(record(op, out, &[x], move |dy, _| {
        Ok(vec![Some(shaped(&sum_groups(op, None, dy, &slots, skip, &block)?, from))])
    }))
}

fn expect_list(op: &'static str, index: &Tensor) -> Result<()> {
    match index.rank() {
        1 => Ok(()),
        _ => Err(Error::shape(op, format!("the index has shape {:?}, expected one dimension", index.shape()))),
    }
}

/// `x` with slices of `src` added along `dim` at the listed indices.
pub(crate) fn index_add(x: &Tensor, dim: isize, index: &Tensor, src: &Tensor) -> Result<Tensor> {
    let op = "index_add";
    let d = x.dim(op, dim)?;
    expect_list(op, index)?;
    x.expect_like(op, src)?;
    x.expect_same_device(op, index)?;
    expect_addable(op, x)?;
    let mut expected = x.dims();
    expected[d] = index.elements();
    if src.dims() != expected {
        return Err(Error::shape(op, format!("the source has shape {:?}, expected {expected:?}", src.shape())));
    }
    expect_countable(op, x)?;
    let block = Block::around(x.shape(), d);
    let slots = slots(op, index, &Positions::rows(op, index, block.rows)?)?;
    let out = shaped(&sum_groups(op, Some(x), src, &slots, None, &block)?, x.dims());
    Ok(record(op, out, &[x, src], move |dy, needs| {
        let dsrc = if needs[1] { Some(shaped(&take(op, None, dy, &slots, &block)?, expected)) } else { None };
        Ok(vec![Some(dy.clone()), dsrc])
    }))
}

fn expect_addable(op: &'static str, x: &Tensor) -> Result<()> {
    match x.dtype() {
        crate::DType::Bool => Err(Error::DType { op, got: x.dtype(), expected: "a dtype that can be added" }),
        _ => Ok(()),
    }
}

/// Slots of the single elements that an index tensor of the rank of `x` names along `dim`.
fn element_slots(op: &'static str, x: &Tensor, dim: usize, index: &Tensor) -> Result<Tensor> {
    x.expect_same_device(op, index)?;
    expect_countable(op, x)?;
    let fits = |d: usize| d == dim || index.shape()[d] <= x.shape()[d];
    if index.rank() != x.rank() || !(0..x.rank()).all(fits) {
        let message = format!(
            "an index of shape {:?} does not fit {:?} along dimension {dim}: it needs the same rank, and no larger sizes elsewhere",
            index.shape(),
            x.shape()
        );
        return Err(Error::shape(op, message));
    }
    let strides = Layout::row_major(x.dims()).strides;
    slots(op, index, &Positions { shape: index.dims(), strides, dim, size: x.shape()[dim] })
}

/// `y[i, j, k] = x[index[i, j, k], j, k]` for `dim` 0, and so on.
pub(crate) fn gather(x: &Tensor, dim: isize, index: &Tensor) -> Result<Tensor> {
    let op = "gather";
    let slots = element_slots(op, x, x.dim(op, dim)?, index)?;
    let (block, from) = (Block::flat(x.elements()), x.dims());
    let out = shaped(&take(op, None, x, &slots, &block)?, index.dims());
    Ok(record(op, out, &[x], move |dy, _| {
        Ok(vec![Some(shaped(&sum_groups(op, None, dy, &slots, None, &block)?, from))])
    }))
}

/// As [`gather`], where no element of `x` is read twice: the gradient needs no sums.
pub(crate) fn gather_once(op: &'static str, x: &Tensor, dim: usize, index: &Tensor) -> Result<Tensor> {
    let slots = element_slots(op, x, dim, index)?;
    let from = x.dims();
    let out = shaped(&take(op, None, x, &slots, &Block::flat(x.elements()))?, index.dims());
    Ok(record(op, out, &[x], move |dy, _| {
        let back = invert(op, &slots, from.elements())?;
        Ok(vec![Some(shaped(&take(op, None, dy, &back, &Block::flat(dy.elements()))?, from))])
    }))
}

fn expect_source(op: &'static str, x: &Tensor, index: &Tensor, src: &Tensor) -> Result<()> {
    x.expect_like(op, src)?;
    match src.dims() == index.dims() {
        true => Ok(()),
        false => {
            let (have, want) = (src.shape(), index.shape());
            Err(Error::shape(op, format!("the source has shape {have:?}, expected that of the index, {want:?}")))
        }
    }
}

/// `x` with `src[i, j, k]` added at `[index[i, j, k], j, k]` for `dim` 0, and so on.
pub(crate) fn scatter_add(x: &Tensor, dim: isize, index: &Tensor, src: &Tensor) -> Result<Tensor> {
    let op = "scatter_add";
    let d = x.dim(op, dim)?;
    expect_addable(op, x)?;
    expect_source(op, x, index, src)?;
    let slots = element_slots(op, x, d, index)?;
    let (block, entries) = (Block::flat(x.elements()), index.dims());
    let out = shaped(&sum_groups(op, Some(x), src, &slots, None, &block)?, x.dims());
    Ok(record(op, out, &[x, src], move |dy, needs| {
        let dsrc = if needs[1] { Some(shaped(&take(op, None, dy, &slots, &block)?, entries)) } else { None };
        Ok(vec![Some(dy.clone()), dsrc])
    }))
}

/// `x` with `src[i, j, k]` at `[index[i, j, k], j, k]` for `dim` 0, and so on; of several the last in row-major order stays.
pub(crate) fn scatter(x: &Tensor, dim: isize, index: &Tensor, src: &Tensor) -> Result<Tensor> {
    let op = "scatter";
    let d = x.dim(op, dim)?;
    expect_source(op, x, index, src)?;
    let writers = invert(op, &element_slots(op, x, d, index)?, x.elements())?;
    let (shape, entries) = (x.dims(), index.dims());
    let block = Block::flat(entries.elements());
    let out = shaped(&take(op, Some(x), src, &writers, &block)?, shape);
    Ok(record(op, out, &[x, src], move |dy, needs| {
        // What was overwritten gets no gradient, neither in x nor in an entry that was not the last.
        let zeros = || Tensor::zeros(&entries, dy.dtype(), dy.device());
        let dx = if needs[0] { Some(shaped(&take(op, Some(dy), &zeros()?, &writers, &block)?, shape)) } else { None };
        if !needs[1] {
            return Ok(vec![dx, None]);
        }
        let kept = invert(op, &writers, entries.elements())?;
        let dsrc = take(op, None, dy, &kept, &Block::flat(shape.elements()))?;
        Ok(vec![dx, Some(shaped(&dsrc, entries))])
    }))
}

/// 1 where the class is the index, 0 elsewhere, as u32 in a new last dimension.
pub(crate) fn one_hot(index: &Tensor, classes: usize) -> Result<Tensor> {
    let op = "one_hot";
    if classes == 0 || u32::try_from(classes).is_err() {
        return Err(Error::argument(op, format!("{classes} classes, expected 1 to {}", u32::MAX)));
    }
    let shape = Layout::contiguous(op, &[index.shape(), &[classes]].concat())?.shape;
    index.device().expect_room(op, shape.elements(), DType::U32)?;
    let slots = shaped(&slots(op, index, &Positions::rows(op, index, classes)?)?, index.dims());
    match index.device().kind() {
        Kind::Cpu(_) => cpu::one_hot(op, &slots, classes),
        Kind::Gpu(_) => Ok(shaped(&kernels::one_hot(op, &slots, classes)?, shape)),
    }
}
