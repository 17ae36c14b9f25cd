//! What a finished run leaves behind: the model in Hugging Face layout, curves, a summary, and sentences to look at.

use std::path::Path;

use serde::Serialize;
use serde_json::json;
use wgrad::Device;
use wgrad::nn::Module;
use wgrad::rng::Philox;

use super::run::Finished;
use super::settings::write_json;
use crate::fill_mask::MaskFiller;
use crate::front::codec::Codec;
use crate::front::tokenizer::Tokenizer;
use crate::zoo::{self, Model, TextModel};
use crate::{Result, fsx};

/// Steps that first and last losses are means of.
const MEAN_OF: usize = 10;
/// Sentences shown at the end.
const SHOWN: usize = 5;

/// `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Share of the masked tokens of held-out text that the model predicts rightly.
    pub masked_accuracy: f64,
    /// The same for always guessing the commonest token of the training text.
    pub unigram_accuracy: f64,
    /// Mean training loss of the first ten steps, in nats for each masked token.
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
    /// Word pieces of the tokenizer.
    pub vocab_size: usize,
    /// Tokens of the training text.
    pub train_tokens: usize,
}

impl Summary {
    /// Sums a run up.
    pub fn new(run: &Finished, device: &Device) -> Self {
        let mean =
            |points: &[super::history::Point]| points.iter().map(|p| p.loss).sum::<f64>() / points.len().max(1) as f64;
        let train = &run.history.train;
        Summary {
            masked_accuracy: run.held_out.accuracy,
            unigram_accuracy: run.unigram_accuracy,
            loss_first: mean(&train[..train.len().min(MEAN_OF)]),
            loss_last: mean(&train[train.len().saturating_sub(MEAN_OF)..]),
            held_out_loss: run.held_out.loss,
            steps: run.steps,
            tokens_per_s: run.tokens_per_s,
            seconds: run.seconds,
            peak_memory_bytes: device.memory().peak_bytes,
            device: device.to_string(),
            parameters: run.model.parameter_count(),
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
    zoo::save(&run.model, &run.model.about().config.json(), folder)?;
    let tokenizer_config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": run.model.about().longest,
        "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
    });
    write_json(&folder.join("tokenizer_config.json"), &tokenizer_config)?;
    let title = format!("Masked language model, {:.1}M parameters", summary.parameters as f64 / 1e6);
    run.history.chart(&title).save(&folder.join("loss.svg"))?;
    fsx::write(&folder.join("history.csv"), run.history.csv().as_bytes())?;
    write_json(&folder.join("summary.json"), summary)
}

/// The result in words, and held-out sentences with two words masked: what the model fills in, what stood there, and what
/// one would guess without looking.
///
/// # Errors
/// If a sentence cannot be tokenized or run.
pub fn describe(run: Finished, summary: &Summary, folder: &Path, seed: u64, device: &Device) -> Result<String> {
    let Finished { model, text, profile, .. } = run;
    let unigrams = text.train.unigrams(1);
    let longest = model.about().longest.unwrap_or(usize::MAX);
    let tokenizer = text.tokenizer.clone();
    let guess = unigrams.first().and_then(|&(id, _)| tokenizer.token(id)).unwrap_or_default();
    let filler = MaskFiller::new(Model::Transformer(model), Codec::from(&tokenizer), device)?;
    let mut out = format!(
        "\n{} steps in {:.0} s, {:.0} tokens/s on {}\nloss {:.3} -> {:.3}\nmasked accuracy on held-out text: {:.1} % \
         (always guessing \"{guess}\": {:.1} %)\n",
        summary.steps,
        summary.seconds,
        summary.tokens_per_s,
        summary.device,
        summary.loss_first,
        summary.loss_last,
        100.0 * summary.masked_accuracy,
        100.0 * summary.unigram_accuracy
    );
    let mut rng = Philox::new(seed, 0);
    let mut shown = 0;
    for sentence in &text.showcase {
        let Some((masked, words)) = mask_words(sentence, &tokenizer, longest, &mut rng)? else { continue };
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
    if let Some(profile) = profile {
        out.push_str(&format!("\none step on {profile}"));
    }
    out.push_str(&format!(
        "\nin {}: model.safetensors, config.json, tokenizer.json, loss.svg, history.csv, summary.json\n\
         try: wgrad fill-mask --model {} \"a [MASK] of this text\"\n",
        folder.display(),
        folder.display()
    ));
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
