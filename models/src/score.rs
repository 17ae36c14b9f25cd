//! How well a language model predicts a text.

use serde::Serialize;
use wgrad::{CrossEntropy, DType, Device, Reduction, Tensor, no_grad};

use crate::corrupt::mlm::IGNORE;
use crate::front::embeddings::TextInput;
use crate::zoo::{Task, TextModel};
use crate::{Error, Result};

/// Rows that a masked language model is given at a time.
const ROWS: usize = 16;

/// What a text costs a model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    /// The sum of the predicted tokens' cross-entropies.
    pub nats: f64,
    /// Tokens predicted.
    pub tokens: usize,
    /// `exp(nats / tokens)`; of a masked language model the pseudo-perplexity (Salazar et al., 2020).
    pub perplexity: f64,
}

/// Scores the tokens `ids`: those that a causal model predicts from the ones before, or, one at a time replaced by `mask`, those that a
/// masked language model predicts from all others. Texts longer than `length` are read by windows of `length` tokens that move by
/// `stride`: a token is scored in the first window that predicts it. A model that writes one text for another reads the first half of each
/// window and writes the second, from where the next window's goes on. `counts` says which tokens a masked language model is asked for. `seen`
/// is told how many tokens were scored after each step.
///
/// # Errors
/// If the model predicts no tokens, `stride` is 0 or beyond `length`, or nothing is there to predict.
pub fn score(
    model: &dyn TextModel,
    ids: &[u32],
    counts: &[bool],
    mask: Option<u32>,
    [length, stride]: [usize; 2],
    device: &Device,
    seen: &mut dyn FnMut(usize),
) -> Result<Score> {
    if length < 2 || stride == 0 || stride >= length {
        let message = format!("windows of {length} tokens that move by {stride}, expected 0 < stride < length");
        return Err(Error::argument("stride", message));
    }
    let (nats, tokens) = no_grad(|| match (model.about().task, mask) {
        (Task::CausalLm, _) => causal(model, ids, [length, stride], device, seen),
        (Task::Seq2Seq, _) => written(model, ids, length, device, seen),
        (Task::MaskedLm, Some(mask)) => masked(model, (ids, counts), mask, length, device, seen),
        (Task::MaskedLm, None) => Err(Error::config("scoring takes a tokenizer with a token [MASK] or <mask>")),
        _ => Err(model.about().config.error("the model predicts no tokens")),
    })?;
    if tokens == 0 {
        return Err(Error::text("no token to predict"));
    }
    Ok(Score { nats, tokens, perplexity: (nats / tokens as f64).exp() })
}

/// The sum of the cross-entropies of `logits [rows, vocabulary]` over the labels that count.
fn sum(logits: &Tensor, labels: Vec<i32>) -> Result<f64> {
    let options =
        CrossEntropy { ignore_index: Some(i64::from(IGNORE)), reduction: Reduction::Sum, ..CrossEntropy::default() };
    let count = labels.len();
    let labels = Tensor::from_vec(labels, &[count], logits.device())?;
    Ok(logits.cast(DType::F32)?.cross_entropy(&labels, &options)?.item()?)
}

fn causal(
    model: &dyn TextModel,
    ids: &[u32],
    [length, stride]: [usize; 2],
    device: &Device,
    seen: &mut dyn FnMut(usize),
) -> Result<(f64, usize)> {
    let (mut nats, mut tokens, mut scored, mut start) = (0.0, 0, 1, 0);
    while scored < ids.len() {
        let end = (start + length).min(ids.len());
        let window = &ids[start..end];
        let input = Tensor::from_slice(window, &[1, window.len()], device)?;
        let first = scored - start;
        let hidden = model.encode(&TextInput::new(&input))?.narrow(1, first - 1, window.len() - first)?;
        nats += sum(&model.logits(&hidden.squeeze(0)?)?, window[first..].iter().map(|&id| id as i32).collect())?;
        tokens += end - scored;
        seen(tokens);
        scored = end;
        start += stride;
    }
    Ok((nats, tokens))
}

fn written(
    model: &dyn TextModel,
    ids: &[u32],
    length: usize,
    device: &Device,
    seen: &mut dyn FnMut(usize),
) -> Result<(f64, usize)> {
    let (mut nats, mut tokens) = (0.0, 0);
    let read = length / 2;
    for (before, after) in
        ids.windows(read).step_by(length - read).zip(ids[read.min(ids.len())..].chunks(length - read))
    {
        let labels: Vec<i32> = after.iter().map(|&id| id as i32).collect();
        let input = Tensor::from_slice(before, &[1, read], device)?;
        let states =
            model.states(&TextInput::new(&input), &Tensor::from_slice(&labels, &[1, labels.len()], device)?)?;
        nats += sum(&model.logits(&states.squeeze(0)?)?, labels)?;
        tokens += after.len();
        seen(tokens);
    }
    Ok((nats, tokens))
}

fn masked(
    model: &dyn TextModel,
    (ids, counts): (&[u32], &[bool]),
    mask: u32,
    length: usize,
    device: &Device,
    seen: &mut dyn FnMut(usize),
) -> Result<(f64, usize)> {
    let (mut nats, mut tokens) = (0.0, 0);
    for (window, counts) in ids.chunks(length).zip(counts.chunks(length)) {
        let places: Vec<usize> = (0..window.len()).filter(|&at| counts[at]).collect();
        for places in places.chunks(ROWS) {
            let mut rows = window.repeat(places.len());
            let mut labels = vec![IGNORE; rows.len()];
            for (row, &at) in places.iter().enumerate() {
                let at = row * window.len() + at;
                labels[at] = rows[at] as i32;
                rows[at] = mask;
            }
            let wanted: Vec<u32> =
                (0u32..).zip(&labels).filter(|(_, label)| **label != IGNORE).map(|(i, _)| i).collect();
            labels.retain(|&label| label != IGNORE);
            let input = Tensor::from_slice(&rows, &[places.len(), window.len()], device)?;
            let wanted = Tensor::from_slice(&wanted, &[wanted.len()], device)?;
            let hidden = model.encode(&TextInput::new(&input))?.flatten(0, 1)?.index_select(0, &wanted)?;
            nats += sum(&model.logits(&hidden)?, labels)?;
            tokens += places.len();
            seen(tokens);
        }
    }
    Ok((nats, tokens))
}
