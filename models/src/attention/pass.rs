//! What one pass through a model tells each of its attention layers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use wgrad::{Buckets, Mask, Tensor};

use super::Pairs;
use crate::{Error, Result};

/// A query sees the keys from `left` before it to `right` behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Positions before.
    pub left: usize,
    /// Positions behind.
    pub right: usize,
}

/// Queries, keys and values by head, `[batch, heads, length, head_dim]`, of a teacher's attention layers in their order.
#[derive(Clone, Default)]
pub struct Lessons(Arc<Mutex<VecDeque<[Tensor; 3]>>>);

impl Lessons {
    /// Adds those of the next layer, without their graph.
    pub(super) fn put(&self, heads: [&Tensor; 3]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(heads.map(Tensor::detach));
    }

    fn take(&self) -> Option<[Tensor; 3]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Losses that layers add of their own while a model is trained.
#[derive(Clone, Default)]
pub struct Losses {
    added: Arc<Mutex<Vec<Tensor>>>,
    lessons: Option<Lessons>,
}

impl Losses {
    /// For layers that learn from those of a teacher, one by one.
    pub fn of(lessons: Lessons) -> Self {
        Losses { lessons: Some(lessons), ..Losses::default() }
    }

    /// The heads of the teacher's next layer, if there is a teacher.
    ///
    /// # Errors
    /// If the teacher has fewer layers.
    pub fn lesson(&self) -> Result<Option<[Tensor; 3]>> {
        let none = || Error::argument("lessons", "the teacher has fewer layers of attention than who learns from it");
        self.lessons.as_ref().map(|lessons| lessons.take().ok_or_else(none)).transpose()
    }

    /// Adds one.
    pub fn add(&self, loss: Tensor) {
        self.added.lock().unwrap_or_else(PoisonError::into_inner).push(loss);
    }

    /// The sum of all that were added.
    ///
    /// # Errors
    /// If there is none.
    pub fn sum(&self) -> Result<Tensor> {
        let losses = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, rest) = losses.split_first().ok_or_else(|| Error::argument("losses", "no layer added one"))?;
        Ok(rest.iter().try_fold(first.clone(), |sum, loss| sum.add(loss))?)
    }
}

/// Masks, positions and biases that the layers of a model share in one pass.
#[derive(Clone, Default)]
pub struct Pass {
    /// Who sees whom, for layers without a window first, then with each of the windows there are: a mask is made ready for the
    /// device once, and not by each layer again.
    masks: Vec<(Option<Window>, Mask)>,
    /// Positions of the queries, and of the keys of this pass, `[batch, length]`, for rotary embeddings.
    pub positions: Option<Tensor>,
    /// Vectors of positions that are added to what queries and keys are made of, but not values; broadcasts to `[batch, length, hidden]`.
    pub added: Option<Tensor>,
    /// Bias of the scores by distance, as [`wgrad::AttentionOptions::relative_bias`].
    pub relative_bias: Option<Tensor>,
    /// Relative positions and segments of pairs, for the scores that use them.
    pub pairs: Option<Pairs>,
    /// Vectors of distances `[buckets, hidden]` and the bucket of each pair, for disentangled attention.
    pub vectors: Option<(Tensor, Buckets)>,
    /// True for real tokens among the keys, `[batch, keys]`; all if absent.
    pub real: Option<Tensor>,
    /// Where layers put losses of their own, if they are wanted.
    pub losses: Option<Losses>,
    /// Where the attention layers of a teacher put what they attend with.
    pub lessons: Option<Lessons>,
    /// How many positions came before.
    pub offset: usize,
    /// Whether masks speak of all positions, and not of those of this pass: for a few queries that read kept keys and values where they are.
    pub steps: bool,
}

impl Pass {
    /// A pass under a mask, which layers narrow by their windows. The first query stands at position `offset` among the keys.
    pub fn new(mask: &Mask, offset: usize, windows: impl Iterator<Item = Option<Window>>) -> Self {
        let mut masks = vec![(None, mask.clone())];
        for window in windows {
            if let Some(Window { left, right }) = window
                && masks.iter().all(|(known, _)| *known != window)
            {
                let near = Mask::window(left, right).at(offset as i64);
                masks.push((window, mask.clone().and(near)));
            }
        }
        Pass { masks, offset, ..Pass::default() }
    }

    /// A pass in which all see all, and know each other's places by vectors that are added.
    pub fn among(added: Tensor) -> Self {
        Pass { added: Some(added), ..Pass::default() }
    }

    /// Which positions of `x [batch, length, ..]` are real tokens, if some are not. What attends to other keys than its own has no padding of
    /// which this pass knows.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn real_of(&self, x: &Tensor) -> Result<Option<Tensor>> {
        let Some(real) = &self.real else { return Ok(None) };
        match (real.shape(), x.shape()) {
            (&[rows, keys], &[batch, length, ..]) if rows == batch && keys == self.offset + length => {
                Ok(Some(real.narrow(1, self.offset, length)?))
            }
            _ => Ok(None),
        }
    }

    /// The mask of a layer with this window.
    pub fn mask(&self, window: Option<Window>) -> Mask {
        let found = self.masks.iter().find(|(known, _)| *known == window);
        found.map_or_else(Mask::all, |(_, mask)| mask.clone())
    }
}
