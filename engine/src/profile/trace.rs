//! The profile as trace events, which chrome://tracing and Perfetto open.

use std::path::Path;

use serde_json::json;

use super::Profile;
use crate::{Error, Result, io};

impl Profile {
    /// Writes all runs along the time, for chrome://tracing or <https://ui.perfetto.dev>. The file appears whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_trace(&self, path: impl AsRef<Path>) -> Result<()> {
        // Microseconds, in the trace event format of Chromium.
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let named =
            |what: &str, name: &str| json!({ "name": what, "ph": "M", "pid": 1, "tid": 1, "args": { "name": name } });
        let mut events = vec![named("process_name", &self.device), named("thread_name", "kernels")];
        events.extend(self.events.iter().map(|event| {
            json!({
                "name": event.label(),
                "cat": if event.backward { "backward" } else { "forward" },
                "ph": "X",
                "pid": 1,
                "tid": 1,
                "ts": micros(event.start),
                "dur": micros(event.span),
                "args": { "bytes": event.bytes, "operations": event.operations },
            })
        }));
        let trace = json!({ "displayTimeUnit": "ns", "traceEvents": events });
        let text = serde_json::to_string(&trace).map_err(|e| Error::file(path.as_ref(), e))?;
        io::write_atomic(path, text.as_bytes())
    }
}
