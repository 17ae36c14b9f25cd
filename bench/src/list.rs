//! Lists of workloads: a line each, with sizes, and for comparisons the peer and the ratio aimed at.

use std::path::Path;

use wgrad::Device;

use crate::params::Params;
use crate::{Error, Result};

/// One line of a list.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The workload.
    pub workload: String,
    /// Its sizes, `device`, `iters` and the like.
    pub params: Params,
    /// The engine to compare with, if any.
    pub against: Option<String>,
    /// The ratio of times aimed at.
    pub target: Option<f64>,
}

impl Entry {
    /// The line without peer and target.
    pub fn title(&self) -> String {
        std::iter::once(self.workload.clone()).chain(self.params.words()).collect::<Vec<_>>().join(" ")
    }
}

/// Reads the list of a file.
///
/// # Errors
/// If it cannot be read, or has a wrong line.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let text = std::fs::read_to_string(path).map_err(|why| Error::file(path, why))?;
    parse(&text).map_err(|why| Error::file(path, why))
}

/// Reads a list. Empty lines and what follows a `#` do not count.
///
/// # Errors
/// Names the line that is wrong.
pub fn parse(text: &str) -> Result<Vec<Entry>> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(entry).collect()
}

fn entry(line: &str) -> Result<Entry> {
    let wrong = |why: String| Error::new(format!("in the line {line:?}: {why}"));
    let (workload, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words: Vec<&str> = rest.split_whitespace().collect();
    let mut params = Params::parse(&words).map_err(|why| wrong(why.to_string()))?;
    let against = params.take("against");
    let target = match params.take("target").map(|target| target.parse().ok()) {
        Some(None) => return Err(wrong("target is no number".into())),
        target => target.flatten(),
    };
    Ok(Entry { workload: workload.to_string(), params, against, target })
}

/// The list for a device: sizes that it takes a second or so for.
pub fn for_device(device: &Device) -> &'static str {
    let software = device.wgpu().is_some_and(|(gpu, _)| gpu.adapter_info().device_type == wgrad::wgpu::DeviceType::Cpu);
    match (device.is_gpu(), software) {
        (false, _) => include_str!("../lists/cpu.txt"),
        (true, true) => include_str!("../lists/software.txt"),
        (true, false) => include_str!("../lists/gpu.txt"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload;

    #[test]
    fn lines_and_comments() {
        let list = parse("# all\n\nmatmul m=4 against=burn target=0.8 # fast\nsoftmax\n").unwrap();
        assert_eq!((list.len(), list[0].title(), list[1].title()), (2, "matmul m=4".into(), "softmax".into()));
        assert_eq!((list[0].against.as_deref(), list[0].target), (Some("burn"), Some(0.8)));
        assert_eq!((list[1].against.as_deref(), list[1].target), (None, None));
        for wrong in ["matmul m", "matmul target=low"] {
            assert!(parse(wrong).unwrap_err().to_string().contains(wrong));
        }
    }

    #[test]
    fn the_lists_name_workloads_that_exist() {
        for name in ["cpu", "software", "gpu", "norms"] {
            let list = read(Path::new(&format!("{}/lists/{name}.txt", env!("CARGO_MANIFEST_DIR")))).unwrap();
            assert!(list.len() > 7);
            assert!(list.iter().all(|entry| workload::names().any(|name| name == entry.workload)));
        }
    }
}
