//! BERT (Devlin et al., 2018, arXiv 1810.04805) as a masked language model, under the names of its published checkpoints.

use std::path::Path;

use serde_json::json;
use wgrad::io::Weights;
use wgrad::nn::{Build, Dropout, Embedding, Init, LayerNorm, Linear, Module, Param, Visitor};
use wgrad::{CrossEntropy, DType, Device, Epilogue, Tensor};

use super::config::Config;
use crate::activation::{self, Activation};
use crate::block::{Block, BlockConfig, BlockNames};
use crate::corrupt::mlm::IGNORE;
use crate::{Error, Result};

const NAMES: BlockNames = BlockNames {
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    feed_forward_norm: "output.LayerNorm",
};

/// Parts of checkpoints that a masked language model has no use for.
const NOT_OURS: [&str; 3] = ["bert.pooler.", "cls.seq_relationship.", "bert.embeddings.position_ids"];

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
    dropout: Dropout,
}

impl Module for Embeddings {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("word_embeddings", &self.word);
        v.module("position_embeddings", &self.position);
        v.module("token_type_embeddings", &self.token_type);
        v.module("LayerNorm", &self.norm);
        v.module("dropout", &self.dropout);
    }
}

/// The encoder: embeddings and blocks.
struct Encoder {
    embeddings: Embeddings,
    blocks: Vec<Block>,
}

impl Module for Encoder {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("embeddings", &self.embeddings);
        v.modules("encoder.layer", &self.blocks);
    }
}

/// The transform and the output projection of the masked language model.
struct Head {
    dense: Linear,
    norm: LayerNorm,
    bias: Param,
    /// The word embedding itself if they are tied.
    decoder: Param,
}

impl Module for Head {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("bias", &self.bias);
        v.module("transform.dense", &self.dense);
        v.module("transform.LayerNorm", &self.norm);
        // Checkpoints may name the tied decoder too, or not.
        v.param("decoder.weight", &self.decoder);
        v.param("decoder.bias", &self.bias);
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

    /// `[batch, 1, 1, length]`: no query sees a padding key.
    fn mask(&self) -> Result<Option<Tensor>> {
        let mask = |real: &Tensor| real.unsqueeze(1)?.unsqueeze(1);
        Ok(self.real.map(mask).transpose()?)
    }
}

impl BertForMaskedLm {
    /// A model with new weights of one dtype, drawn from the device's random number generator.
    ///
    /// # Errors
    /// If the configuration contradicts itself, or memory is exhausted.
    pub fn new(config: &BertConfig, dtype: DType, device: &Device) -> Result<Self> {
        let init = Init::Normal { mean: 0.0, std: config.initializer_range };
        let build = Build::new(device).with_dtype(dtype).with_init(init);
        let activation = activation::parse(&config.activation)?;
        let hidden = config.hidden_size;
        if config.heads == 0 || !hidden.is_multiple_of(config.heads) {
            let heads = config.heads;
            return Err(Error::config(format!("hidden_size {hidden} is not a multiple of {heads} attention heads")));
        }
        let block = BlockConfig {
            hidden,
            heads: config.heads,
            intermediate: config.intermediate_size,
            activation,
            norm_eps: config.norm_eps,
            dropout: config.dropout,
            attention_dropout: config.attention_dropout,
            names: NAMES,
        };
        let embeddings = Embeddings {
            word: Embedding::new(config.vocab_size, hidden, Some(config.pad_id), &build)?,
            position: Embedding::new(config.max_positions, hidden, None, &build)?,
            token_type: Embedding::new(config.type_vocab_size, hidden, None, &build)?,
            norm: LayerNorm::new(hidden, true, config.norm_eps, &build)?,
            dropout: Dropout::new(config.dropout)?,
        };
        let blocks = (0..config.layers).map(|_| Block::new(&block, &build)).collect::<Result<_>>()?;
        let decoder = match config.tied {
            true => embeddings.word.weight.clone(),
            false => build.weight(&[config.vocab_size, hidden])?,
        };
        let head = Head {
            dense: Linear::new(hidden, hidden, true, &build)?,
            norm: LayerNorm::new(hidden, true, config.norm_eps, &build)?,
            bias: build.param(&[config.vocab_size], Init::Zeros)?,
            decoder,
        };
        Ok(BertForMaskedLm { config: config.clone(), activation, encoder: Encoder { embeddings, blocks }, head })
    }

    /// A model with the weights of a Hugging Face folder or file, in inference mode. Parts of a checkpoint that a masked
    /// language model does not have (the pooler, the next-sentence head, position ids) are passed over.
    ///
    /// # Errors
    /// If a file is missing or damaged, or a tensor is missing, unknown, or of another shape.
    pub fn load(folder: &Path, dtype: DType, device: &Device) -> Result<Self> {
        let model = Self::new(&BertConfig::read(folder)?, dtype, device)?;
        let weights = Weights::open(folder)?;
        let mut report = model.load_partial(&weights)?;
        report.surplus.retain(|name| !NOT_OURS.iter().any(|prefix| name.starts_with(prefix)));
        report.complete(&weights)?;
        model.train(false);
        Ok(model)
    }

    /// Gives the position embeddings other initial values.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn start_positions(&self, init: Init) -> Result<()> {
        let weight = &self.encoder.embeddings.position.weight;
        Ok(weight.set(&init.tensor(weight.shape(), weight.dtype(), weight.device())?)?)
    }

    /// The configuration.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// Hidden states `[batch, length, hidden]` after the embeddings and after each block.
    ///
    /// # Errors
    /// If shapes do not fit, the sequence is too long, or an id is outside the vocabulary.
    pub fn hidden_states(&self, input: BertInput) -> Result<Vec<Tensor>> {
        let mut states = vec![self.embed(input)?];
        let mask = input.mask()?;
        for block in &self.encoder.blocks {
            let x = block.forward(&states[states.len() - 1], mask.as_ref())?;
            states.push(x);
        }
        Ok(states)
    }

    /// Hidden states `[batch, length, hidden]` after the last block.
    ///
    /// # Errors
    /// As [`BertForMaskedLm::hidden_states`].
    pub fn encode(&self, input: BertInput) -> Result<Tensor> {
        let mask = input.mask()?;
        self.encoder.blocks.iter().try_fold(self.embed(input)?, |x, block| block.forward(&x, mask.as_ref()))
    }

    fn embed(&self, input: BertInput) -> Result<Tensor> {
        let &[_, length] = input.ids.shape() else {
            return Err(Error::argument("ids", format!("shape {:?}, expected [batch, length]", input.ids.shape())));
        };
        let most = self.config.max_positions;
        if length > most {
            return Err(Error::argument("ids", format!("{length} tokens, but the model has {most} positions")));
        }
        let Embeddings { word, position, token_type, norm, dropout } = &self.encoder.embeddings;
        let positions = position.weight.tensor().narrow(0, 0, length)?;
        let types = match input.types {
            Some(types) => token_type.forward(types)?,
            None => token_type.weight.tensor().narrow(0, 0, 1)?,
        };
        let sum = word.forward(input.ids)?.add(&positions)?.add(&types)?;
        Ok(dropout.forward(&norm.forward(&sum)?)?)
    }

    /// Logits over the vocabulary for hidden states `[.., hidden]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let transformed = self.head.dense.forward_then(hidden, &Epilogue::of(self.activation))?;
        let transformed = self.head.norm.forward(&transformed)?;
        Ok(transformed.linear(&self.head.decoder.tensor(), Some(&self.head.bias.tensor()))?)
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
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("bert", &self.encoder);
        v.module("cls.predictions", &self.head);
    }
}
