//! What a run is: everything that decides its course, as it stands in the run's folder.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;
use wgrad::nn::Init;
use wgrad::nn::Precision;

use crate::front::tokenizer::Tokenizer;
use crate::zoo::Config;
use crate::{Error, Result, fsx};

/// File of the settings in the folder of a run.
const FILE: &str = "run.json";

/// The settings of a training run. They are written first of all, so that a run can be resumed whenever it is stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Files or folders of the text; none for the project's own.
    pub text: Vec<PathBuf>,
    /// Training steps, if they are limited.
    pub steps: Option<u64>,
    /// Training time in seconds, if it is limited.
    pub seconds: Option<u64>,
    /// Steps between checkpoints.
    pub save_every: u64,
    /// Pieces of words, or of bytes, at most.
    pub vocab: usize,
    /// Rows in a batch.
    pub batch: usize,
    /// Tokens in a row.
    pub length: usize,
    /// Width of the model.
    pub hidden: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Highest learning rate.
    pub lr: f64,
    /// Seed of weights, order and masks.
    pub seed: u64,
    /// f32, f16 or bf16.
    #[serde(alias = "dtype")]
    pub precision: String,
    /// Whether the model is a decoder that learns the next token, else an encoder that learns masked ones.
    #[serde(default)]
    pub decoder: bool,
}

impl Settings {
    /// Whether a folder holds a run.
    pub fn are_in(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }

    /// The precision of the training.
    ///
    /// # Errors
    /// If it is none of f32, f16 and bf16.
    pub fn precision(&self) -> Result<Precision> {
        Ok(self.precision.parse()?)
    }

    /// Reads the settings of a run.
    ///
    /// # Errors
    /// If there is no run in the folder, or the file is damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = fsx::read_text(&path)?;
        serde_json::from_str(&text).map_err(|e| Error::file(&path, format!("not the settings of a run: {e}")))
    }

    /// Writes the settings.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_json(&folder.join(FILE), self)
    }

    /// The model of this run, for this tokenizer: a Llama or a BERT.
    ///
    /// # Errors
    /// Never: the configuration is an object.
    pub fn model(&self, tokenizer: &Tokenizer) -> Result<Config> {
        let (vocab_size, special) = (tokenizer.vocab_size(), tokenizer.special());
        if self.decoder {
            return Config::new(json!({
                "architectures": ["LlamaForCausalLM"],
                "model_type": "llama",
                "vocab_size": vocab_size,
                "hidden_size": self.hidden,
                "num_hidden_layers": self.layers,
                "num_attention_heads": self.heads,
                "num_key_value_heads": self.heads,
                // Three matrices of a gated unit have as many weights as two that are four times as wide as the model.
                "intermediate_size": (8 * self.hidden).div_ceil(3).next_multiple_of(8),
                "hidden_act": "silu",
                "max_position_embeddings": self.length,
                "rope_theta": 10_000.0,
                "rms_norm_eps": 1e-6,
                "attention_bias": false,
                "mlp_bias": false,
                "initializer_range": small_range(self.hidden),
                "pad_token_id": special.pad,
                "bos_token_id": special.sep,
                "eos_token_id": special.sep,
                "tie_word_embeddings": true,
                "torch_dtype": "float32",
            }));
        }
        Config::new(json!({
            "architectures": ["BertForMaskedLM"],
            "model_type": "bert",
            "vocab_size": vocab_size,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": 4 * self.hidden,
            "hidden_act": "gelu",
            "max_position_embeddings": self.length,
            "type_vocab_size": 2,
            "layer_norm_eps": 1e-12,
            // A run sees its text about once: nothing to regularise.
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "initializer_range": small_range(self.hidden),
            "pad_token_id": special.pad,
            "tie_word_embeddings": true,
            "torch_dtype": "float32",
        }))
    }
}

/// Standard deviation of new weights of a narrow model. BERT's 0.02 suits its width of 768; at 128 it would leave every
/// block's part of the residual stream near zero, and a short run would spend its steps on growing it.
pub(crate) fn small_range(hidden: usize) -> f64 {
    0.8 / (hidden.max(1) as f64).sqrt()
}

/// Waves for the positions of a narrow model, as large as its word embeddings and as long as its rows: a short run is over
/// before attention has found out which of `length` random vectors are neighbours.
pub(crate) fn small_positions(hidden: usize, length: usize) -> Init {
    Init::Sinusoid { amplitude: small_range(hidden), base: 3.0 * length as f64 }
}

/// Writes a value as indented JSON, atomically.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::file(path, e))?;
    fsx::write(path, format!("{text}\n").as_bytes())
}
