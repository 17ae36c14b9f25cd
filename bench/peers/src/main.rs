//! The workloads of wgrad-bench in other engines, for comparison: `peers burn|candle WORKLOAD key=value… [iters=N] [warmup=N]
//! [device=cpu|gpu]` prints one line of JSON. `wgrad-bench versus` runs it beside ours.

mod burn_side;
mod candle_lm;
mod candle_side;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Instant;

/// Any failure, as one sentence.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// `key=value` arguments; remembers which were asked for.
pub struct Args {
    given: BTreeMap<String, String>,
    used: BTreeSet<String>,
}

impl Args {
    fn parse(words: &[String]) -> Result<Self> {
        let pair = |word: &String| word.split_once('=').map(|(k, v)| (k.to_string(), v.to_string()));
        let given = words.iter().map(|word| pair(word).ok_or(format!("expected key=value, got {word}")));
        Ok(Args { given: given.collect::<std::result::Result<_, _>>()?, used: BTreeSet::new() })
    }

    pub fn get(&mut self, key: &str) -> Option<String> {
        self.used.insert(key.to_string());
        self.given.get(key).cloned()
    }

    pub fn number(&mut self, key: &str, default: usize) -> Result<usize> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.parse().map_err(|_| format!("{key}={value} is no whole number").into()),
        }
    }

    /// Takes no key in silence: a comparison must be of the same work.
    fn all_used(&self) -> Result<()> {
        if self.given.get("dtype").is_some_and(|dtype| dtype != "f32") {
            return Err("only dtype=f32 is run here".into());
        }
        let known = |key: &String| key == "dtype" || self.used.contains(key);
        match self.given.keys().find(|key| !known(key)) {
            Some(key) => Err(format!("this workload takes no key {key} here").into()),
            None => Ok(()),
        }
    }
}

/// One run of a workload.
pub type Step = Box<dyn FnMut() -> Result<()>>;

/// What a workload name gives in this engine, or None if it is not there.
pub type Prepare = fn(&str, &mut Args) -> Result<Option<Step>>;

fn run(words: &[String]) -> Result<String> {
    let [engine, workload, rest @ ..] = words else {
        return Err("usage: peers burn|candle WORKLOAD key=value... [iters=N] [warmup=N] [device=cpu|gpu]".into());
    };
    let prepare: Prepare = match engine.as_str() {
        "burn" => burn_side::prepare,
        "candle" => candle_side::prepare,
        other => return Err(format!("no engine {other}; there are burn and candle").into()),
    };
    let mut args = Args::parse(rest)?;
    let (iters, warmup) = (args.number("iters", 10)?.max(1), args.number("warmup", 3)?);
    let device = args.get("device").unwrap_or_default();
    let mut step = prepare(workload, &mut args)?.ok_or_else(|| format!("{engine} has no workload {workload} here"))?;
    args.all_used()?;
    for _ in 0..warmup {
        step()?;
    }
    let mut times = Vec::new();
    for _ in 0..iters {
        let begun = Instant::now();
        step()?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let about_the_run = ["iters", "warmup", "device"];
    let params = args.given.iter().filter(|(key, _)| !about_the_run.contains(&key.as_str()));
    let params: Vec<String> = params.map(|(key, value)| format!("{key:?}:{value:?}")).collect();
    Ok(format!(
        "{{\"engine\":{engine:?},\"workload\":{workload:?},\"params\":{{{}}},\"device\":{device:?},\"iters\":{iters},\
         \"median_ms\":{:.4},\"min_ms\":{:.4},\"max_ms\":{:.4}}}",
        params.join(","),
        (times[(iters - 1) / 2] + times[iters / 2]) / 2.0,
        times[0],
        times[iters - 1],
    ))
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
