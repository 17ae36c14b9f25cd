//! The profile as trace events, which chrome://tracing and Perfetto open.

use serde_json::json;

use super::Profile;

impl Profile {
    /// Writes [`Profile::trace`]. The file appears whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    #[cfg(not(target_arch = "wasm32"))] // A browser has no files.
    pub fn save_trace(&self, path: impl AsRef<std::path::Path>) -> crate::Result<()> {
        crate::io::write_atomic(path, self.trace().as_bytes())
    }

    /// All runs along the time as JSON, for chrome://tracing or <https://ui.perfetto.dev>.
    pub fn trace(&self) -> String {
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
        json!({ "displayTimeUnit": "ns", "traceEvents": events }).to_string()
    }
}
