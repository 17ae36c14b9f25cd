//! Keys and values of positions that were seen already.

use wgrad::{KvCache, Tensor};

use crate::Result;

/// Keys and values of one attention layer, none at first.
#[derive(Default)]
pub struct KeyValues {
    kept: Option<KvCache>,
}

impl KeyValues {
    /// Adds those of new positions, `[batch, key heads, positions, head_dim]`.
    ///
    /// # Errors
    /// If shapes do not fit, or memory is exhausted.
    pub fn append(&mut self, key: &Tensor, value: &Tensor) -> Result<()> {
        let (&[batch, heads, _, width], value_width) = (four(key), four(value)[3]);
        let kept = match self.kept.take() {
            Some(kept) => kept,
            None => KvCache::new(batch, heads, width, value_width, key.dtype(), key.device())?,
        };
        Ok(self.kept.insert(kept).append(key, value)?)
    }

    /// What is kept, if anything.
    pub fn kept(&self) -> Option<&KvCache> {
        self.kept.as_ref()
    }

    /// Keys and values as tensors.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn tensors(&self) -> Result<Option<(Tensor, Tensor)>> {
        Ok(match &self.kept {
            Some(kept) => Some((kept.key()?, kept.value()?)),
            None => None,
        })
    }

    /// Those of `length` positions from `start` on in one row of the batch, as a batch of their own.
    ///
    /// # Errors
    /// If there are no such positions.
    pub fn cut(&self, row: usize, start: usize, length: usize) -> Result<KeyValues> {
        let mut part = KeyValues::default();
        if let Some((key, value)) = self.tensors()? {
            let cut = |x: &Tensor| x.narrow(0, row, 1)?.narrow(2, start, length);
            part.append(&cut(&key)?, &cut(&value)?)?;
        }
        Ok(part)
    }

    /// Keeps the rows `chosen` (u32) of the batch, in their order, each as often as it is named: for beams.
    ///
    /// # Errors
    /// If a row is out of range.
    pub fn choose(&mut self, chosen: &Tensor) -> Result<()> {
        if let Some((key, value)) = self.tensors()? {
            self.kept = None;
            self.append(&key.index_select(0, chosen)?, &value.index_select(0, chosen)?)?;
        }
        Ok(())
    }
}

/// The sizes of a tensor that heads were split into.
fn four(x: &Tensor) -> &[usize; 4] {
    x.shape().try_into().unwrap_or(&[0; 4])
}
