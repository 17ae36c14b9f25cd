//! What a block does when a model is run over and over on the same inputs, and but a few of its blocks change in between.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wgrad::Tensor;
use wgrad::nn::{Module, parts};

use crate::{Error, Result};

#[derive(Default)]
enum Deed {
    #[default]
    Compute,
    Record(Vec<Tensor>),
    /// What was recorded, and which of it comes next.
    Replay(Vec<Tensor>, usize),
    Skip,
}

#[derive(Default)]
struct State {
    deed: Deed,
    /// Whether what comes out goes into the next block and nowhere else.
    inner: bool,
}

/// Tells a block whether to compute. Clones are handles on one.
#[derive(Clone, Default)]
pub struct Replay(Arc<Mutex<State>>);

impl Replay {
    /// Those of the blocks of a model, under the blocks' names, in order.
    pub fn of(model: &(impl Module + ?Sized)) -> Vec<(String, Replay)> {
        let named = |(name, replay): (String, Replay)| (name.trim_end_matches('.').to_string(), replay);
        parts::<Replay>(model).into_iter().map(named).collect()
    }

    /// The block computes again, and nothing is kept.
    pub fn compute(&self) {
        self.state().deed = Deed::Compute;
    }

    /// The block computes, and what comes out of it is kept.
    pub fn record(&self) {
        self.state().deed = Deed::Record(Vec::new());
    }

    /// A block that was recorded gives what was, one call after the other, and from the first on again after the last. Another goes on with
    /// what it does.
    pub fn replay(&self) {
        let deed = &mut self.state().deed;
        if let Deed::Record(kept) = deed {
            *deed = Deed::Replay(std::mem::take(kept), 0);
        }
    }

    /// The block gives what it is given, and nothing is kept: where nobody looks at what comes out.
    pub fn skip(&self) {
        self.state().deed = Deed::Skip;
    }

    /// Says that what comes out of the block goes into the next block alone: nobody looks at it once that one replays.
    pub fn set_inner(&self) {
        self.state().inner = true;
    }

    /// Whether it was [said](Self::set_inner) so.
    pub fn is_inner(&self) -> bool {
        self.state().inner
    }

    /// What comes out for `x`, by computing it if need be.
    pub(super) fn around(&self, x: &Tensor, compute: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        match &mut self.state().deed {
            Deed::Compute | Deed::Record(_) => {}
            Deed::Skip => return Ok(x.clone()),
            Deed::Replay(kept, next) => {
                let none = || Error::argument("replay", "a block is called that was not called when it was recorded");
                let out = kept.get(*next).cloned().ok_or_else(none)?;
                *next = (*next + 1) % kept.len();
                return Ok(out);
            }
        }
        // Unlocked meanwhile, so that threads that share a model need not wait for each other.
        let out = compute()?;
        if let Deed::Record(kept) = &mut self.state().deed {
            kept.push(out.detach());
        }
        Ok(out)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
