//! What takes the time: kernels of a GPU by its own clock, operations of the CPU device by the host's.

mod host;
mod rates;
mod trace;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use std::time::Instant;
#[cfg(target_arch = "wasm32")]
pub(crate) use web_time::Instant;

pub(crate) use host::{begun, made, operations, touched};
pub use rates::Rates;

use crate::autograd::is_backward;
use crate::device::Kind;
use crate::{Device, Result};

/// One kernel or operation that ran.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    name: &'static str,
    backward: bool,
    bytes: u64,
    operations: u64,
    /// Nanoseconds since the first event.
    start: u64,
    /// Nanoseconds.
    span: u64,
}

impl Event {
    /// Whether it belongs to a backward pass is what the thread does right now.
    pub fn new(name: &'static str, bytes: u64, operations: u64) -> Self {
        Event { name, backward: is_backward(), bytes, operations, start: 0, span: 0 }
    }

    pub fn at(self, start: u64, span: u64) -> Self {
        Event { start, span, ..self }
    }

    fn label(&self) -> String {
        // Kernels that only backward passes run say so themselves.
        let plain = !self.backward || self.name.contains("backward") || self.name.contains("grad");
        if plain { self.name.to_string() } else { format!("{} (backward)", self.name) }
    }
}

/// What ran during [`Device::profile`]. Prints as a table.
#[derive(Debug, Clone)]
pub struct Profile {
    device: String,
    events: Vec<Event>,
    wall: Duration,
    rates: Option<Rates>,
}

/// All runs of one kernel (on the CPU device: of one operation).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProfileRow {
    /// The kernel, as its file in `shaders/` is called, or the operation; with `(backward)` where it ran in a backward pass.
    pub name: String,
    /// How often it ran.
    pub calls: u64,
    /// How long, all runs together.
    pub time: Duration,
    /// Bytes of the tensors that it read and wrote, each counted once a run.
    pub bytes: u64,
    /// Multiplications and additions in floating point, of kernels whose arithmetic counts (a multiply-add is two); else 0.
    pub operations: u64,
    /// The time that its bytes or its operations, whichever takes longer, need at the rates of the device, as a fraction of
    /// the time it took. None unless [`Device::rates`] was measured before.
    pub limit_fraction: Option<f64>,
}

impl Profile {
    /// The kernels, the longest first.
    pub fn rows(&self) -> Vec<ProfileRow> {
        let mut rows: BTreeMap<String, ProfileRow> = BTreeMap::new();
        for event in &self.events {
            let name = event.label();
            let row = rows.entry(name.clone()).or_insert(ProfileRow {
                name,
                calls: 0,
                time: Duration::ZERO,
                bytes: 0,
                operations: 0,
                limit_fraction: None,
            });
            row.calls += 1;
            row.time += Duration::from_nanos(event.span);
            row.bytes += event.bytes;
            row.operations += event.operations;
        }
        let mut rows: Vec<_> = rows.into_values().collect();
        for row in &mut rows {
            row.limit_fraction = self.rates.and_then(|rates| rates.fraction(row.bytes, row.operations, row.time));
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.time));
        rows
    }

    /// Time in kernels.
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.events.iter().map(|event| event.span).sum())
    }

    /// Time on the host's clock, from before the first operation until the device was done.
    pub fn wall(&self) -> Duration {
        self.wall
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let total = self.time().as_secs_f64();
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        writeln!(
            f,
            "{}: {} kernels, {:.3} ms in kernels of {:.3} ms",
            self.device,
            self.events.len(),
            total * 1e3,
            millis(self.wall)
        )?;
        if let Some(rates) = self.rates {
            writeln!(f, "{rates}")?;
        }
        let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(6);
        writeln!(
            f,
            "{:<width$} {:>6} {:>10} {:>6} {:>9} {:>8} {:>9} {:>9}",
            "kernel", "calls", "ms", "share", "MB", "GB/s", "GFLOP/s", "of limit"
        )?;
        for row in &rows {
            let seconds = row.time.as_secs_f64();
            let rate = |count: u64| match seconds > 0.0 && count > 0 {
                true => format!("{:.2}", count as f64 / seconds / 1e9),
                false => "-".to_string(),
            };
            let limit = row.limit_fraction.map_or("-".to_string(), |fraction| format!("{:.0} %", fraction * 100.0));
            writeln!(
                f,
                "{:<width$} {:>6} {:>10.3} {:>4.1} % {:>9.2} {:>8} {:>9} {:>9}",
                row.name,
                row.calls,
                millis(row.time),
                if total > 0.0 { 100.0 * seconds / total } else { 0.0 },
                row.bytes as f64 / 1e6,
                rate(row.bytes),
                rate(row.operations),
                limit
            )?;
        }
        Ok(())
    }
}

impl Device {
    /// Runs `f`, waits for the device, and says which kernels ran in it, for how long, and over how many bytes.
    ///
    /// A GPU times its kernels itself. Each then runs alone, so that together they take longer than without a profile. On the
    /// CPU device these are the operations of the calling thread, by the host's clock. Measure [`Device::rates`] before, and the
    /// table also says how close each kernel came to what the device can do.
    ///
    /// ```
    /// # fn main() -> wgrad::Result<()> {
    /// let device = wgrad::Device::cpu();
    /// let x = wgrad::Tensor::ones(&[64, 64], wgrad::DType::F32, &device)?;
    /// let (y, profile) = device.profile(|| x.matmul(&x))?;
    /// assert_eq!(y?.shape(), [64, 64]);
    /// println!("{profile}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the GPU has no timestamp queries, the device is being profiled already (of the CPU device: by this thread), or as
    /// [`Device::sync`]. A browser does not let a function wait, so there it always errs.
    pub fn profile<R>(&self, f: impl FnOnce() -> R) -> Result<(R, Profile)> {
        /// Also ends the timing when `f` panics.
        struct Stop<'a>(&'a Device);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                match self.0.kind() {
                    Kind::Gpu(gpu) => gpu.stop_timing(),
                    Kind::Cpu(_) => drop(host::finish()),
                }
            }
        }
        self.sync()?;
        match self.kind() {
            Kind::Gpu(gpu) => gpu.start_timing()?,
            Kind::Cpu(_) => host::start()?,
        }
        let stop = Stop(self);
        let begun = Instant::now();
        let result = f();
        let events = match self.kind() {
            Kind::Gpu(gpu) => gpu.finish_timing()?,
            Kind::Cpu(_) => host::finish(),
        };
        let wall = begun.elapsed();
        drop(stop);
        self.sync()?;
        let rates = self.known_rates();
        Ok((result, Profile { device: self.to_string(), events, wall, rates }))
    }
}
