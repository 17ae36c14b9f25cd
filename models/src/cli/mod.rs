//! The `wgrad` command line.

pub mod args;
mod classify_image;
mod compare;
mod convert;
mod devices;
mod embed;
mod fill_mask;
mod finetune;
mod generate;
mod inspect;
mod reconstruct;
mod score;
mod sparsify;
mod systems;
mod train;
mod verdicts;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use args::TrainArgs;
use clap::{Parser, Subcommand};

use crate::{Error, Result, fsx};

/// A tensor engine that shows what it can: trains, fills masks, checks model systems.
#[derive(Debug, Parser)]
#[command(name = "wgrad", version, after_help = "Without a command, `wgrad train` runs with its defaults.")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(args::TrainArgs),
    FillMask(args::FillMaskArgs),
    Generate(generate::GenerateArgs),
    Inspect(inspect::InspectArgs),
    Score(score::ScoreArgs),
    Embed(embed::EmbedArgs),
    Finetune(finetune::FinetuneArgs),
    Sparsify(sparsify::SparsifyArgs),
    Convert(convert::ConvertArgs),
    ClassifyImage(classify_image::ClassifyImageArgs),
    Reconstruct(reconstruct::ReconstructArgs),
    Devices(args::DevicesArgs),
    Systems(args::SystemsArgs),
}

/// Parses the arguments of this process and does what they say. An error becomes one sentence on standard error and exit code 1;
/// arguments that cannot be parsed give exit code 2.
pub fn main() -> ExitCode {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // On a machine without a desktop, Mesa's device selection layer would look for one and print that it found none.
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
    let cli = Cli::parse();
    init_log();
    let done = match cli.command {
        None => train::run(&TrainArgs::default()),
        Some(Command::Train(args)) => train::run(&args),
        Some(Command::FillMask(args)) => fill_mask::run(&args),
        Some(Command::Generate(args)) => generate::run(&args),
        Some(Command::Inspect(args)) => inspect::run(&args),
        Some(Command::Score(args)) => score::run(&args),
        Some(Command::Embed(args)) => embed::run(&args),
        Some(Command::Finetune(args)) => finetune::run(&args),
        Some(Command::Sparsify(args)) => sparsify::run(&args),
        Some(Command::Convert(args)) => convert::run(&args),
        Some(Command::ClassifyImage(args)) => classify_image::run(&args),
        Some(Command::Reconstruct(args)) => reconstruct::run(&args),
        Some(Command::Devices(args)) => devices::run(&args),
        Some(Command::Systems(args)) => systems::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Lines of this project from level info on, of others from warn on; `RUST_LOG` changes that.
fn init_log() {
    let env = env_logger::Env::default().default_filter_or("warn,wgrad=info");
    env_logger::Builder::from_env(env)
        .format(|out, record| match record.level() {
            log::Level::Info => writeln!(out, "{}", record.args()),
            log::Level::Warn => writeln!(out, "warning: {}", record.args()),
            level => writeln!(out, "{} {}: {}", level.as_str().to_lowercase(), record.target(), record.args()),
        })
        .init();
}

/// The folder that was named, if no run is in it; by default the first free one of `name`, `name-2`, ...
fn free_folder(named: Option<&Path>, name: &str, taken: fn(&Path) -> bool) -> Result<PathBuf> {
    let Some(folder) = named else {
        let names = std::iter::once(name.to_string()).chain((2..).map(|n| format!("{name}-{n}")));
        let free = names.map(PathBuf::from).find(|folder| !taken(folder));
        return free.ok_or_else(|| Error::argument("--out", "no free name"));
    };
    if taken(folder) {
        let shown = folder.display();
        let message = format!("{shown} already holds a run: go on with it by --resume {shown}, or name another folder");
        return Err(Error::argument("--out", message));
    }
    Ok(folder.to_owned())
}

/// Files that a model folder may hold beside configuration and weights.
const BESIDE: [&str; 5] =
    ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "generation_config.json"];

/// Copies what stands beside configuration and weights from one model folder to another.
fn copy_beside(from: &Path, to: &Path) -> Result<()> {
    for name in BESIDE {
        let (from, to) = (from.join(name), to.join(name));
        if from.exists() {
            fsx::write(&to, &std::fs::read(&from).map_err(|e| Error::io(&from, &e))?)?;
        }
    }
    Ok(())
}

/// Prints to standard output. A reader that has gone, as in `| head`, is no error.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io("standard output", &error)),
        _ => Ok(()),
    }
}

/// The value as indented JSON with a final line break.
fn json(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::argument("json", error.to_string()))?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn train_arguments_have_defaults_and_bounds() {
        let parse = |line: &str| {
            let command = <args::TrainArgs as clap::Args>::augment_args(clap::Command::new("train"));
            let matches = command.try_get_matches_from(line.split(' '))?;
            args::TrainArgs::from_arg_matches(&matches)
        };
        let defaults = parse("train").unwrap();
        assert_eq!((defaults.shape.hidden % defaults.shape.heads, defaults.text.len()), (0, 0));
        let own = parse("train --text a b --lr 3e-4 --seconds 60 --precision bf16").unwrap();
        assert_eq!((own.text.len(), own.lr, own.seconds), (2, 3e-4, Some(60)));
        assert!(parse("train --resume runs/a --steps 10").is_ok());
        for line in
            ["--lr 0", "--lr x", "--batch 0", "--vocab 3", "--resume a --hidden 64", "--steps 0", "--precision f8"]
        {
            let code = parse(&format!("train {line}")).unwrap_err().exit_code();
            assert_eq!(code, 2, "{line}");
        }
    }
}
