//! What the checks of systems gave, as a file that an interrupted run goes on from and as a table for people.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::json;
use crate::systems::Report;
use crate::{Error, Result, fsx};

/// The verdict of one check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Name of the system.
    pub name: String,
    /// Whether the check showed what it was to show.
    pub passed: bool,
    /// What it measured.
    #[serde(flatten)]
    pub found: Found,
    /// Time that it took.
    pub seconds: f64,
}

/// What a check gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Found {
    /// A figure.
    Report(Report),
    /// It came to no figure.
    Stopped {
        /// Why.
        error: String,
    },
}

impl Verdict {
    /// That of a check that took so long.
    pub fn new(name: &str, result: Result<Report>, seconds: f64) -> Self {
        let (passed, found) = match result {
            // What is not a number cannot be told in JSON.
            Ok(report) if !report.measured.is_finite() => {
                (report.passed(), Found::Stopped { error: report.to_string() })
            }
            Ok(report) => (report.passed(), Found::Report(report)),
            Err(error) => (false, Found::Stopped { error: error.to_string() }),
        };
        // Tenths will do.
        Verdict { name: name.into(), passed, found, seconds: (10.0 * seconds).round() / 10.0 }
    }

    /// `passed` or `failed`, and what was found.
    pub fn line(&self) -> String {
        match &self.found {
            Found::Report(report) => report.to_string(),
            Found::Stopped { error } => format!("failed: {error}"),
        }
    }
}

/// The verdicts of a run over systems.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdicts {
    /// The device that they ran on.
    pub device: String,
    /// What their random numbers were drawn from.
    pub seed: u64,
    /// One of each system, in the order of the run.
    pub systems: Vec<Verdict>,
}

impl Verdicts {
    /// Those of an interrupted run of the same seed on the same device, or none if there is no file yet.
    ///
    /// # Errors
    /// If the file is not one of verdicts, or seed or device are others.
    pub fn resume(out: &Path, device: &str, seed: u64) -> Result<Self> {
        let path = out.with_extension("json");
        if !path.exists() {
            return Ok(Verdicts { device: device.into(), seed, systems: Vec::new() });
        }
        let found: Verdicts = serde_json::from_str(&fsx::read_text(&path)?)
            .map_err(|error| Error::file(&path, format!("holds no verdicts of systems: {error}")))?;
        if found.seed != seed || found.device != device {
            let message = format!("is of seed {} on {}, not {seed} on {device}", found.seed, found.device);
            return Err(Error::file(&path, message));
        }
        Ok(found)
    }

    /// Writes them as JSON, and as a table in Markdown beside that.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(&self, out: &Path) -> Result<()> {
        fsx::write(&out.with_extension("json"), json(self)?.as_bytes())?;
        fsx::write(&out.with_extension("md"), self.markdown().as_bytes())
    }

    /// The table in Markdown.
    pub fn markdown(&self) -> String {
        let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
        let mut table = format!("Seed {} on {}.\n\n", self.seed, self.device);
        table.push_str("| system | verdict | measured | wanted | of | seconds |\n|---|---|---|---|---|---|\n");
        for verdict in &self.systems {
            let Verdict { name, passed, found, seconds } = verdict;
            let (measured, wanted, property) = match found {
                Found::Report(report) => (report.figure(), report.bound(), cell(&report.property)),
                Found::Stopped { error } => (String::new(), String::new(), cell(error)),
            };
            let passed = if *passed { "passed" } else { "**failed**" };
            // Writing to a string cannot fail.
            let _ = writeln!(table, "| {name} | {passed} | {measured} | {wanted} | {property} | {seconds:.1} |");
        }
        table
    }

    /// The table for a terminal: name, verdict, seconds, and what was found.
    pub fn columns(&self) -> String {
        let width = self.systems.iter().map(|verdict| verdict.name.chars().count()).max().unwrap_or(0);
        let line = |v: &Verdict| format!("{:width$}  {:>7.1} s  {}\n", v.name, v.seconds, v.line());
        let passed = self.systems.iter().filter(|verdict| verdict.passed).count();
        let lines: String = self.systems.iter().map(line).collect();
        format!("{lines}{passed} of {} passed\n", self.systems.len())
    }
}

/// The file that verdicts go to, whose ending must be one of those that are written.
pub fn file(text: &str) -> std::result::Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("json" | "md") => Ok(path),
        _ => Err("a file that ends in .json or .md is expected".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systems::Wanted;

    #[test]
    fn go_on_where_they_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("verdicts.md");
        let mut verdicts = Verdicts::resume(&out, "cpu", 3).unwrap();
        let report = |measured| Report { property: "a|b".into(), measured, wanted: Wanted::AtMost, threshold: 0.5 };
        verdicts.systems.push(Verdict::new("sea", Ok(report(0.25)), 1.04));
        verdicts.systems.push(Verdict::new("glm", Err(Error::Check { message: "no luck".into() }), 2.0));
        verdicts.systems.push(Verdict::new("lora", Ok(report(f64::NAN)), 0.0));
        verdicts.save(&out).unwrap();
        assert_eq!(Verdicts::resume(&out, "cpu", 3).unwrap(), verdicts);
        assert!(Verdicts::resume(&out, "cpu", 4).unwrap_err().to_string().contains("seed 3"));
        let table = fsx::read_text(&out).unwrap();
        assert!(table.contains("| sea | passed | 0.2500 | at most 0.5000 | a\\|b | 1.0 |"), "{table}");
        assert!(table.contains("| glm | **failed** |") && table.contains("no luck"), "{table}");
        assert!(verdicts.columns().ends_with("1 of 3 passed\n"), "{}", verdicts.columns());
        fsx::write(&out.with_extension("json"), b"{}").unwrap();
        assert!(Verdicts::resume(&out, "cpu", 3).unwrap_err().to_string().contains("holds no verdicts"));
        assert!(file("a.json").is_ok() && file("a.txt").is_err() && file("json").is_err());
    }
}
