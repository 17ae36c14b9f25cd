//! Shape, strides and offset: how a tensor lies in its buffer.

use std::fmt;
use std::ops::Deref;

use crate::{Error, Result};

/// Most dimensions a tensor can have.
pub const MAX_RANK: usize = 8;

/// Up to [`MAX_RANK`] sizes or strides, stored inline. Behaves as a slice of `usize`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Dims {
    len: u8,
    values: [usize; MAX_RANK],
}

impl Dims {
    /// Copies a slice.
    ///
    /// # Errors
    /// If there are more than [`MAX_RANK`] dimensions.
    pub fn new(op: &'static str, dims: &[usize]) -> Result<Self> {
        if dims.len() > MAX_RANK {
            return Err(Error::shape(op, format!("rank {} of {dims:?} exceeds the maximum of {MAX_RANK}", dims.len())));
        }
        Ok(Self::truncate(dims))
    }

    /// The first [`MAX_RANK`] values; for slices known to be short enough.
    fn truncate(dims: &[usize]) -> Self {
        let len = dims.len().min(MAX_RANK);
        let mut values = [0; MAX_RANK];
        values[..len].copy_from_slice(&dims[..len]);
        Dims { len: len as u8, values }
    }

    /// Product of the sizes, 1 for rank 0.
    pub fn elements(&self) -> usize {
        self.iter().product()
    }
}

impl Deref for Dims {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.values[..self.len as usize]
    }
}

impl std::ops::DerefMut for Dims {
    fn deref_mut(&mut self) -> &mut [usize] {
        &mut self.values[..self.len as usize]
    }
}

impl fmt::Debug for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(f)
    }
}

/// Strided view of a buffer; strides and offset count elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub shape: Dims,
    pub strides: Dims,
    pub offset: usize,
}

impl Layout {
    /// Row-major layout from the start of a buffer. An overflowing element count is an error.
    pub fn contiguous(op: &'static str, shape: &[usize]) -> Result<Self> {
        let shape = Dims::new(op, shape)?;
        count(op, shape)?;
        Ok(Self::row_major(shape))
    }

    /// Row-major layout of a shape already known to be sound.
    pub fn row_major(shape: Dims) -> Self {
        let mut strides = shape;
        let mut next = 1;
        for i in (0..shape.len()).rev() {
            strides[i] = next;
            next *= shape[i].max(1);
        }
        Layout { shape, strides, offset: 0 }
    }

    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    pub fn elements(&self) -> usize {
        self.shape.elements()
    }

    /// Number of elements in memory: those that are repeated along a dimension count once.
    pub fn distinct(&self) -> usize {
        self.shape
            .iter()
            .zip(self.strides.iter())
            .map(|(&size, &stride)| if stride == 0 { size.min(1) } else { size })
            .product()
    }

    /// Whether the elements lie in row-major order without gaps (the offset may be anything).
    pub fn is_contiguous(&self) -> bool {
        if self.elements() <= 1 {
            return true;
        }
        let mut next = 1;
        for i in (0..self.rank()).rev() {
            if self.shape[i] != 1 {
                if self.strides[i] != next {
                    return false;
                }
                next *= self.shape[i];
            }
        }
        true
    }

    pub fn permute(&self, axes: &[usize]) -> Self {
        let mut out = *self;
        for (to, &from) in axes.iter().enumerate() {
            out.shape[to] = self.shape[from];
            out.strides[to] = self.strides[from];
        }
        out
    }

    /// `start..start + length * step` of one dimension; bounds are checked by the caller.
    pub fn slice(&self, dim: usize, start: usize, length: usize, step: usize) -> Self {
        let mut out = *self;
        if length > 0 {
            out.offset += start * self.strides[dim];
        }
        out.shape[dim] = length;
        out.strides[dim] *= step;
        out
    }

    /// Broadcasts to `shape` by numpy's rules with strides of 0.
    pub fn broadcast_to(&self, op: &'static str, shape: &[usize]) -> Result<Self> {
        let target = Dims::new(op, shape)?;
        let refuse = || Error::shape(op, format!("shape {:?} does not broadcast to {shape:?}", self.shape));
        let lead = target.len().checked_sub(self.rank()).ok_or_else(refuse)?;
        let mut strides = target;
        for i in 0..target.len() {
            strides[i] = match i.checked_sub(lead) {
                Some(j) if self.shape[j] == target[i] => self.strides[j],
                Some(j) if self.shape[j] != 1 => return Err(refuse()),
                _ => 0,
            };
        }
        count(op, target)?;
        Ok(Layout { shape: target, strides, offset: self.offset })
    }

    /// The same elements under another shape, if strides can express it.
    pub fn reshape(&self, shape: Dims) -> Option<Self> {
        let mut out = Layout::row_major(shape);
        out.offset = self.offset;
        if self.is_contiguous() {
            return Some(out);
        }
        // Walk groups of old dimensions that are jointly contiguous; each must cover whole new dimensions.
        let old: Vec<(usize, usize)> =
            self.shape.iter().copied().zip(self.strides.iter().copied()).filter(|d| d.0 != 1).collect();
        let (mut i, mut j) = (0, 0);
        while i < old.len() {
            let (mut have, mut want) = (old[i].0, 1);
            let first = j;
            let mut last = i;
            while j < shape.len() && want < have {
                want *= shape[j];
                j += 1;
                while want > have && last + 1 < old.len() {
                    if old[last].1 != old[last + 1].0 * old[last + 1].1 {
                        return None;
                    }
                    last += 1;
                    have *= old[last].0;
                }
            }
            if want != have {
                return None;
            }
            let mut stride = old[last].1;
            for k in (first..j).rev() {
                out.strides[k] = stride;
                stride *= shape[k];
            }
            i = last + 1;
        }
        Some(out)
    }

    /// Resolves a dimension that may count from the end.
    pub fn dim(&self, op: &'static str, dim: isize) -> Result<usize> {
        let rank = self.rank();
        let resolved = if dim < 0 { dim + rank as isize } else { dim };
        if resolved < 0 || resolved >= rank as isize {
            return Err(Error::Dim { op, dim, rank });
        }
        Ok(resolved as usize)
    }

    /// Visits the buffer index of every element in row-major order.
    pub fn for_each_index(&self, mut f: impl FnMut(usize)) {
        let n = self.elements();
        if n == 0 {
            return;
        }
        let rank = self.rank();
        if rank == 0 {
            return f(self.offset);
        }
        let (inner, stride) = (self.shape[rank - 1], self.strides[rank - 1]);
        let mut at = [0usize; MAX_RANK];
        let mut base = self.offset;
        loop {
            for i in 0..inner {
                f(base + i * stride);
            }
            let mut d = rank - 1;
            loop {
                if d == 0 {
                    return;
                }
                d -= 1;
                at[d] += 1;
                base += self.strides[d];
                if at[d] < self.shape[d] {
                    break;
                }
                base -= at[d] * self.strides[d];
                at[d] = 0;
            }
        }
    }
}

/// Number of elements; more than memory can address are an error.
fn count(op: &'static str, shape: Dims) -> Result<usize> {
    let product = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size.max(1)));
    let fits = product.filter(|&n| n <= isize::MAX as usize / 8);
    fits.ok_or_else(|| Error::shape(op, format!("shape {shape:?} has too many elements")))?;
    Ok(shape.elements())
}

/// The shape that two shapes broadcast to.
pub(crate) fn broadcast_shape(op: &'static str, a: &[usize], b: &[usize]) -> Result<Dims> {
    let rank = a.len().max(b.len());
    let mut out = Dims::new(op, if a.len() == rank { a } else { b })?;
    for i in 0..rank {
        let x = (i + a.len()).checked_sub(rank).map_or(1, |j| a[j]);
        let y = (i + b.len()).checked_sub(rank).map_or(1, |j| b[j]);
        out[i] = match (x, y) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            _ => return Err(Error::shape(op, format!("shapes {a:?} and {b:?} do not broadcast"))),
        };
    }
    count(op, out)?;
    Ok(out)
}

/// Merges neighbouring dimensions that every operand steps through as one, and drops those of size 1: fewer index
/// divisions in strided kernels. All layouts have the same shape. Returns the merged shape and each operand's strides.
pub(crate) fn collapse(layouts: &[Layout]) -> (Vec<usize>, Vec<Vec<usize>>) {
    let Some(first) = layouts.first() else { return (Vec::new(), Vec::new()) };
    let mut shape: Vec<usize> = Vec::new();
    let mut strides: Vec<Vec<usize>> = vec![Vec::new(); layouts.len()];
    for i in 0..first.rank() {
        let size = first.shape[i];
        if size == 1 {
            continue;
        }
        let joins =
            !shape.is_empty() && layouts.iter().zip(&strides).all(|(l, s)| s.last() == Some(&(l.strides[i] * size)));
        if joins {
            if let Some(last) = shape.last_mut() {
                *last *= size;
            }
        } else {
            shape.push(size);
        }
        for (l, s) in layouts.iter().zip(&mut strides) {
            if joins {
                s.pop();
            }
            s.push(l.strides[i]);
        }
    }
    (shape, strides)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(shape: &[usize]) -> Layout {
        Layout::contiguous("test", shape).unwrap()
    }

    #[test]
    fn reshape_of_views() {
        let x = layout(&[2, 3, 4]);
        let t = x.permute(&[1, 0, 2]);
        assert!(t.reshape(Dims::truncate(&[6, 4])).is_none());
        let split = t.reshape(Dims::truncate(&[3, 2, 2, 2])).unwrap();
        assert_eq!(&*split.strides, &[4, 12, 2, 1]);
        let sliced = x.slice(2, 1, 2, 1);
        assert_eq!(&*sliced.reshape(Dims::truncate(&[6, 2])).unwrap().strides, &[4, 1]);
        assert!(sliced.reshape(Dims::truncate(&[12])).is_none());
        let wide = layout(&[4, 6]).slice(1, 0, 3, 1);
        assert_eq!(&*wide.reshape(Dims::truncate(&[2, 2, 3])).unwrap().strides, &[12, 6, 1]);
    }

    #[test]
    fn indices_of_a_strided_view() {
        let t = layout(&[2, 3]).permute(&[1, 0]);
        let mut seen = Vec::new();
        t.for_each_index(|i| seen.push(i));
        assert_eq!(seen, [0, 3, 1, 4, 2, 5]);
    }

    #[test]
    fn collapse_merges() {
        let a = layout(&[2, 3, 4]);
        let b = layout(&[4]).broadcast_to("test", &[2, 3, 4]).unwrap();
        assert_eq!(collapse(&[a, a]), (vec![24], vec![vec![1], vec![1]]));
        assert_eq!(collapse(&[a, b]), (vec![6, 4], vec![vec![4, 1], vec![0, 1]]));
    }

    #[test]
    fn broadcasting() {
        assert_eq!(&*broadcast_shape("test", &[3, 1], &[2, 1, 4]).unwrap(), &[2, 3, 4]);
        assert!(broadcast_shape("test", &[3], &[2]).is_err());
        assert_eq!(&*broadcast_shape("test", &[0, 1], &[1, 5]).unwrap(), &[0, 5]);
    }
}
