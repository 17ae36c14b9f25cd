//! Memory of dropped tensors, kept for the next ones: fresh pages of the system cost more than most loops over them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::storage::{CpuData, Element};

/// Bytes below which the allocator is as fast.
const LEAST: usize = 1 << 15;

#[derive(Default)]
struct Pool {
    /// By element type, capacity, and the order in which they came.
    free: BTreeMap<(u8, usize, u64), CpuData>,
    bytes: usize,
    next: u64,
}

static POOL: Mutex<Option<Pool>> = Mutex::new(None);

/// A vector of `n` elements that hold anything: the caller writes each.
pub(crate) fn take<T: Element>(n: usize) -> Vec<T> {
    let bytes = n.saturating_mul(size_of::<T>());
    let found = (bytes >= LEAST).then(|| with(|pool| pool.take(T::DTYPE as u8, n))).flatten();
    match found.and_then(T::owned) {
        Some(mut values) => {
            values.resize(n, T::default());
            values
        }
        None => vec![T::default(); n],
    }
}

/// Keeps the memory of a dropped tensor, while all that is kept is no more than `most` bytes.
pub(crate) fn give(data: CpuData, most: u64) {
    if data.capacity_bytes() >= LEAST {
        let surplus = with(|pool| pool.give(data, usize::try_from(most).unwrap_or(usize::MAX)));
        drop(surplus);
    }
}

/// Gives everything back to the system.
pub(crate) fn clear() {
    let pool = with(std::mem::take);
    drop(pool);
}

fn with<R>(f: impl FnOnce(&mut Pool) -> R) -> R {
    f(POOL.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

impl Pool {
    /// The smallest vector that fits and is not much too large.
    fn take(&mut self, dtype: u8, n: usize) -> Option<CpuData> {
        let key = *self.free.range((dtype, n, 0)..=(dtype, n + n / 4, u64::MAX)).next()?.0;
        let data = self.free.remove(&key)?;
        self.bytes -= data.capacity_bytes();
        Some(data)
    }

    /// Returns what has to go for it, the oldest first.
    fn give(&mut self, data: CpuData, most: usize) -> Vec<CpuData> {
        self.bytes += data.capacity_bytes();
        self.free.insert((data.dtype() as u8, data.capacity_bytes() / data.dtype().size().max(1), self.next), data);
        self.next += 1;
        let mut surplus = Vec::new();
        while self.bytes > most
            && let Some(&oldest) = self.free.keys().min_by_key(|key| key.2)
            && let Some(data) = self.free.remove(&oldest)
        {
            self.bytes -= data.capacity_bytes();
            surplus.push(data);
        }
        surplus
    }
}
