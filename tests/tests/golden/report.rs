//! What became of the cases.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::{Write, stderr};

use wgrad::Device;

use crate::args::Unsupported;
use crate::fixture::Fallible;

/// Outcomes of the cases of one test.
pub struct Report {
    title: String,
    passed: usize,
    failed: Vec<String>,
    /// Names by operation or architecture and reason.
    unsupported: BTreeMap<String, Vec<String>>,
}

impl Report {
    pub fn new(title: String) -> Self {
        Report { title, passed: 0, failed: Vec::new(), unsupported: BTreeMap::new() }
    }

    pub fn add(&mut self, case: &str, outcome: Fallible<()>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(why) if why.is::<Unsupported>() => {
                self.unsupported.entry(why.to_string()).or_default().push(case.to_string());
            }
            Err(why) => self.failed.push(format!("{case}: {why}")),
        }
    }

    /// Counts damaged memory as a failure.
    pub fn check_guards(&mut self, device: &Device) {
        if let Err(damage) = device.check_guards() {
            self.add("guard words", Err(damage.into()));
        }
    }

    /// Says what happened, also where the test passes, and panics if a case failed.
    pub fn finish(self) {
        let Report { title, passed, failed, unsupported } = self;
        let missing: usize = unsupported.values().map(Vec::len).sum();
        let mut text = format!("{title}: {passed} passed, {} failed, {missing} unsupported\n", failed.len());
        for (why, cases) in &unsupported {
            text += &format!("  unsupported ({why}): {}\n", cases.join(", "));
        }
        for case in &failed {
            text += &format!("  FAILED {case}\n");
        }
        // Past the capture of the test harness: what was not tested has to be seen.
        let _ = stderr().write_all(text.as_bytes());
        // Of the repository's own fixtures all are known.
        let own = env::var_os("WGRAD_GOLDEN").is_none();
        let strict = own || env::var("WGRAD_GOLDEN_STRICT").is_ok_and(|v| v == "1");
        assert!(failed.is_empty(), "{title}: {} cases failed", failed.len());
        assert!(!strict || missing == 0, "{title}: {missing} cases are unsupported");
    }
}

/// Whether the case is wanted: `WGRAD_GOLDEN_CASE` holds the prefix of the names that are.
pub fn selected(name: &str) -> bool {
    env::var("WGRAD_GOLDEN_CASE").ok().is_none_or(|prefix| name.starts_with(&prefix))
}

/// The first item of each key, in order.
pub fn first_of_each<'a, T>(items: &'a [T], key: impl Fn(&'a T) -> &'a str) -> Vec<&'a T> {
    let mut seen = BTreeSet::new();
    items.iter().filter(|item| seen.insert(key(item))).collect()
}
