//! Operations of the CPU device, as they show themselves: an operation begins when it first looks at an input, or starts to fill
//! memory, and ends when it wraps its output.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Event, Instant};
use crate::{Error, Result};

/// Threads that profile now. While there are none, the functions below cost one load.
static ACTIVE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

struct Recorder {
    origin: Instant,
    events: Vec<Event>,
    open: Option<Open>,
}

/// An operation that has begun.
struct Open {
    /// None while only memory is being filled.
    op: Option<&'static str>,
    begun: Instant,
    bytes: u64,
    operations: u64,
}

fn with(f: impl FnOnce(&mut Recorder)) {
    if ACTIVE.load(Ordering::Relaxed) > 0 {
        RECORDER.with_borrow_mut(|recorder| recorder.as_mut().map(f));
    }
}

pub(super) fn start() -> Result<()> {
    RECORDER.with_borrow_mut(|recorder| {
        if recorder.is_some() {
            return Err(Error::argument("Device::profile", "this thread is being profiled already"));
        }
        ACTIVE.fetch_add(1, Ordering::Relaxed);
        *recorder = Some(Recorder { origin: Instant::now(), events: Vec::new(), open: None });
        Ok(())
    })
}

/// What this thread did since [`start`]; nothing if it did not start.
pub(super) fn finish() -> Vec<Event> {
    RECORDER.with_borrow_mut(|recorder| {
        let Some(recorder) = recorder.take() else { return Vec::new() };
        ACTIVE.fetch_sub(1, Ordering::Relaxed);
        recorder.events
    })
}

/// `op` looks at `bytes` of an input.
pub(crate) fn touched(op: &'static str, bytes: u64) {
    with(|recorder| match &mut recorder.open {
        Some(open) if open.op == Some(op) => open.bytes += bytes,
        // What looked at its input before and made nothing was a read by the host.
        open => *open = Some(Open { op: Some(op), begun: Instant::now(), bytes, operations: 0 }),
    });
}

/// Memory is about to be filled.
pub(crate) fn begun() {
    with(|recorder| {
        recorder.open.get_or_insert_with(|| Open { op: None, begun: Instant::now(), bytes: 0, operations: 0 });
    });
}

/// The operation that has begun does so many multiplications and additions.
pub(crate) fn operations(count: u64) {
    with(|recorder| {
        if let Some(open) = &mut recorder.open {
            open.operations += count;
        }
    });
}

/// `op` is done with an output of `bytes`.
pub(crate) fn made(op: &'static str, bytes: u64) {
    with(|recorder| {
        let now = Instant::now();
        let nanos = |time: Instant| time.saturating_duration_since(recorder.origin).as_nanos() as u64;
        match recorder.open.take() {
            Some(open) if open.op.is_none_or(|name| name == op) => {
                let event = Event::new(op, open.bytes + bytes, open.operations);
                let start = nanos(open.begun);
                recorder.events.push(event.at(start, nanos(now) - start));
            }
            _ => match recorder.events.last_mut() {
                // A second output of one run.
                Some(last) if last.name == op => last.bytes += bytes,
                _ => recorder.events.push(Event::new(op, bytes, 0).at(nanos(now), 0)),
            },
        }
    });
}
