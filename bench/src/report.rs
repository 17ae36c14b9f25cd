//! What a series of runs leaves behind: the records, and where, when and with what they were made.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use wgrad::Device;

use crate::record::{Record, rounded};
use crate::{Error, Result};

/// Which command made a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `suite`: workloads of many kinds.
    Suite,
    /// `ladder`: one workload by kernels of growing skill.
    Ladder,
    /// `cost`: one workload in growing sizes.
    Cost,
}

/// The limits of the device, measured by [`Device::rates`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// f32 multiply-adds that do nothing else, each two operations; on the CPU device those of its matrix product.
    pub gflops: f64,
    /// A copy, read and written bytes together.
    pub gbps: f64,
}

/// Records with their circumstances, as they stand in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Which command made it.
    pub kind: Kind,
    /// Day in UTC, as `2026-11-26`.
    pub date: String,
    /// Version of the sources.
    pub commit: String,
    /// Processor and cores.
    pub machine: String,
    /// The device as its driver calls it.
    pub device: String,
    /// Driver and version.
    pub driver: String,
    /// What the device can do at best.
    pub limits: Limits,
    /// The runs.
    pub records: Vec<Record>,
}

impl Report {
    /// A report of what was run on this device now.
    ///
    /// # Errors
    /// If the limits cannot be measured.
    pub fn new(kind: Kind, device: &Device, records: Vec<Record>) -> Result<Self> {
        let rates = device.rates()?;
        Ok(Report {
            kind,
            date: today(),
            commit: commit(),
            machine: machine(),
            device: device.to_string(),
            driver: driver(device),
            limits: Limits { gflops: rounded(rates.operations_per_s / 1e9), gbps: rounded(rates.bytes_per_s / 1e9) },
            records,
        })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read or is no report.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|why| Error::file(path, why))?;
        serde_json::from_str(&text).map_err(|why| Error::file(path, format!("not a report of wgrad-bench: {why}")))
    }

    /// Writes a file, one record a line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let head = Report { records: Vec::new(), ..self.clone() };
        let head = serde_json::to_string_pretty(&head).map_err(|why| Error::file(path, why))?;
        let records: Vec<String> = self.records.iter().map(|record| format!("    {record}")).collect();
        let body = if records.is_empty() { "[]".into() } else { format!("[\n{}\n  ]", records.join(",\n")) };
        write(path, &(head.replace("\"records\": []", &format!("\"records\": {body}")) + "\n"))
    }

    /// One line that says where the figures come from.
    pub fn caption(&self) -> String {
        let device =
            if self.device == "cpu" { self.machine.clone() } else { format!("{} on {}", self.device, self.machine) };
        format!("{device}, {}, {}", self.date, self.commit)
    }
}

/// Writes a file and the folders above it.
///
/// # Errors
/// If it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.map_or(Ok(()), std::fs::create_dir_all).map_err(|why| Error::file(path, why))?;
    std::fs::write(path, text).map_err(|why| Error::file(path, why))
}

/// Driver and version of a GPU; the library of the products for the CPU device.
pub fn driver(device: &Device) -> String {
    let name = device.to_string();
    match wgrad::adapters().into_iter().find(|adapter| device.is_gpu() && adapter.name == name) {
        Some(adapter) => format!("{}, {}", adapter.driver, adapter.backend),
        None => "CPU device".into(),
    }
}

/// `AMD EPYC, 2 cores`.
pub fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let name = named.map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{name}, {cores} cores")
}

/// Version of the sources, `+` with changes that are not committed.
pub fn commit() -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(folder).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    match git(&["rev-parse", "--short", "HEAD"]) {
        None => "unknown commit".into(),
        Some(commit) => {
            let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|text| !text.is_empty());
            commit + if changed { "+" } else { "" }
        }
    }
}

/// `2026-11-26, abc1234`.
pub fn date_and_commit() -> String {
    format!("{}, {}", today(), commit())
}

/// Today in UTC.
pub fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    date(seconds / 86_400)
}

/// The date of a day, counted from 1970-01-01: by the rule of leap years, in cycles of 400 years from a 1 March.
fn date(day: u64) -> String {
    let day = day + 719_468;
    let (cycle, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let in_month = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (cycle * 400 + year + u64::from(month >= 10), if month < 10 { month + 3 } else { month - 9 });
    format!("{year:04}-{month:02}-{in_month:02}")
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::Map;

    use super::*;
    use crate::measure::Times;

    pub fn record(workload: &str, sizes: &[(&str, usize)], ms: f64, rates: [Option<f64>; 3]) -> Record {
        let params: Map<_, _> = sizes.iter().map(|(key, value)| ((*key).to_string(), (*value).into())).collect();
        let [gflops, gbps, limit_fraction] = rates;
        let times = Times::new(vec![ms / 1e3]);
        Record { gflops, gbps, limit_fraction, ..Record::new(workload, params, "cpu".into(), &times) }
    }

    pub fn report(kind: Kind, records: Vec<Record>) -> Report {
        Report {
            kind,
            date: "2026-11-26".into(),
            commit: "abc1234".into(),
            machine: "a machine, 2 cores".into(),
            device: "cpu".into(),
            driver: "CPU device".into(),
            limits: Limits { gflops: 200.0, gbps: 20.0 },
            records,
        }
    }

    #[test]
    fn dates() {
        assert_eq!(
            [0, 59, 11_016, 20_783, 47_482].map(date),
            ["1970-01-01", "1970-03-01", "2000-02-29", "2026-11-26", "2100-01-01"]
        );
    }

    #[test]
    fn files_read_back() {
        let path = std::env::temp_dir().join(format!("wgrad-bench-report-{}.json", std::process::id()));
        for count in [0, 2] {
            let records = vec![record("copy", &[("n", 5)], 1.5, [None, Some(3.0), Some(0.5)]); count];
            let report = report(Kind::Suite, records);
            report.save(&path).unwrap();
            assert_eq!(Report::load(&path).unwrap(), report);
        }
        std::fs::write(&path, "{}").unwrap();
        assert!(Report::load(&path).unwrap_err().to_string().contains("not a report"));
        std::fs::remove_file(&path).unwrap();
        assert!(Report::load(&path).is_err());
    }
}
