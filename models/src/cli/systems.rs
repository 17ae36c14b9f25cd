//! `wgrad systems`: the list of model systems, and their checks.

use std::time::Instant;

use super::args::{SystemsAction, SystemsArgs, SystemsRunArgs};
use super::verdicts::{Verdict, Verdicts};
use super::{compare, json, print};
use crate::systems::{SYSTEMS, System, find, watch};
use crate::{Error, Result};

pub fn run(args: &SystemsArgs) -> Result<()> {
    match &args.action {
        SystemsAction::List { json: true } => print(&json(&SYSTEMS)?),
        SystemsAction::List { json: false } => print(&table(SYSTEMS)),
        SystemsAction::Run(args) => check(args),
        SystemsAction::Compare(args) => compare::run(args),
    }
}

fn check(args: &SystemsRunArgs) -> Result<()> {
    let all = args.all || args.names == ["all"];
    let chosen: Vec<&System> = if all {
        SYSTEMS.iter().collect()
    } else {
        args.names.iter().map(|name| find(SYSTEMS, name)).collect::<Result<_>>()?
    };
    let device = args.device.open()?;
    let on = device.to_string();
    let mut verdicts = match &args.out {
        Some(out) if args.resume => Verdicts::resume(out, &on, args.seed)?,
        _ => Verdicts { device: on, seed: args.seed, systems: Vec::new() },
    };
    for system in &chosen {
        if verdicts.systems.iter().any(|verdict| verdict.name == system.name) {
            continue;
        }
        let begun = Instant::now();
        // Somebody who reads JSON wants no bars between.
        let result =
            watch::around(system.name, !args.json, args.pictures.clone(), || (system.check)(&device, args.seed));
        let verdict = Verdict::new(system.name, result, begun.elapsed().as_secs_f64());
        if !args.json {
            print(&format!("{}: {}\n", system.name, verdict.line()))?;
        }
        verdicts.systems.push(verdict);
        if let Some(out) = &args.out {
            verdicts.save(out)?;
        }
    }
    if args.json {
        print(&json(&verdicts.systems)?)?;
    } else if chosen.len() > 1 {
        print(&format!("\n{}", verdicts.columns()))?;
    }
    let failed: Vec<&str> = verdicts.systems.iter().filter(|v| !v.passed).map(|v| v.name.as_str()).collect();
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
