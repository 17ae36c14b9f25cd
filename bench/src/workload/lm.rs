//! Language models of well-known shapes, with random weights: reading a prompt, and writing the tokens after it one by one.

use std::rc::Rc;

use serde_json::{Value, json};
use wgrad::{DType, Device, Tensor, no_grad};
use wgrad_models::front::embeddings::TextInput;
use wgrad_models::zoo::{self, Cache, Config, Model};

use super::{Work, compare, dtype};
use crate::params::Params;
use crate::{Error, Result};

/// What logits may be apart that were computed with a cache and without one.
const TOLERANCE: f64 = 2e-3;

/// `config.json` of a shape: GPT-2 of 124 million parameters, or Llama 3.2 of 1.24 billion.
fn config(shape: &str) -> Value {
    if shape == "gpt2" {
        return json!({
            "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 50257, "n_positions": 1024,
            "n_embd": 768, "n_layer": 12, "n_head": 12,
        });
    }
    json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 128_256, "hidden_size": 2048,
        "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
        "max_position_embeddings": 8192, "rope_theta": 500_000.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
    })
}

struct Reader {
    model: Model,
    parameters: f64,
    dtype: DType,
}

impl Reader {
    fn new(params: &mut Params, device: &Device) -> Result<Self> {
        let shape = params.choice("shape", &["gpt2", "llama"])?;
        let config = Config::new(config(shape)).map_err(failed)?;
        let dtype = dtype(params)?;
        let model = zoo::new(&config, dtype, device).map_err(failed)?;
        model.module().train(false);
        let parameters = model.module().parameter_count() as f64;
        Ok(Reader { model, parameters, dtype })
    }

    /// Parameters of the head.
    fn head(&self) -> Result<f64> {
        let about = self.model.text().map_err(failed)?.about();
        Ok((about.vocab * about.hidden) as f64)
    }

    fn draw(&self, tokens: usize, device: &Device) -> Result<Tensor> {
        let vocab = self.model.text().map_err(failed)?.about().vocab;
        Ok(Tensor::randint(0, vocab as i64, &[1, tokens], DType::U32, device)?)
    }

    /// Logits of the token after `ids [1, tokens]`, which come after those in the cache.
    fn next(&self, ids: &Tensor, cache: Option<&mut Cache>) -> Result<Tensor> {
        let logits = || {
            let model = self.model.text()?;
            let hidden = model.run(&TextInput::new(ids), cache, None)?;
            model.logits(&hidden.narrow(1, hidden.size(1)? - 1, 1)?)
        };
        no_grad(logits).map_err(failed)
    }
}

fn failed(error: wgrad_models::Error) -> Error {
    Error::new(error.to_string())
}

/// A prompt of `l` tokens, up to the logits of the next.
pub fn prefill(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let length = params.size("l", 128)?;
    let reader = Rc::new(Reader::new(params, device)?);
    let ids = reader.draw(length, device)?;
    let (name, read, prompt) = (name.to_string(), reader.clone(), ids.clone());
    Ok(Work {
        // Only the last token meets the head, whose matrix is that of the words.
        flops: Some(2.0 * (reader.head()? + (reader.parameters - reader.head()?) * length as f64)),
        bytes: None,
        f32: reader.dtype == DType::F32,
        wait: true,
        step: Box::new(move || Ok(vec![read.next(&prompt, Some(&mut Cache::default()))?])),
        check: Box::new(move |step| {
            // In two parts.
            let (mut cache, half) = (Cache::default(), length / 2);
            if half > 0 {
                reader.next(&ids.narrow(1, 0, half)?, Some(&mut cache))?;
            }
            let want = reader.next(&ids.narrow(1, half, length - half)?, Some(&mut cache))?;
            compare(&name, &step()?, &[want.to_device(&Device::cpu())?], TOLERANCE)
        }),
    })
}

/// One more token after `past` others, of which the model keeps keys and values.
pub fn decode(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let past = params.size("past", 128)?;
    let reader = Rc::new(Reader::new(params, device)?);
    let ids = reader.draw(past + 1, device)?;
    let mut cache = Cache::default();
    reader.next(&ids.narrow(1, 0, past)?, Some(&mut cache))?;
    let (name, read, last) = (name.to_string(), reader.clone(), ids.narrow(1, past, 1)?);
    Ok(Work {
        flops: None,
        // Each weight is read once.
        bytes: Some(reader.parameters * reader.model.module().named_parameters()[0].1.dtype().size() as f64),
        f32: reader.dtype == DType::F32,
        wait: true,
        step: Box::new(move || Ok(vec![read.next(&last, Some(&mut cache))?])),
        check: Box::new(move |step| {
            let want = reader.next(&ids, None)?;
            compare(&name, &step()?, &[want.to_device(&Device::cpu())?], TOLERANCE)
        }),
    })
}
