//! `wgrad systems`: the list of model systems, and their checks.

use serde::Serialize;

use super::args::{SystemsAction, SystemsArgs, SystemsRunArgs};
use super::{compare, json, print};
use crate::systems::{Report, SYSTEMS, System, find};
use crate::{Error, Result};

/// A report with the name of its system, as JSON shows it.
#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    passed: bool,
    #[serde(flatten)]
    report: &'a Report,
}

pub fn run(args: &SystemsArgs) -> Result<()> {
    match &args.action {
        SystemsAction::List { json: true } => print(&json(&SYSTEMS)?),
        SystemsAction::List { json: false } => print(&table(SYSTEMS)),
        SystemsAction::Run(args) => check(args),
        SystemsAction::Compare(args) => compare::run(args),
    }
}

fn check(args: &SystemsRunArgs) -> Result<()> {
    let chosen: Vec<&System> = if args.all {
        SYSTEMS.iter().collect()
    } else {
        args.names.iter().map(|name| find(SYSTEMS, name)).collect::<Result<_>>()?
    };
    let device = args.device.open()?;
    let mut failed = Vec::new();
    let mut reports = Vec::new();
    for system in chosen {
        let report = (system.check)(&device, args.seed)?;
        if !report.passed() {
            failed.push(system.name);
        }
        if !args.json {
            print(&format!("{}: {report}\n", system.name))?;
        }
        reports.push((system.name, report));
    }
    if args.json {
        let named: Vec<Named> =
            reports.iter().map(|(name, report)| Named { name, passed: report.passed(), report }).collect();
        print(&json(&named)?)?;
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Error::Check { message: format!("the check of {} failed", failed.join(", ")) })
    }
}

/// Names, papers and titles in columns.
fn table(systems: &[System]) -> String {
    let width =
        |field: fn(&System) -> &str| systems.iter().map(|system| field(system).chars().count()).max().unwrap_or(0);
    let (names, papers) = (width(|system| system.name), width(|system| system.paper));
    let line = |system: &System| format!("{:names$}  {:papers$}  {}\n", system.name, system.paper, system.title);
    systems.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let system =
            |name, paper| System { name, title: "A title", paper, shows: "a property", check: |_, _| unreachable!() };
        let shown = table(&[system("sea", "2310.01777"), system("dynamic-mask-attention", "2508.02124")]);
        let columns: Vec<_> = shown.lines().map(|line| line.find("A title")).collect();
        assert_eq!(columns.len(), 2);
        assert_eq!(columns[0], columns[1]);
        assert_eq!(table(&[]), "");
    }
}
