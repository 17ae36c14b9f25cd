//! What a finished run leaves behind: the model in Hugging Face layout, curves, a summary, and sentences to look at.

use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};
use wgrad::Device;
use wgrad::rng::Philox;

use super::evaluate::Score;
use super::run::Finished;
use super::settings::{Settings, write_json};
use crate::fill_mask::MaskFiller;
use crate::front::codec::Codec;
use crate::front::tokenizer::Tokenizer;
use crate::generate::{self, Choice, generate};
use crate::zoo::{Model, Task};
use crate::{Result, fsx};

/// Steps that first and last losses are means of.
const MEAN_OF: usize = 10;
/// Sentences shown at the end.
const SHOWN: usize = 5;

/// Tokens that a decoder goes on with, at most.
const WRITTEN: usize = 24;

/// How much of held-out text a model predicts rightly.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Quality {
    /// Of an encoder.
    Masked {
        /// Share of the masked tokens that it predicts rightly.
        masked_accuracy: f64,
    },
    /// Of a decoder.
    Next {
        /// Share of the tokens that it predicts rightly from those before.
        next_token_accuracy: f64,
        /// The exponential of the loss.
        perplexity: f64,
    },
}

/// `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// What the model predicts rightly of held-out text.
    #[serde(flatten)]
    pub quality: Quality,
    /// The share of the same tokens for always guessing the commonest token of the training text.
    pub unigram_accuracy: f64,
    /// Mean training loss of the first ten steps, in nats for each token asked for.
    pub loss_first: f64,
    /// Mean training loss of the last ten steps.
    pub loss_last: f64,
    /// Loss on held-out text at the end.
    pub held_out_loss: f64,
    /// Training steps.
    pub steps: u64,
    /// Tokens processed in a second of training, evaluation and checkpoints included.
    pub tokens_per_s: f64,
    /// Seconds of training.
    pub seconds: f64,
    /// Most bytes that tensors took at a time.
    pub peak_memory_bytes: u64,
    /// Where it ran.
    pub device: String,
    /// Parameters of the model.
    pub parameters: usize,
    /// Pieces of the tokenizer.
    pub vocab_size: usize,
    /// Tokens of the training text.
    pub train_tokens: usize,
}

/// Whether a model goes on with texts.
fn decodes(model: &Model) -> bool {
    model.text().is_ok_and(|text| text.about().task == Task::CausalLm)
}

impl Summary {
    /// Sums a run up.
    pub fn new(run: &Finished, device: &Device) -> Self {
        let mean =
            |points: &[super::history::Point]| points.iter().map(|p| p.loss).sum::<f64>() / points.len().max(1) as f64;
        let train = &run.history.train;
        let Score { loss, accuracy } = run.held_out;
        let quality = match decodes(&run.model) {
            true => Quality::Next { next_token_accuracy: accuracy, perplexity: loss.exp() },
            false => Quality::Masked { masked_accuracy: accuracy },
        };
        Summary {
            quality,
            unigram_accuracy: run.unigram_accuracy,
            loss_first: mean(&train[..train.len().min(MEAN_OF)]),
            loss_last: mean(&train[train.len().saturating_sub(MEAN_OF)..]),
            held_out_loss: loss,
            steps: run.steps,
            tokens_per_s: run.tokens_per_s,
            seconds: run.seconds,
            peak_memory_bytes: device.memory().peak_bytes,
            device: device.to_string(),
            parameters: run.model.module().parameter_count(),
            vocab_size: run.text.tokenizer.vocab_size(),
            train_tokens: run.text.train.len(),
        }
    }
}

/// Writes `config.json`, `model.safetensors`, `tokenizer_config.json` (beside the `tokenizer.json` that is there already),
/// `loss.svg`, `history.csv` and, last, `summary.json`.
///
/// # Errors
/// If a file cannot be written.
pub fn write(run: &Finished, summary: &Summary, folder: &Path) -> Result<()> {
    run.model.save(folder)?;
    let longest: Value = run.model.config().json()["max_position_embeddings"].clone();
    let tokenizer_config = match decodes(&run.model) {
        true => json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": longest,
            "pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": "[SEP]", "eos_token": "[SEP]",
        }),
        false => json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": longest,
            "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
        }),
    };
    write_json(&folder.join("tokenizer_config.json"), &tokenizer_config)?;
    let kind = if decodes(&run.model) { "Decoder" } else { "Masked language model" };
    let title = format!("{kind}, {:.1}M parameters", summary.parameters as f64 / 1e6);
    run.history.chart(&title).save(&folder.join("loss.svg"))?;
    fsx::write(&folder.join("history.csv"), run.history.csv().as_bytes())?;
    write_json(&folder.join("summary.json"), summary)
}

/// The result in words, and what the model makes of held-out sentences: an encoder of two masked words, a decoder of the first half.
///
/// # Errors
/// If a sentence cannot be tokenized or run.
pub fn describe(
    run: Finished,
    summary: &Summary,
    folder: &Path,
    settings: &Settings,
    device: &Device,
) -> Result<String> {
    let Finished { model, text, profile, .. } = run;
    let tokenizer = text.tokenizer.clone();
    let guess = text.train.unigrams(1).first().and_then(|&(id, _)| tokenizer.token(id)).unwrap_or_default();
    let quality = match summary.quality {
        Quality::Masked { masked_accuracy } => {
            format!("masked accuracy on held-out text: {:.1} %", 100.0 * masked_accuracy)
        }
        Quality::Next { next_token_accuracy, perplexity } => {
            let accuracy = 100.0 * next_token_accuracy;
            format!("perplexity of held-out text: {perplexity:.3} a token; next token right: {accuracy:.1} %")
        }
    };
    let mut out = format!(
        "\n{} steps in {:.0} s, {:.0} tokens/s on {}\nloss {:.3} -> {:.3}\n{quality} (always guessing \"{guess}\": {:.1} %)\n",
        summary.steps,
        summary.seconds,
        summary.tokens_per_s,
        summary.device,
        summary.loss_first,
        summary.loss_last,
        100.0 * summary.unigram_accuracy
    );
    let shown = folder.display();
    let command = match decodes(&model) {
        true => {
            out += &continued(&model, &tokenizer, &text.showcase, device)?;
            format!("wgrad generate {shown} \"The first words\"")
        }
        false => {
            out += &filled(model, &tokenizer, &text.showcase, &guess, settings, device)?;
            format!("wgrad fill-mask --model {shown} \"a [MASK] of this text\"")
        }
    };
    if let Some(profile) = profile {
        out.push_str(&format!("\none step on {profile}"));
    }
    out.push_str(&format!(
        "\nin {shown}: model.safetensors, config.json, tokenizer.json, loss.svg, history.csv, summary.json\ntry: {command}\n"
    ));
    Ok(out)
}

/// Held-out sentences with their second half by the model, and as it stood there.
fn continued(model: &Model, tokenizer: &Tokenizer, sentences: &[String], device: &Device) -> Result<String> {
    let settings = generate::Settings { choice: Choice::Greedy, most: WRITTEN, ends: vec![tokenizer.special().sep] };
    let mut out = String::new();
    for ids in tokenizer.encode_plain(sentences)?.iter().filter(|ids| ids.len() >= 4).take(SHOWN) {
        let (begin, rest) = ids.split_at(ids.len() / 2);
        let most = rest.len().min(WRITTEN);
        let settings = generate::Settings { most, ..settings.clone() };
        let written = generate(model, begin, &settings, device, &mut |_| Ok(true))?;
        let [begin, written, rest] = [begin, &written, &rest[..most]].map(|ids| tokenizer.decode(ids, true));
        out.push_str(&format!("\n  {}\n    goes on: {}\n    was:     {}\n", begin?, written?, rest?));
    }
    Ok(out)
}

/// Held-out sentences with two words masked: what the model fills in, what stood there, and what one would guess without looking.
fn filled(
    model: Model,
    tokenizer: &Tokenizer,
    sentences: &[String],
    guess: &str,
    settings: &Settings,
    device: &Device,
) -> Result<String> {
    let filler = MaskFiller::new(model, Codec::from(tokenizer), device)?;
    let mut rng = Philox::new(settings.seed, 0);
    let (mut out, mut shown) = (String::new(), 0);
    for sentence in sentences {
        let Some((masked, words)) = mask_words(sentence, tokenizer, settings.length, &mut rng)? else { continue };
        out.push_str(&format!("\n  {masked}\n"));
        for (truth, candidates) in words.iter().zip(filler.fill(&masked, 3)?.masks) {
            let list: Vec<String> =
                candidates.iter().map(|c| format!("{} {:.0} %", c.token, 100.0 * c.probability)).collect();
            let mark = if candidates.first().is_some_and(|c| c.token == *truth) { "right" } else { "wrong" };
            out.push_str(&format!("    {mark:<6} {:<44} was: {truth:<14} unigram guess: {guess}\n", list.join(", ")));
        }
        shown += 1;
        if shown == SHOWN {
            break;
        }
    }
    Ok(out)
}

/// A sentence with two of its one-piece words masked, and the words; None if it has no two such words apart, or is too long.
fn mask_words(
    sentence: &str,
    tokenizer: &Tokenizer,
    longest: usize,
    rng: &mut Philox,
) -> Result<Option<(String, Vec<String>)>> {
    let words: Vec<&str> = sentence.split_whitespace().collect();
    if tokenizer.encode(sentence)?.len() > longest {
        return Ok(None);
    }
    let mut whole = Vec::new();
    for (at, word) in words.iter().enumerate() {
        if word.len() < 2 || !word.chars().all(char::is_alphabetic) {
            continue;
        }
        // Two special tokens stand around the piece.
        if let [_, id, _] = tokenizer.encode(word)?[..]
            && !tokenizer.is_special(id)
            && let Some(piece) = tokenizer.token(id)
        {
            whole.push((at, piece));
        }
    }
    if whole.len() < 4 {
        return Ok(None);
    }
    // Apart, so that each has neighbours to be guessed from.
    rng.shuffle(&mut whole);
    let first = whole[0].0;
    let Some(second) = whole.iter().position(|&(at, _)| at.abs_diff(first) > 2) else { return Ok(None) };
    whole.swap(1, second);
    whole.truncate(2);
    whole.sort();
    let mut masked: Vec<String> = words.iter().map(|w| (*w).to_string()).collect();
    for (at, _) in &whole {
        masked[*at] = "[MASK]".into();
    }
    Ok(Some((masked.join(" "), whole.into_iter().map(|(_, piece)| piece).collect())))
}
