//! Ours and another engine's, alternately on the same work.

mod table;

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use serde_json::Value;

use crate::measure::median;
use crate::params::Params;
use crate::record::{Record, rounded};
use crate::{Error, Result, cli};

/// Run a workload here and in another engine, alternately, and print the ratio of the times (below 1: ours is faster).
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct VersusArgs {
    /// The workload, unless a list is given.
    #[arg(required_unless_present = "list")]
    workload: Option<String>,
    /// Its sizes, and device=, iters= (10), warmup= (3).
    #[arg(value_name = "KEY=VALUE")]
    params: Vec<String>,
    /// The program that runs the other engine: one built from bench/peers, or bench/peers/torch_bench.py.
    #[arg(long, value_name = "PROGRAM")]
    peer: PathBuf,
    /// Which engine: burn, candle or torch. By default torch for a Python program, candle for device=cpu, else burn.
    #[arg(long)]
    against: Option<String>,
    /// Rounds of ours and theirs; each counts with its fastest run.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Print lines of JSON.
    #[arg(long)]
    json: bool,
    /// Files of workloads, a line each, with `against=` and `target=`, such as bench/lists/cpu.txt.
    #[arg(long, value_name = "FILE", conflicts_with = "workload")]
    list: Vec<PathBuf>,
    /// Only the lines that contain this text.
    #[arg(long, requires = "list")]
    filter: Option<String>,
    /// Write the list's table as Markdown.
    #[arg(long, value_name = "FILE.md", requires = "list")]
    out: Option<PathBuf>,
}

const HELP: &str = "Examples:
  wgrad-bench versus matmul m=512 n=512 k=512 device=cpu --peer PEERS --against candle
  wgrad-bench versus softmax device=software --peer PEERS --against burn
  wgrad-bench versus attention_bwd device=gpu --peer bench/peers/torch_bench.py
  wgrad-bench versus --list bench/lists/cpu.txt --peer PEERS --out bench/results/cpu.md
For burn, device=software becomes its software adapter; candle runs on the CPU; torch takes cpu or gpu.";

/// What a comparison gave.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Our record of the first round, whose results were checked.
    pub ours: Record,
    /// Median over rounds of our fastest times.
    pub ours_ms: f64,
    /// The same of theirs.
    pub theirs_ms: f64,
    /// Ours over theirs in each round, ascending.
    pub ratios: Vec<f64>,
}

impl Outcome {
    /// Ours over theirs: below 1, ours is faster.
    pub fn ratio(&self) -> f64 {
        self.ours_ms / self.theirs_ms
    }
}

/// Does what the arguments say.
///
/// # Errors
/// If one of the two fails. In a list, a peer that lacks a workload is noted in the table instead.
pub fn run(args: &VersusArgs) -> Result<()> {
    if !args.list.is_empty() {
        return table::run(args);
    }
    let params = Params::parse(&args.params)?;
    let against = engine(args, params.clone().take("device").as_deref());
    let workload = args.workload.as_deref().unwrap_or_default();
    show(args, &against, &alternate(workload, &params, &args.peer, &against, args.rounds)?)
}

fn engine(args: &VersusArgs, device: Option<&str>) -> String {
    args.against.clone().unwrap_or_else(|| default_peer(&args.peer, device).to_string())
}

fn show(args: &VersusArgs, against: &str, outcome: &Outcome) -> Result<()> {
    let Outcome { ours, ours_ms, theirs_ms, ratios } = outcome;
    if args.json {
        let line = serde_json::json!({
            "workload": ours.workload, "params": ours.params, "device": ours.device, "against": against,
            "rounds": ratios.len(), "ours_ms": ours_ms, "theirs_ms": theirs_ms, "ratio": rounded(outcome.ratio()),
            "ratios": ratios,
        });
        return cli::print(&format!("{line}\n"));
    }
    cli::print(&format!(
        "{} on {}: wgrad {ours_ms:.4} ms, {against} {theirs_ms:.4} ms, ratio {:.3} (rounds {:.3} to {:.3})\n",
        ours.title(),
        ours.device,
        outcome.ratio(),
        ratios[0],
        ratios[ratios.len() - 1],
    ))
}

fn default_peer(peer: &Path, device: Option<&str>) -> &'static str {
    match (is_python(peer), device) {
        (true, _) => "torch",
        (false, Some("cpu")) => "candle",
        (false, _) => "burn",
    }
}

fn is_python(program: &Path) -> bool {
    program.extension().is_some_and(|extension| extension == "py")
}

/// Runs ours and theirs in turn, each in a process of its own.
///
/// # Errors
/// If one of the two fails.
pub fn alternate(workload: &str, params: &Params, peer: &Path, against: &str, rounds: usize) -> Result<Outcome> {
    let mut params = params.clone();
    if !is_python(peer) {
        // Those programs wait after each run.
        params.take("batch");
    }
    let repeat = ["iters", "warmup"].map(|key| params.take(key));
    let [iters, warmup] = repeat;
    params.set("iters", iters.unwrap_or_else(|| "10".into()));
    params.set("warmup", warmup.unwrap_or_else(|| "3".into()));
    let own = std::env::current_exe().map_err(|why| Error::new(format!("own program: {why}")))?;
    let theirs_params = for_peer(&params, against);
    let mut first = None;
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds.max(1) {
        let mut mine = params.clone();
        mine.set("limits", 0);
        if round > 0 {
            mine.set("check", 0);
        }
        let mut command = Command::new(&own);
        command.arg("run").arg(workload).args(mine.words());
        let record: Record = serde_json::from_value(output(command, "wgrad")?)
            .map_err(|why| Error::new(format!("wgrad: not a record: {why}")))?;

        let mut command = match is_python(peer) {
            true => Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into())),
            false => Command::new(peer),
        };
        if is_python(peer) {
            command.arg(peer);
        }
        command.arg(against).arg(workload).args(theirs_params.words());
        let line = output(command, against)?;
        let their_ms = line["min_ms"].as_f64().filter(|ms| *ms > 0.0);
        let their_ms = their_ms.ok_or_else(|| Error::new(format!("{against}: no min_ms in {line}")))?;

        ratios.push(rounded(record.min_ms / their_ms));
        ours.push(record.min_ms);
        theirs.push(their_ms);
        first.get_or_insert(record);
    }
    for values in [&mut ours, &mut theirs, &mut ratios] {
        values.sort_by(f64::total_cmp);
    }
    let ours_record = first.ok_or_else(|| Error::new("no round was run"))?;
    Ok(Outcome { ours: ours_record, ours_ms: median(&ours), theirs_ms: median(&theirs), ratios })
}

/// The peer's words for the same: its devices are `cpu` (for burn the software adapter) and `gpu`.
fn for_peer(params: &Params, against: &str) -> Params {
    let mut params = params.clone();
    for key in ["check", "limits"] {
        params.take(key);
    }
    match params.take("device").as_deref() {
        Some("software" | "cpu") => params.set("device", "cpu"),
        Some(_) => params.set("device", "gpu"),
        None if against == "candle" => params.set("device", "cpu"),
        None => {}
    }
    params
}

/// Runs a program that prints one line of JSON as its last.
fn output(mut command: Command, who: &str) -> Result<Value> {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // Mesa complains where it is missing.
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    }
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|why| Error::new(format!("{who}: cannot run {program}: {why}")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        return Err(Error::new(format!("{who}: {program} ended with {}: {last}", output.status)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().rev().find(|line| line.starts_with('{'));
    let line = line.ok_or_else(|| Error::new(format!("{who}: {program} printed no line of JSON")))?;
    serde_json::from_str(line).map_err(|why| Error::new(format!("{who}: {program}: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_the_peer() {
        let words = |words: &[&str], against| for_peer(&Params::parse(words).unwrap(), against).words();
        assert_eq!(words(&["m=4", "device=software", "check=0"], "burn"), ["m=4", "device=cpu"]);
        assert_eq!(words(&["device=gpu:1"], "burn"), ["device=gpu"]);
        assert_eq!(words(&[], "candle"), ["device=cpu"]);
        assert_eq!(words(&["iters=2"], "burn"), ["iters=2"]);
    }

    #[test]
    fn peers_are_guessed() {
        assert_eq!(default_peer(Path::new("a/torch_bench.py"), Some("cpu")), "torch");
        assert_eq!(default_peer(Path::new("peers"), Some("cpu")), "candle");
        assert_eq!(default_peer(Path::new("peers"), Some("software")), "burn");
    }
}
