//! Going on with texts: greedily, by drawing, or with beams.

use std::path::Path;

use serde_json::Value;
use wgrad::rng::Philox;
use wgrad::{DType, Device, Tensor, no_grad};

use crate::block::Encoded;
use crate::front::embeddings::TextInput;
use crate::front::packing::Packed;
use crate::zoo::{Cache, Model, T5, Task, TextModel};
use crate::{Error, Result};

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Choice {
    /// The likeliest.
    Greedy,
    /// Drawn from the likely ones.
    Draw {
        /// Divides the logits: below 1 the likely ones get likelier.
        temperature: f64,
        /// Only so many of the likeliest; 0 for all.
        top_k: usize,
        /// Only the likeliest that have this probability together.
        top_p: f64,
        /// Of the random numbers.
        seed: u64,
    },
    /// The likeliest text of a search that keeps so many.
    Beams {
        /// How many.
        width: usize,
        /// A text's logarithm of the probability is divided by its length to this power.
        length_penalty: f64,
    },
}

/// How a text is to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How the next token is chosen.
    pub choice: Choice,
    /// Most new tokens.
    pub most: usize,
    /// Tokens that end a text.
    pub ends: Vec<u32>,
}

impl Settings {
    fn check(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::argument("choice", message));
        match self.choice {
            Choice::Draw { temperature, .. } if temperature.is_nan() || temperature <= 0.0 => {
                refuse(format!("temperature is {temperature}, expected a number above 0"))
            }
            Choice::Draw { top_p, .. } if !(top_p > 0.0 && top_p <= 1.0) => {
                refuse(format!("top_p is {top_p}, expected a share above 0"))
            }
            Choice::Beams { width, .. } if width == 0 || width > 1024 => refuse(format!("{width} beams")),
            _ => Ok(()),
        }
    }
}

/// The tokens that end a text, as `generation_config.json` or `config.json` of a folder say.
pub fn ends(folder: &Path, config: &Value) -> Vec<u32> {
    let text = std::fs::read_to_string(folder.join("generation_config.json")).ok();
    let of_generation: Option<Value> = text.and_then(|text| serde_json::from_str(&text).ok());
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids = |value: &Value| match value.get("eos_token_id")? {
        Value::Array(all) => Some(all.iter().filter_map(id).collect()),
        one => Some(vec![id(one)?]),
    };
    of_generation.as_ref().and_then(ids).or_else(|| ids(config)).unwrap_or_default()
}

/// Goes on with the tokens `prompt`, or answers them if the model has an encoder. Each new token is handed to `seen`, which may
/// end the text by `false`; a search with beams hands over its tokens at the end.
///
/// # Errors
/// If the model does not write texts, the prompt is empty or too long, or the device fails.
pub fn generate(
    model: &Model,
    prompt: &[u32],
    settings: &Settings,
    device: &Device,
    seen: &mut dyn FnMut(u32) -> Result<bool>,
) -> Result<Vec<u32>> {
    let texts = generate_all(model, &[prompt.to_vec()], settings, device, &mut |_, token| seen(token))?;
    Ok(texts.into_iter().flatten().collect())
}

/// Goes on with each of several prompts, one after the other, as [`generate`] does; `seen` is told the prompt's number. A decoder reads them
/// all at once, packed into rows (Zhao et al., Prepacking, 2024).
///
/// # Errors
/// As [`generate`].
pub fn generate_all(
    model: &Model,
    prompts: &[Vec<u32>],
    settings: &Settings,
    device: &Device,
    seen: &mut dyn FnMut(usize, u32) -> Result<bool>,
) -> Result<Vec<Vec<u32>>> {
    settings.check()?;
    no_grad(|| {
        let longest = model.text()?.about().longest;
        let writers = Writer::all(model, prompts, device)?;
        let each = writers.into_iter().zip(prompts).enumerate();
        each.map(|(number, (writer, prompt))| {
            let room = longest.map_or(usize::MAX, |longest| longest.saturating_sub(prompt.len()) + 1);
            writer.write(settings, settings.most.min(room), &mut |token| seen(number, token))
        })
        .collect()
    })
}

/// A decoder, what it has seen, and what it makes of that.
struct Writer<'a> {
    text: &'a dyn TextModel,
    answer: Option<(&'a T5, Encoded)>,
    cache: Cache,
    /// Of the next token, `[1, vocabulary]`.
    first: Tensor,
    device: &'a Device,
}

impl<'a> Writer<'a> {
    /// One for each prompt, which it has read.
    fn all(model: &'a Model, prompts: &[Vec<u32>], device: &'a Device) -> Result<Vec<Self>> {
        if prompts.iter().any(Vec::is_empty) {
            return Err(Error::argument("prompt", "no tokens to go on from"));
        }
        let text = model.text()?;
        match model {
            Model::T5(t5) => prompts.iter().map(|prompt| Self::answering(t5, prompt, device)).collect(),
            _ if text.about().task == Task::CausalLm => {
                let read = prefill(text, prompts, device)?;
                Ok(read.into_iter().map(|(cache, first)| Writer { text, answer: None, cache, first, device }).collect())
            }
            _ => Err(text.about().config.error("the model does not write texts")),
        }
    }

    fn answering(t5: &'a T5, prompt: &[u32], device: &'a Device) -> Result<Self> {
        let ids = Tensor::from_slice(prompt, &[1, prompt.len()], device)?;
        let answer = Some((t5, t5.encoded(&TextInput::new(&ids), None)?));
        let mut writer = Writer { text: t5, answer, cache: Cache::default(), first: ids, device };
        writer.first = writer.step(&[t5.start()], 1)?;
        Ok(writer)
    }

    /// Logits `[rows, vocabulary]` after each of so many rows of more tokens.
    fn step(&mut self, tokens: &[u32], rows: usize) -> Result<Tensor> {
        let ids = Tensor::from_slice(tokens, &[rows, tokens.len() / rows.max(1)], self.device)?;
        let input = TextInput::new(&ids);
        let hidden = match &self.answer {
            Some((t5, encoded)) => t5.decode(&input, encoded, Some(&mut self.cache), None)?,
            None => self.text.run(&input, Some(&mut self.cache), None)?,
        };
        next_logits(self.text, &hidden.narrow(1, hidden.size(1)? - 1, 1)?.squeeze(1)?)
    }

    /// Writes at most so many tokens.
    fn write(
        mut self,
        settings: &Settings,
        most: usize,
        seen: &mut dyn FnMut(u32) -> Result<bool>,
    ) -> Result<Vec<u32>> {
        if let Choice::Beams { width, length_penalty } = settings.choice {
            let text = beams(&mut self, width, length_penalty, most, &settings.ends)?;
            for &token in &text {
                if !seen(token)? {
                    break;
                }
            }
            return Ok(text);
        }
        let mut rng = Philox::new(if let Choice::Draw { seed, .. } = settings.choice { seed } else { 0 }, 0);
        let mut text: Vec<u32> = Vec::new();
        while text.len() < most {
            let logits = match text.last() {
                Some(&last) => self.step(&[last], 1)?,
                None => self.first.clone(),
            };
            let token = choose(&logits, settings.choice, &mut rng)?;
            if settings.ends.contains(&token) {
                break;
            }
            text.push(token);
            if !seen(token)? {
                break;
            }
        }
        Ok(text)
    }
}

/// Logits of `hidden [rows, hidden]`, in f32.
fn next_logits(model: &dyn TextModel, hidden: &Tensor) -> Result<Tensor> {
    Ok(model.logits(hidden)?.cast(DType::F32)?)
}

/// Reads prompts, none of them empty: for each the keys and values of its tokens, and logits `[1, vocabulary]` of the token after it. Several
/// are packed into rows, if the model can tell them apart there.
///
/// # Errors
/// If a prompt is too long, or an id is outside the vocabulary.
pub fn prefill(model: &dyn TextModel, prompts: &[Vec<u32>], device: &Device) -> Result<Vec<(Cache, Tensor)>> {
    let last = |hidden: &Tensor, row: usize, at: usize| hidden.narrow(0, row, 1)?.narrow(1, at, 1)?.squeeze(1);
    match model.about().packs.filter(|_| prompts.len() > 1) {
        Some(first) => {
            let (packed, mut cache) = (Packed::new(prompts, first, device)?, Cache::default());
            let hidden = model.run(&packed.input(), Some(&mut cache), None)?;
            let own = |(prompt, [row, start]): (&Vec<u32>, [usize; 2])| {
                let end = last(&hidden, row, start + prompt.len() - 1)?;
                Ok((cache.cut(row, start, prompt.len())?, next_logits(model, &end)?))
            };
            prompts.iter().zip(packed.packing.places()).map(own).collect()
        }
        None => {
            let alone = |prompt: &Vec<u32>| {
                let mut cache = Cache::default();
                let ids = Tensor::from_slice(prompt, &[1, prompt.len()], device)?;
                let hidden = model.run(&TextInput::new(&ids), Some(&mut cache), None)?;
                Ok((cache, next_logits(model, &last(&hidden, 0, prompt.len() - 1)?)?))
            };
            prompts.iter().map(alone).collect()
        }
    }
}

fn choose(logits: &Tensor, choice: Choice, rng: &mut Philox) -> Result<u32> {
    let Choice::Draw { temperature, top_k, top_p, .. } = choice else {
        return Ok(logits.argmax(-1, false)?.item()? as u32);
    };
    let logits = logits.to_f64_vec()?;
    let mut ranked: Vec<usize> = (0..logits.len()).collect();
    ranked.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    if top_k > 0 {
        ranked.truncate(top_k);
    }
    let most = ranked.first().map_or(0.0, |&first| logits[first]);
    let weights: Vec<f64> = ranked.iter().map(|&id| ((logits[id] - most) / temperature).exp()).collect();
    let all: f64 = weights.iter().sum();
    // At least one: the first with which the sum reaches the share.
    let (mut sum, mut kept) = (0.0, 0);
    while kept < weights.len() && (kept == 0 || sum < top_p * all) {
        sum += weights[kept];
        kept += 1;
    }
    let mut left = f64::from(rng.next_f32()) * sum;
    for (&id, &weight) in ranked[..kept].iter().zip(&weights) {
        left -= weight;
        if left < 0.0 || id == ranked[kept - 1] {
            return Ok(id as u32);
        }
    }
    Err(Error::argument("logits", "the vocabulary is empty"))
}

/// A text under way, and the logarithm of its probability.
#[derive(Clone)]
struct Beam {
    tokens: Vec<u32>,
    score: f64,
}

fn beams(writer: &mut Writer, width: usize, penalty: f64, most: usize, ends: &[u32]) -> Result<Vec<u32>> {
    let normalised = |beam: &Beam| beam.score / (beam.tokens.len().max(1) as f64).powf(penalty);
    let mut open = vec![Beam { tokens: Vec::new(), score: 0.0 }];
    let mut done: Vec<Beam> = Vec::new();
    let mut logits = writer.first.clone();
    for step in 0..most {
        let vocab = logits.size(1)?;
        // Enough that `width` are left if each beam has an end among its best.
        let wide = (width + ends.len()).min(vocab);
        let (scores, tokens) = logits.log_softmax(-1)?.topk(wide, -1, true)?;
        let (scores, tokens) = (scores.to_f64_vec()?, tokens.to_vec::<u32>()?);
        let mut next: Vec<(usize, u32, f64)> = Vec::new();
        for (row, beam) in open.iter().enumerate() {
            let of_row = row * wide..(row + 1) * wide;
            let all = tokens[of_row.clone()].iter().zip(&scores[of_row]);
            next.extend(all.map(|(&token, &score)| (row, token, beam.score + score)));
        }
        next.sort_by(|a, b| b.2.total_cmp(&a.2));
        let (mut rows, mut more) = (Vec::new(), Vec::new());
        for (rank, (row, token, score)) in next.into_iter().enumerate() {
            let mut tokens = open[row].tokens.clone();
            if ends.contains(&token) {
                if rank < width {
                    done.push(Beam { tokens, score });
                }
            } else if more.len() < width {
                tokens.push(token);
                rows.push(row as u32);
                more.push(Beam { tokens, score });
            }
        }
        open = more;
        let best_open = open.iter().map(&normalised).fold(f64::NEG_INFINITY, f64::max);
        let better = done.iter().filter(|beam| normalised(beam) >= best_open).count();
        if open.is_empty() || better >= width || step + 1 == most {
            break;
        }
        let chosen = Tensor::from_slice(&rows, &[rows.len()], writer.device)?;
        writer.cache.choose(&chosen)?;
        let last: Vec<u32> = open.iter().filter_map(|beam| beam.tokens.last().copied()).collect();
        logits = writer.step(&last, last.len())?;
    }
    done.extend(open);
    let best = done.into_iter().max_by(|a, b| normalised(a).total_cmp(&normalised(b)));
    Ok(best.map_or_else(Vec::new, |beam| beam.tokens))
}
