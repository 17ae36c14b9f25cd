//! `wgrad sparsify`

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use wgrad::io::Weights;
use wgrad::nn::Precision;
use wgrad::{DType, Device, Tensor};

use super::args::{DeviceArgs, positive, size};
use crate::front::codec::Codec;
use crate::front::corpus::Corpus;
use crate::plot::{Chart, Series};
use crate::rows::Split;
use crate::score::Score;
use crate::sparsify::{Job, MaskLlm, Method, OneShot, Outcome, Prior, Sparsity, by_magnitude};
use crate::weights::{Matrix, Pattern};
use crate::{Error, Result, fsx, zoo};

const EXAMPLES: &str = "Examples:
  wgrad sparsify runs/mlm --method magnitude --text notes.txt -o runs/mlm-magnitude
  wgrad sparsify path/to/gpt2 --method sparsegpt --text book.txt -o runs/gpt2-sparse
  wgrad sparsify path/to/gpt2 --method wanda --pattern unstructured --share 0.9 --text book.txt -o runs/gpt2-lists
  wgrad sparsify runs/mlm --method all --text notes.txt -o runs/sparse
  wgrad sparsify path/to/gpt2 --method maskllm --steps 500 --text book.txt -o runs/gpt2-masked
  wgrad sparsify path/to/gpt2 --method maskllm --prior runs/gpt2-masked --text law.txt -o runs/gpt2-law";

/// How weights are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MethodArg {
    /// The largest
    Magnitude,
    /// The largest times the size of their inputs
    Wanda,
    /// Those that the layer's outputs need most; what is kept is mended
    Sparsegpt,
    /// Learned from the loss, weights unchanged
    Maskllm,
    /// Each of them in a folder of its own, with a table and a picture
    All,
}

impl MethodArg {
    fn one_shot(self) -> Option<OneShot> {
        match self {
            MethodArg::Magnitude => Some(OneShot::Magnitude),
            MethodArg::Wanda => Some(OneShot::Wanda),
            MethodArg::Sparsegpt => Some(OneShot::SparseGpt),
            MethodArg::Maskllm | MethodArg::All => None,
        }
    }

    fn name(self) -> &'static str {
        match self.one_shot() {
            Some(method) => method.name(),
            None if self == MethodArg::Maskllm => "maskllm",
            None => "all",
        }
    }
}

/// Make a model sparse: of each four neighbouring weights two stay
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct SparsifyArgs {
    /// Folder with config.json, model.safetensors and, for words, tokenizer.json
    #[arg(value_name = "DIR")]
    pub model: PathBuf,
    /// How weights are chosen
    #[arg(long, value_enum)]
    pub method: MethodArg,
    /// Files or folders to learn from; a twentieth is held out, the same as of `wgrad train`. Models that read no text need none
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub text: Vec<PathBuf>,
    /// Folder for the sparse model
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    /// Weights kept of each group along a row, or unstructured: all but a share, anywhere; learned masks are 2:4
    #[arg(long, value_name = "N:M|unstructured", default_value = "2:4")]
    pub pattern: String,
    /// Share of the weights that unstructured sparsity leaves out [default: 0.9]
    #[arg(long, value_name = "SHARE")]
    pub share: Option<f64>,
    /// Training steps of learned masks
    #[arg(long, default_value = "300", value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: u64,
    /// Highest learning rate of learned masks [default: 1 / steps]
    #[arg(long, value_parser = positive)]
    pub lr: Option<f32>,
    /// What learned masks start from: magnitude, wanda, sparsegpt, none, or a folder with this model made sparse before
    #[arg(long, value_name = "METHOD|DIR", default_value = "sparsegpt")]
    pub prior: String,
    /// Rows that methods which do not learn look at
    #[arg(long, value_name = "ROWS", default_value = "64", value_parser = size(1, 1 << 20))]
    pub calibration: usize,
    /// Rows in a batch
    #[arg(long, value_name = "ROWS", default_value = "8", value_parser = size(1, 1 << 16))]
    pub batch: usize,
    /// Tokens in a row [default: 128, or as many as the model has positions for]
    #[arg(long, value_name = "TOKENS", value_parser = size(4, 1 << 20))]
    pub length: Option<usize>,
    /// Seed of the order of the text and of the masks
    #[arg(long, default_value = "0")]
    pub seed: u64,
    /// Write matrices with their zeros, for other programs; else those of 2:4 are packed, and unstructured ones of which a fifth or less is
    /// kept are listed by rows
    #[arg(long)]
    pub dense: bool,
    /// What the sparse model is stored in; masks are chosen and perplexities measured in f32 [default: what the model is stored in]
    #[arg(long, value_name = "TYPE")]
    pub precision: Option<Precision>,
    /// The token that hides one from a masked language model, if no tokenizer tells
    #[arg(long, value_name = "ID")]
    pub mask_id: Option<u32>,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
    /// Where it runs
    #[command(flatten)]
    pub device: DeviceArgs,
}

impl SparsifyArgs {
    /// What is kept.
    fn sparsity(&self) -> Result<Sparsity> {
        match (self.pattern.as_str(), self.share) {
            ("unstructured", share) => Sparsity::share(share.unwrap_or(0.9)),
            (pattern, None) => Ok(pattern.parse::<Pattern>()?.into()),
            (pattern, Some(_)) => Err(Error::argument(
                "--share",
                format!("goes with --pattern unstructured, but the pattern is {pattern}"),
            )),
        }
    }

    /// What the sparse model is stored in.
    fn stored(&self) -> Result<DType> {
        if let Some(precision) = self.precision {
            return Ok(precision.dtype());
        }
        let weights = Weights::open(&self.model)?;
        let matrix = weights.names().find(|name| weights.shape(name).is_ok_and(|shape| shape.len() >= 2));
        Ok(match matrix.map(|name| weights.stored(name)).transpose()?.as_ref().map(|(dtype, _)| &dtype[..]) {
            Some("F16") => DType::F16,
            Some("BF16") => DType::BF16,
            _ => DType::F32,
        })
    }
}

/// Makes a model sparse, saves it, and prints the perplexity on held-out text before and after.
pub fn run(args: &SparsifyArgs) -> Result<()> {
    let sparsity = args.sparsity()?;
    if args.text.is_empty() {
        return without_text(args, sparsity);
    }
    let codec = Codec::open(&args.model)?;
    let [train, held_out] = read(args, &codec)?;
    let device = args.device.open()?;
    let input = Input {
        args,
        sparsity,
        train,
        held_out,
        mask: args.mask_id.or_else(|| codec.mask().map(|(_, id)| id)),
        device,
    };
    if args.method == MethodArg::All {
        return input.all();
    }
    let outcome = input.make(args.method, &args.out, None)?;
    if args.json {
        return super::print(&super::json(&figures(sparsity, args.method, &outcome))?);
    }
    let Outcome { before, after, change, matrices, weights, .. } = outcome;
    let (name, out) = (args.method.name(), args.out.display());
    let quality = match before.zip(after) {
        Some((before, after)) => {
            format!("perplexity {:.4} -> {:.4} over {} tokens", before.perplexity, after.perplexity, after.tokens)
        }
        None => format!("hidden states changed by {:.2} %", 100.0 * change),
    };
    super::print(&format!(
        "{name}: {matrices} matrices of {weights} weights are {sparsity} sparse\nheld-out {quality}; in {out}\n"
    ))
}

/// Makes a model of images or sounds sparse, whose weights alone are looked at.
fn without_text(args: &SparsifyArgs, sparsity: Sparsity) -> Result<()> {
    free(&args.out)?;
    let loaded = zoo::load(&args.model, DType::F32, &args.device.open()?)?;
    if loaded.text().is_ok() {
        return Err(Error::argument("--text", "is missing: this model reads text, and is measured on it"));
    }
    if args.method != MethodArg::Magnitude {
        let message =
            format!("{}, but a model that reads no text is made sparse by magnitude alone", args.method.name());
        return Err(Error::argument("--method", message));
    }
    let [matrices, weights] = by_magnitude(loaded.module(), sparsity, !args.dense)?;
    save(args, &loaded, &args.out)?;
    let out = args.out.display();
    if args.json {
        let figures =
            json!({ "method": "magnitude", "pattern": sparsity.to_string(), "matrices": matrices, "weights": weights });
        return super::print(&super::json(&figures)?);
    }
    super::print(&format!("magnitude: {matrices} matrices of {weights} weights are {sparsity} sparse; in {out}\n"))
}

/// Errs if a folder holds a model already.
fn free(out: &Path) -> Result<()> {
    match out.join("config.json").exists() {
        true => Err(Error::file(out, "already holds a model: name another folder")),
        false => Ok(()),
    }
}

/// Writes the model, and what else stands beside it.
fn save(args: &SparsifyArgs, model: &zoo::Model, out: &Path) -> Result<()> {
    model.save_as(out, args.stored()?)?;
    super::copy_beside(&args.model, out)
}

/// Tokens to learn from and tokens held out: the same segments that `wgrad train` holds out of this text, or, of token ids, the last tenth.
fn read(args: &SparsifyArgs, codec: &Codec) -> Result<[Vec<u32>; 2]> {
    if codec.size().is_some() {
        let corpus = Corpus::read(&args.text)?;
        return Ok([codec.encode_all(&corpus.train)?, codec.encode_all(&corpus.held_out)?]);
    }
    let mut ids = Vec::new();
    for path in &args.text {
        ids.extend(codec.encode(&fsx::read_text(path)?, false)?);
    }
    let Split { train, held_out } = Split::last_tenth(&ids);
    Ok([train.to_vec(), held_out.to_vec()])
}

/// What a run has read.
struct Input<'a> {
    args: &'a SparsifyArgs,
    sparsity: Sparsity,
    train: Vec<u32>,
    held_out: Vec<u32>,
    mask: Option<u32>,
    device: Device,
}

impl Input<'_> {
    /// Makes the model sparse by a method, and saves it.
    fn make(&self, method: MethodArg, out: &Path, look_every: Option<u64>) -> Result<Outcome> {
        let args = self.args;
        free(out)?;
        self.device.set_seed(args.seed);
        let loaded = zoo::load(&args.model, DType::F32, &self.device)?;
        let model = loaded.text()?;
        let &SparsifyArgs { batch, calibration, seed, .. } = args;
        let length = args.length.unwrap_or_else(|| model.about().longest.map_or(128, |longest| longest.min(128)));
        let method = match method.one_shot() {
            Some(method) => Method::OneShot(method),
            None => {
                let paper = MaskLlm::new(args.steps);
                let settings = MaskLlm { lr: args.lr.map_or(paper.lr, f64::from), ..paper };
                Method::MaskLlm(settings, prior(&args.prior, &Matrix::of_blocks(model), &self.device)?)
            }
        };
        let sparsity = self.sparsity;
        let job = Job { method, sparsity, batch, length, calibration, seed, look_every, pack: !args.dense };
        let outcome =
            job.run(model, Split { train: &self.train, held_out: &self.held_out }, self.mask, &self.device)?;
        save(args, &loaded, out)?;
        Ok(outcome)
    }

    /// Every method, each in a folder of its own, with a table and a picture of them all.
    fn all(&self) -> Result<()> {
        let (args, out) = (self.args, &self.args.out);
        let look_every = Some((args.steps / 10).max(1));
        let mut found = Vec::new();
        let learns = self.sparsity == Pattern::TWO_OF_FOUR.into();
        if !learns {
            log::warn!("masks are learned for 2:4 alone: maskllm is left out of {}", self.sparsity);
        }
        let runs = |method: &&MethodArg| **method != MethodArg::All && (learns || **method != MethodArg::Maskllm);
        for method in MethodArg::value_variants().iter().filter(runs) {
            log::info!("{}", method.name());
            let outcome = self.make(*method, &out.join(method.name()), look_every)?;
            if outcome.before.is_none() {
                return Err(Error::argument("--method", "all compares perplexities, but the model predicts no tokens"));
            }
            found.push((*method, outcome));
        }
        let list: Vec<Value> = found.iter().map(|(method, outcome)| figures(self.sparsity, *method, outcome)).collect();
        fsx::write(&out.join("perplexity.json"), super::json(&list)?.as_bytes())?;
        let picture = out.join("perplexity.svg");
        self.draw(&found)?.save(&picture)?;
        if args.json {
            return super::print(&super::json(&list)?);
        }
        let dense = found.first().map_or(f64::NAN, |(_, outcome)| perplexity(outcome.before));
        let row = |name: &str, perplexity: f64, seconds: f64| {
            format!("{name:<12}{perplexity:>12.4}{:>12.4}{seconds:>10.1}\n", perplexity.ln() - dense.ln())
        };
        let mut table = format!("{:<12}{:>12}{:>12}{:>10}\n", "method", "perplexity", "nats lost", "seconds");
        table += &row("dense", dense, 0.0);
        table.extend(found.iter().map(|(method, o)| row(method.name(), perplexity(o.after), o.seconds)));
        super::print(&format!("{table}\npicture: {}\n", picture.display()))
    }

    /// Perplexities against the steps of the one method that takes any.
    fn draw(&self, found: &[(MethodArg, Outcome)]) -> Result<Chart> {
        let end = self.args.steps as f64;
        let level = |name: &str, perplexity| Series::new(name, vec![(0.0, perplexity), (end, perplexity)]);
        let title = format!("{} sparse by each method", self.sparsity);
        let mut chart = Chart::new(title, "steps of learned masks", "held-out perplexity").log_y();
        if let Some((_, outcome)) = found.first() {
            chart = chart.with(level("dense", perplexity(outcome.before)));
        }
        for (method, outcome) in found {
            let after = perplexity(outcome.after);
            chart = chart.with(match &outcome.course[..] {
                [] => level(method.name(), after),
                course => {
                    let course = course.iter().map(|&(step, perplexity)| (step as f64, perplexity));
                    Series::new(method.name(), course.chain([(end, after)]).collect())
                }
            });
        }
        Ok(chart)
    }
}

fn perplexity(score: Option<Score>) -> f64 {
    score.map_or(f64::NAN, |score| score.perplexity)
}

/// What programs are told of a method.
fn figures(sparsity: Sparsity, method: MethodArg, outcome: &Outcome) -> Value {
    json!({
        "method": method.name(), "pattern": sparsity.to_string(), "matrices": outcome.matrices,
        "weights": outcome.weights, "perplexity_before": outcome.before.map(|score| score.perplexity),
        "perplexity_after": outcome.after.map(|score| score.perplexity), "tokens": outcome.after.map(|score| score.tokens),
        "change": outcome.change, "seconds": outcome.seconds,
        "course": outcome.course,
    })
}

/// What `--prior` names.
fn prior(name: &str, matrices: &[(String, Matrix)], device: &Device) -> Result<Prior> {
    if name == "none" {
        return Ok(Prior::None);
    }
    if let Some(method) = MethodArg::from_str(name, false).ok().and_then(MethodArg::one_shot) {
        return Ok(Prior::OneShot(method));
    }
    let folder = Path::new(name);
    if !folder.is_dir() {
        let message = format!("{name:?}, expected magnitude, wanda, sparsegpt, none, or a folder with a sparse model");
        return Err(Error::argument("--prior", message));
    }
    let sparse = zoo::load(folder, DType::F32, device)?;
    let theirs = Matrix::of_blocks(sparse.module());
    let pairs: Vec<_> = matrices.iter().zip(&theirs).collect();
    let same = |((ours, a), (other, b)): &(&(String, Matrix), &(String, Matrix))| {
        ours == other && a.param.shape() == b.param.shape()
    };
    if theirs.len() != matrices.len() || !pairs.iter().all(same) {
        return Err(Error::file(folder, "is not the same model: its blocks have other matrices"));
    }
    let mask = |(name, matrix): &(String, Matrix)| {
        let weight = matrix.rows()?.detach();
        if Pattern::TWO_OF_FOUR.most(&weight)? > 2 {
            return Err(Error::file(folder, format!("`{name}` is not 2:4 sparse")));
        }
        // Where less than two weights of a group are not 0, the first of the others fill up.
        Pattern::TWO_OF_FOUR.mask(&weight.abs()?)
    };
    Ok(Prior::Masks(theirs.iter().map(mask).collect::<Result<Vec<Tensor>>>()?))
}
