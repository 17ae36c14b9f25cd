//! The buffer pool: size classes, free lists, the memory limit, counters.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::{lock, thread_safe};

/// Free memory that the pool may keep beyond the largest amount ever live.
const SLACK: u64 = 256 << 20;
const SMALLEST: u64 = 256;

/// Memory and work of a device since it was opened. Sizes are what buffers take, rounded up to their size class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Bytes of buffers that tensors hold now.
    pub live_bytes: u64,
    /// Bytes of free buffers that wait in the pool.
    pub pooled_bytes: u64,
    /// The largest `live_bytes` so far.
    pub peak_bytes: u64,
    /// The largest sum of live and pooled bytes so far: what was taken from the driver.
    pub peak_reserved_bytes: u64,
    /// Buffers created by the driver; the others came from the pool.
    pub allocations: u64,
    /// Kernels dispatched.
    pub dispatches: u64,
    /// Batches submitted.
    pub submits: u64,
    /// Pipelines compiled.
    pub pipelines: u64,
    /// Bind groups created; the other launches found theirs in the cache.
    pub bind_groups_created: u64,
    /// Buffers created for bytes on their way from or to the host. Like buffers of tensors they are used again.
    pub staging_buffers: u64,
    /// How often the host waited for results.
    pub reads: u64,
}

/// A buffer of the driver.
pub(super) struct Physical {
    /// Never used again, so it can be a key of caches.
    pub id: u64,
    pub raw: wgpu::Buffer,
    pub bytes: u64,
    /// Number of the last batch in which a command names this buffer.
    pub last_batch: AtomicU64,
}

// SAFETY: as for `Gpu`.
unsafe impl Send for Physical {}
unsafe impl Sync for Physical {}
const _: fn(&Physical) = |Physical { id, raw, bytes, last_batch }| thread_safe(&(id, raw, bytes, last_batch));

/// A live buffer with guard words behind its content.
pub(super) struct Guarded {
    pub op: &'static str,
    pub physical: Arc<Physical>,
    /// Where the guard begins.
    pub end: u64,
    /// Tells this allocation from another of the same memory.
    pub serial: u64,
}

#[derive(Default)]
struct State {
    /// By size class and number. The lowest number is taken first, so that steps which begin with the same buffers free take the
    /// same ones, and find their bind groups in the cache.
    free: HashMap<u64, BTreeMap<u64, Arc<Physical>>>,
    guarded: BTreeMap<u64, Guarded>,
    limit: Option<u64>,
    next_id: u64,
    stats: MemoryStats,
}

pub(super) struct Pool(Mutex<State>);

/// The size of buffer that serves `bytes`: four classes between powers of two, so at most a quarter is unused.
pub(super) fn size_class(bytes: u64) -> u64 {
    if bytes <= SMALLEST {
        return SMALLEST;
    }
    let step = 1u64 << ((bytes - 1).ilog2() - 2);
    bytes.next_multiple_of(step)
}

impl Pool {
    pub fn new(limit: Option<u64>) -> Self {
        Pool(Mutex::new(State { limit, ..State::default() }))
    }

    pub fn stats(&self) -> MemoryStats {
        lock(&self.0).stats
    }

    pub fn set_limit(&self, limit: Option<u64>) {
        lock(&self.0).limit = limit;
    }

    /// The limit in force, or what the driver has given so far where there is none.
    pub fn limit(&self) -> u64 {
        let state = lock(&self.0);
        state.limit.unwrap_or(state.stats.live_bytes + state.stats.pooled_bytes)
    }

    /// A free buffer of `class` bytes.
    pub fn take(&self, class: u64) -> Option<Arc<Physical>> {
        let mut state = lock(&self.0);
        let (_, physical) = state.free.get_mut(&class)?.pop_first()?;
        state.stats.pooled_bytes -= class;
        state.live(class);
        Some(physical)
    }

    /// Counts `class` bytes as live ahead of their allocation; false where the limit forbids it.
    pub fn reserve(&self, class: u64) -> bool {
        let mut state = lock(&self.0);
        let wanted = state.stats.live_bytes + state.stats.pooled_bytes + class;
        let fits = state.limit.is_none_or(|limit| wanted <= limit);
        if fits {
            state.live(class);
        }
        fits
    }

    /// Takes back a reservation that the driver did not serve.
    pub fn unreserve(&self, class: u64) {
        lock(&self.0).stats.live_bytes -= class;
    }

    /// Wraps a new buffer for which bytes were reserved.
    pub fn adopt(&self, raw: wgpu::Buffer) -> Arc<Physical> {
        let mut state = lock(&self.0);
        state.next_id += 1;
        state.stats.allocations += 1;
        Arc::new(Physical { id: state.next_id, bytes: raw.size(), raw, last_batch: AtomicU64::new(0) })
    }

    /// Returns a buffer. Commands recorded from now on may use it at once, since the queue is ordered.
    pub fn give(&self, physical: &Arc<Physical>) {
        let mut state = lock(&self.0);
        state.guarded.remove(&physical.id);
        state.stats.live_bytes -= physical.bytes;
        state.stats.pooled_bytes += physical.bytes;
        state.free.entry(physical.bytes).or_default().insert(physical.id, physical.clone());
    }

    /// Takes all free buffers out.
    pub fn drain(&self) -> Vec<Arc<Physical>> {
        let mut state = lock(&self.0);
        state.stats.pooled_bytes = 0;
        state.free.drain().flat_map(|(_, list)| list.into_values()).collect()
    }

    /// Counts the largest numbers of bytes anew, from what there is now.
    pub fn reset_peaks(&self) {
        let stats = &mut lock(&self.0).stats;
        stats.peak_bytes = stats.live_bytes;
        stats.peak_reserved_bytes = stats.live_bytes + stats.pooled_bytes;
    }

    /// Whether the pool holds more than a steady load can need: sizes have changed, and the old ones should go.
    pub fn is_overfull(&self) -> bool {
        let stats = lock(&self.0).stats;
        stats.pooled_bytes > stats.peak_bytes + SLACK
    }

    pub fn guard(&self, guarded: Guarded) {
        lock(&self.0).guarded.insert(guarded.physical.id, guarded);
    }

    /// Operation, buffer and place of the guard of every live guarded buffer.
    pub fn guarded(&self) -> Vec<Guarded> {
        let state = lock(&self.0);
        let copy = |g: &Guarded| Guarded { op: g.op, physical: g.physical.clone(), end: g.end, serial: g.serial };
        state.guarded.values().map(copy).collect()
    }
}

impl State {
    fn live(&mut self, bytes: u64) {
        let stats = &mut self.stats;
        stats.live_bytes += bytes;
        stats.peak_bytes = stats.peak_bytes.max(stats.live_bytes);
        stats.peak_reserved_bytes = stats.peak_reserved_bytes.max(stats.live_bytes + stats.pooled_bytes);
    }
}

impl Physical {
    pub fn used_in(&self, batch: u64) {
        self.last_batch.store(batch, Ordering::Relaxed);
    }

    pub fn is_used_in(&self, batch: u64) -> bool {
        self.last_batch.load(Ordering::Relaxed) == batch
    }
}
