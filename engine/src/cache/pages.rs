//! The memory of caches, and where in it sequences lie. A contiguous cache is one large page for each sequence.

use crate::layout::Dims;
use crate::ops::join::PadMode;
use crate::plane::Plane;
use crate::{DType, Device, Error, Result, Tensor};

/// Keys [count, heads, size, head_dim] and values [count, heads, size, value_dim], with widths rounded up to fours, changed in place.
pub(crate) struct Pages {
    pub key: Plane,
    pub value: Plane,
    pub count: usize,
    pub heads: usize,
    /// Tokens of a page.
    pub size: usize,
    /// Of keys and of values.
    pub widths: [usize; 2],
    device: Device,
}

impl Pages {
    pub fn new(
        op: &'static str,
        count: usize,
        heads: usize,
        size: usize,
        widths: [usize; 2],
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let [head_dim, value_dim] = widths;
        if [count, heads, size, head_dim, value_dim].contains(&0) {
            let message = format!(
                "{count} sequences or pages of {size} tokens, {heads} heads of widths {head_dim} and {value_dim}: each must be at least 1"
            );
            return Err(Error::argument(op, message));
        }
        if !dtype.is_float() {
            return Err(Error::DType { op, got: dtype, expected: "a float dtype" });
        }
        device.expect_dtype(op, dtype)?;
        let plane = |width: usize| {
            let shape = Dims::new(op, &[count, heads, size, width.next_multiple_of(4)])?;
            crate::layout::Layout::contiguous(op, &shape)?;
            device.expect_room(op, shape.elements(), dtype)?;
            Plane::zeros(shape.elements(), dtype, device)
        };
        let (key, value) = (plane(head_dim)?, plane(value_dim)?);
        Ok(Pages { key, value, count, heads, size, widths, device: device.clone() })
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    pub fn dtype(&self) -> DType {
        self.key.dtype()
    }

    /// Bytes of the keys and values of one page.
    pub fn bytes(&self) -> usize {
        self.widths.iter().map(|width| self.page_elements(*width)).sum::<usize>() * self.dtype().size()
    }

    fn page_elements(&self, width: usize) -> usize {
        self.heads * self.size * width.next_multiple_of(4)
    }

    /// The number of tokens of `key` [batch, heads, new, head_dim] and `value` [batch, heads, new, value_dim], if they fit.
    pub fn expect_rows(&self, op: &'static str, key: &Tensor, value: &Tensor, batch: usize) -> Result<usize> {
        for x in [key, value] {
            x.expect_float(op)?;
            if !x.device().same(&self.device) {
                let (left, right) = (self.device.to_string(), x.device().to_string());
                return Err(Error::DeviceMismatch { op, left, right });
            }
        }
        let new = key.shape().get(2).copied().unwrap_or_default();
        for (x, width, name) in [(key, self.widths[0], "key"), (value, self.widths[1], "value")] {
            let expected = [batch, self.heads, new, width];
            if x.shape() != expected {
                return Err(Error::shape(op, format!("{name} of shape {:?}, expected {expected:?}", x.shape())));
            }
        }
        Ok(new)
    }

    /// Gives each page room for `size` tokens.
    pub fn grow(&mut self, size: usize) -> Result<()> {
        let more = |plane: &Plane, width: usize| {
            let old = self.view(plane, width.next_multiple_of(4))?;
            Ok(Plane::of(
                &old.pad(&[(0, 0), (0, 0), (0, size as isize - self.size as isize), (0, 0)], PadMode::Constant(0.0))?,
            ))
        };
        let grown: Result<_> =
            more(&self.key, self.widths[0]).and_then(|key| Ok((key, more(&self.value, self.widths[1])?)));
        (self.key, self.value) = grown?;
        self.size = size;
        Ok(())
    }

    /// Copies a page over another.
    pub fn copy(&mut self, from: usize, to: usize) -> Result<()> {
        let elements = self.widths.map(|width| self.page_elements(width));
        for (plane, elements) in [&mut self.key, &mut self.value].into_iter().zip(elements) {
            plane.make_exclusive()?;
            plane.copy_within(from * elements, to * elements, elements)?;
        }
        Ok(())
    }

    /// The first tokens of all pages, [count, heads, rows, head_dim].
    pub fn key_rows(&self, rows: usize) -> Result<Tensor> {
        self.view(&self.key, self.widths[0].next_multiple_of(4))?.narrow(2, 0, rows)?.narrow(3, 0, self.widths[0])
    }

    pub fn value_rows(&self, rows: usize) -> Result<Tensor> {
        self.view(&self.value, self.widths[1].next_multiple_of(4))?.narrow(2, 0, rows)?.narrow(3, 0, self.widths[1])
    }

    fn view(&self, plane: &Plane, width: usize) -> Result<Tensor> {
        Ok(plane.view(0, Dims::new("KvCache", &[self.count, self.heads, self.size, width])?))
    }
}

/// Which tokens some sequences have, and where they lie in [`Pages`].
pub(crate) struct Places {
    pub lengths: Vec<usize>,
    /// Tokens that an append adds to each; the lengths count them.
    pub counts: Vec<usize>,
    /// [sequences, width]: the pages of each sequence. Empty if sequence `b` has page `b` alone.
    table: Vec<u32>,
    /// On a GPU: lengths, counts and table.
    pub words: Option<Tensor>,
}

impl Places {
    pub fn new(lengths: Vec<usize>, counts: Vec<usize>, table: Vec<u32>, device: &Device) -> Result<Self> {
        let mut words = None;
        if device.is_gpu() {
            let numbers = lengths.iter().chain(&counts).map(|&n| n as u32);
            let numbers: Vec<u32> = numbers.chain(table.iter().copied()).collect();
            let count = numbers.len();
            words = Some(Tensor::from_vec(numbers, &[count], device)?);
        }
        Ok(Places { lengths, counts, table, words })
    }

    pub fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or_default()
    }

    /// Pages that a row of the table has room for; 0 without a table.
    pub fn table_width(&self) -> usize {
        self.table.len() / self.lengths.len().max(1)
    }

    /// The page of token `t` of sequence `b`, and where in the page, for pages of `size` tokens.
    pub fn find(&self, b: usize, t: usize, size: usize) -> (usize, usize) {
        match self.table_width() {
            0 => (b, t),
            width => (self.table[b * width + t / size] as usize, t % size),
        }
    }
}
