//! `wgrad train`

use super::args::TrainArgs;
use crate::train::{Settings, train};
use crate::{Error, Result};

/// Steps of a run that names neither steps nor seconds: under two minutes on two CPU cores.
const STEPS: u64 = 3000;

/// Trains, or goes on with a run.
pub fn run(args: &TrainArgs) -> Result<()> {
    let (settings, folder) = match &args.resume {
        Some(folder) => (resumed(args, Settings::read(folder)?), folder),
        None => {
            let name = if args.decoder { "runs/lm" } else { "runs/mlm" };
            (fresh(args)?, &super::free_folder(args.out.as_deref(), name, Settings::are_in)?)
        }
    };
    let device = args.device.open()?;
    let (_, text) = train(&settings, folder, &device, args.profile.as_deref())?;
    super::print(&text)
}

/// Limits may be extended; everything else stays as it was.
fn resumed(args: &TrainArgs, settings: Settings) -> Settings {
    let (steps, seconds) = match (args.steps, args.seconds) {
        (None, None) => (settings.steps, settings.seconds),
        limits => limits,
    };
    Settings { steps, seconds, ..settings }
}

fn fresh(args: &TrainArgs) -> Result<Settings> {
    let shape = &args.shape;
    if !shape.hidden.is_multiple_of(shape.heads) {
        let message = format!("{} is not a multiple of --heads {}", shape.hidden, shape.heads);
        return Err(Error::argument("--hidden", message));
    }
    Ok(Settings {
        text: args.text.clone(),
        steps: args.steps.or(args.seconds.is_none().then_some(STEPS)),
        seconds: args.seconds,
        save_every: args.save_every,
        vocab: args.vocab,
        batch: shape.batch,
        length: shape.length,
        hidden: shape.hidden,
        layers: shape.layers,
        heads: shape.heads,
        lr: f64::from(args.lr),
        seed: args.seed,
        precision: args.precision.to_string(),
        decoder: args.decoder,
    })
}
