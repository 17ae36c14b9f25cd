//! BERT (Devlin et al., 2018, arXiv 1810.04805) as a masked language model, under the names of its published checkpoints.

use std::path::Path;

use serde_json::json;
use wgrad::nn::{Embedding, Init, LayerNorm, Linear, Module, Param, Visitor};
use wgrad::{CrossEntropy, DType, Device, Tensor};

use super::config::Config;
use crate::activation::Activation;
use crate::attention::AttentionNames;
use crate::block::{Block, BlockConfig, BlockNames};
use crate::{Error, Result};

/// Labels with this value are not predicted.
pub const IGNORE: i32 = -100;

const NAMES: BlockNames = BlockNames {
    attention: AttentionNames {
        query: "attention.self.query",
        key: "attention.self.key",
        value: "attention.self.value",
        output: "attention.output.dense",
    },
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    feed_forward_norm: "output.LayerNorm",
};

/// Sizes and switches of a BERT, as in its `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct BertConfig {
    /// Word pieces in the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads of a block.
    pub heads: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Activation of the feed-forward part and of the head.
    pub activation: String,
    /// Longest sequence.
    pub max_positions: usize,
    /// Kinds of segments.
    pub type_vocab_size: usize,
    /// Added to the variance in the norms.
    pub norm_eps: f64,
    /// Dropout of embeddings and block outputs while training.
    pub dropout: f64,
    /// Dropout of attention probabilities while training.
    pub attention_dropout: f64,
    /// Standard deviation of new weights.
    pub initializer_range: f64,
    /// Id of the padding token, whose embedding is not trained.
    pub pad_id: usize,
    /// Whether the output projection is the word embedding.
    pub tied: bool,
}

impl BertConfig {
    /// Reads `config.json` of a model folder.
    ///
    /// # Errors
    /// If a field is missing or of the wrong kind, or the architecture is another one.
    pub fn read(folder: &Path) -> Result<Self> {
        let config = Config::read(folder)?;
        let kind = config.text_or("model_type", "bert")?;
        if kind != "bert" {
            return Err(config.error(format!("model_type is {kind:?}, expected \"bert\"")));
        }
        Ok(BertConfig {
            vocab_size: config.size("vocab_size")?,
            hidden_size: config.size("hidden_size")?,
            layers: config.size("num_hidden_layers")?,
            heads: config.size("num_attention_heads")?,
            intermediate_size: config.size("intermediate_size")?,
            activation: config.text_or("hidden_act", "gelu")?,
            max_positions: config.size("max_position_embeddings")?,
            type_vocab_size: config.size_or("type_vocab_size", 2)?,
            norm_eps: config.number_or("layer_norm_eps", 1e-12)?,
            dropout: config.number_or("hidden_dropout_prob", 0.1)?,
            attention_dropout: config.number_or("attention_probs_dropout_prob", 0.1)?,
            initializer_range: config.number_or("initializer_range", 0.02)?,
            pad_id: config.size_or("pad_token_id", 0)?,
            tied: config.flag_or("tie_word_embeddings", true)?,
        })
    }

    /// The configuration as transformers writes it.
    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "architectures": ["BertForMaskedLM"],
            "model_type": "bert",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.intermediate_size,
            "hidden_act": self.activation,
            "max_position_embeddings": self.max_positions,
            "type_vocab_size": self.type_vocab_size,
            "layer_norm_eps": self.norm_eps,
            "hidden_dropout_prob": self.dropout,
            "attention_probs_dropout_prob": self.attention_dropout,
            "initializer_range": self.initializer_range,
            "pad_token_id": self.pad_id,
            "tie_word_embeddings": self.tied,
            "torch_dtype": "float32",
        })
    }
}

struct Embeddings {
    word: Embedding,
    position: Embedding,
    token_type: Embedding,
    norm: LayerNorm,
}

impl Module for Embeddings {
    fn visit(&self, v: &mut Visitor) {
        v.module("word_embeddings", &self.word);
        v.module("position_embeddings", &self.position);
        v.module("token_type_embeddings", &self.token_type);
        v.module("LayerNorm", &self.norm);
    }
}

/// The encoder: embeddings and blocks.
struct Encoder {
    embeddings: Embeddings,
    blocks: Vec<Block>,
}

impl Module for Encoder {
    fn visit(&self, v: &mut Visitor) {
        v.module("embeddings", &self.embeddings);
        for (i, block) in self.blocks.iter().enumerate() {
            v.module(&format!("encoder.layer.{i}"), block);
        }
    }
}

/// The transform and the output projection of the masked language model.
struct Head {
    dense: Linear,
    norm: LayerNorm,
    bias: Param,
    /// None if the word embedding is used.
    decoder: Option<Param>,
}

impl Module for Head {
    fn visit(&self, v: &mut Visitor) {
        v.param("bias", &self.bias);
        v.module("transform.dense", &self.dense);
        v.module("transform.LayerNorm", &self.norm);
        if let Some(decoder) = &self.decoder {
            v.param("decoder.weight", decoder);
        }
    }
}

/// BERT with its masked language modelling head.
pub struct BertForMaskedLm {
    config: BertConfig,
    activation: Activation,
    encoder: Encoder,
    head: Head,
}

/// What the model is given: token ids `[batch, length]` (u32 or i32), and optionally which of them are real (bool,
/// `[batch, length]`) and their segment ids.
#[derive(Clone, Copy)]
pub struct BertInput<'a> {
    /// Token ids.
    pub ids: &'a Tensor,
    /// True for real tokens, false for padding; None if all are real.
    pub real: Option<&'a Tensor>,
    /// Segment ids; None means 0 everywhere.
    pub types: Option<&'a Tensor>,
}

impl<'a> BertInput<'a> {
    /// Ids without padding.
    pub fn new(ids: &'a Tensor) -> Self {
        BertInput { ids, real: None, types: None }
    }
}

impl BertForMaskedLm {
    /// A model with new weights, drawn from the device's random number generator.
    ///
    /// # Errors
    /// If the configuration contradicts itself, or memory is exhausted.
    pub fn new(config: &BertConfig, device: &Device) -> Result<Self> {
        let init = Init::Normal { std: config.initializer_range };
        let activation = Activation::parse(&config.activation)?;
        let hidden = config.hidden_size;
        let block = BlockConfig {
            hidden,
            heads: config.heads,
            intermediate: config.intermediate_size,
            activation,
            norm_eps: config.norm_eps,
            dropout: config.dropout,
            attention_dropout: config.attention_dropout,
            init,
            names: NAMES,
        };
        let embeddings = Embeddings {
            word: Embedding::new(config.vocab_size, hidden, Some(config.pad_id), init, device)?,
            position: Embedding::new(config.max_positions, hidden, None, init, device)?,
            token_type: Embedding::new(config.type_vocab_size, hidden, None, init, device)?,
            norm: LayerNorm::new(hidden, config.norm_eps, device)?,
        };
        let blocks = (0..config.layers).map(|_| Block::new(&block, device)).collect::<Result<_>>()?;
        let decoder = match config.tied {
            true => None,
            false => Some(Param::new(init.tensor(&[config.vocab_size, hidden], DType::F32, device)?)),
        };
        let head = Head {
            dense: Linear::new(hidden, hidden, true, init, device)?,
            norm: LayerNorm::new(hidden, config.norm_eps, device)?,
            bias: Param::new(Tensor::zeros(&[config.vocab_size], DType::F32, device)?),
            decoder,
        };
        Ok(BertForMaskedLm { config: config.clone(), activation, encoder: Encoder { embeddings, blocks }, head })
    }

    /// The configuration.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// Hidden states `[batch, length, hidden]` after the embeddings and after each block.
    ///
    /// # Errors
    /// If shapes do not fit, the sequence is too long, or an id is outside the vocabulary.
    pub fn hidden_states(&self, input: BertInput, training: bool) -> Result<Vec<Tensor>> {
        let &[_, length] = input.ids.shape() else {
            return Err(Error::argument("ids", format!("shape {:?}, expected [batch, length]", input.ids.shape())));
        };
        if length > self.config.max_positions {
            let most = self.config.max_positions;
            return Err(Error::argument("ids", format!("{length} tokens, but the model has {most} positions")));
        }
        let Embeddings { word, position, token_type, norm } = &self.encoder.embeddings;
        let device = input.ids.device();
        let positions = position.weight.tensor().narrow(0, 0, length)?;
        let types = match input.types {
            Some(types) => token_type.forward(types)?,
            None => token_type.weight.tensor().narrow(0, 0, 1)?,
        };
        let sum = word.forward(input.ids)?.add(&positions)?.add(&types)?;
        let mut x = norm.forward(&sum)?;
        if training && self.config.dropout > 0.0 {
            x = x.dropout(self.config.dropout)?;
        }
        // [batch, 1, 1, length]: no query sees a padding key.
        let mask = input.real.map(|real| real.to_device(device)?.unsqueeze(1)?.unsqueeze(1)).transpose()?;
        let mut states = vec![x];
        for block in &self.encoder.blocks {
            let x = block.forward(&states[states.len() - 1], mask.as_ref(), training)?;
            states.push(x);
        }
        Ok(states)
    }

    /// Logits over the vocabulary for hidden states `[.., hidden]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let transformed = self.activation.apply(&self.head.dense.forward(hidden)?)?;
        let transformed = self.head.norm.forward(&transformed)?;
        let weight = match &self.head.decoder {
            Some(decoder) => decoder.tensor(),
            None => self.encoder.embeddings.word.weight.tensor(),
        };
        Ok(transformed.linear(&weight, Some(&self.head.bias.tensor()))?)
    }

    /// Mean cross-entropy over the labels that are not [`IGNORE`].
    ///
    /// # Errors
    /// If shapes do not fit, or a label is outside the vocabulary.
    pub fn loss(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let options = CrossEntropy { ignore_index: Some(i64::from(IGNORE)), ..CrossEntropy::default() };
        Ok(logits.cross_entropy(labels, &options)?)
    }
}

impl Module for BertForMaskedLm {
    fn visit(&self, v: &mut Visitor) {
        v.module("bert", &self.encoder);
        v.module("cls.predictions", &self.head);
    }
}
