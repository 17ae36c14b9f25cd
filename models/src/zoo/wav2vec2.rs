//! Conformers of speech that write what they hear: wav2vec2-Conformer (Wang et al., fairseq S2T, 2020; relative or rotary positions), which hears
//! waves, and Wav2Vec2-BERT (Barrault et al., Seamless, 2023), which hears filter banks and whose convolutions are causal.

use std::path::Path;

use wgrad::nn::{Build, Dropout, Init, Module, Param, Visitor};
use wgrad::{CtcLoss, DType, Mask, Reduction, Tensor};

use super::config::Config;
use super::files;
use crate::attention::{
    AttentionConfig, DistancesConfig, Pairs, Pass, Project, RelativeConfig, Rotary, Scores, Stretch, sinusoids,
};
use crate::conformer::{Conformer, ConformerConfig, ConvolutionConfig};
use crate::feed_forward::{Between, FeedForwardConfig, Inner};
use crate::front::wave::{Wave, WaveConfig};
use crate::norm::{Norm, NormConfig};
use crate::weights::{Form, Linear};
use crate::{Error, Result};

const PROJECT: Project =
    Project::Apart { query: "self_attn.linear_q", key: "self_attn.linear_k", value: "self_attn.linear_v" };
/// A convolution of positions that checkpoints of conformers hold and no one uses.
const UNUSED: [&str; 2] = ["pos_conv_embed", "embed_positions"];

/// How attention knows positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Positions {
    Nothing,
    Relative,
    Rotary,
    Distances,
}

/// Everything but the head.
struct Trunk {
    /// Absent where filter banks come in.
    wave: Option<Wave>,
    norm: Norm,
    project: Linear,
    /// What stands where a frame is hidden, `[hidden]`.
    hidden: Param,
    dropout: Dropout,
    blocks: Vec<Conformer>,
    last: Option<Norm>,
}

impl Module for Trunk {
    fn visit(&self, v: &mut Visitor<'_>) {
        if let Some(wave) = &self.wave {
            v.module("feature_extractor", wave);
        }
        v.module("feature_projection.layer_norm", &self.norm);
        v.module("feature_projection.projection", &self.project);
        v.param("masked_spec_embed", &self.hidden);
        v.module("", &self.dropout);
        v.modules("encoder.layers", &self.blocks);
        if let Some(last) = &self.last {
            v.module("encoder.layer_norm", last);
        }
    }
}

/// What a model hears.
#[derive(Clone, Copy)]
pub struct Sound<'a> {
    /// Waves `[batch, samples]`, or filter banks `[batch, frames, features]`.
    pub values: &'a Tensor,
    /// How many samples or frames of each are real; all if absent.
    pub lengths: Option<&'a [usize]>,
    /// True for frames to be hidden, `[batch, frames]`.
    pub masked: Option<&'a Tensor>,
}

/// A conformer of speech.
pub struct Speech {
    config: Config,
    prefix: String,
    positions: Positions,
    trunk: Trunk,
    head: Linear,
    loss: CtcLoss,
}

impl Speech {
    /// A model with new weights.
    ///
    /// # Errors
    /// If the configuration is incomplete or contradicts itself, or memory is exhausted.
    pub fn new(c: &Config, build: &Build) -> Result<Self> {
        Self::build(c, prefix(c)?, build)
    }

    /// A model with the weights of a folder, in inference mode.
    ///
    /// # Errors
    /// If a file is missing or damaged, or a tensor is missing, unknown, or of another shape.
    pub fn load(c: &Config, folder: &Path, build: &Build) -> Result<Self> {
        let weights = files::open(folder, c.layers("num_hidden_layers")?)?;
        let model = Self::build(c, files::prefix(&weights, &prefix(c)?), &build.clone().blank()?)?;
        files::fill(&model, &weights, &UNUSED)?;
        Ok(model)
    }

    fn build(c: &Config, prefix: String, build: &Build) -> Result<Self> {
        let causal = is_bert(c)?;
        if c.flag_or("add_adapter", false)? || c.flag_or("use_intermediate_ffn_before_adapter", false)? {
            return Err(c.error("an adapter is not supported"));
        }
        let build = build.clone().with_init(Init::Normal { mean: 0.0, std: c.number_or("initializer_range", 0.02)? });
        let (hidden, vocab) = (c.size("hidden_size")?, c.size("vocab_size")?);
        let norm = NormConfig::layer(c.eps("layer_norm_eps", 1e-5)?);
        let wave = if causal { None } else { Some(Wave::new(wave(c)?, &build)?) };
        let inputs = match causal {
            true => c.size("feature_projection_input_dim")?,
            false => c.sizes("conv_dim")?.last().copied().unwrap_or(1),
        };
        let positions = positions(c)?;
        let block = block(c, positions, causal, norm)?;
        let blocks = (0..c.layers("num_hidden_layers")?).map(|_| Conformer::new(&block, &build));
        let trunk = Trunk {
            wave,
            norm: Norm::new(norm, inputs, &build)?,
            project: Linear::new(inputs, hidden, true, Form::Rows, &build)?,
            hidden: build.weight(&[hidden])?,
            dropout: Dropout::new(c.number_or("feat_proj_dropout", 0.0)?)?,
            blocks: blocks.collect::<Result<_>>()?,
            last: if causal { None } else { Some(Norm::new(norm, hidden, &build)?) },
        };
        let reduction = match c.text_or("ctc_loss_reduction", "sum")?.as_str() {
            "mean" => Reduction::Mean,
            "sum" => Reduction::Sum,
            other => return Err(c.error(format!("ctc_loss_reduction {other:?} is neither mean nor sum"))),
        };
        let zero_infinity = c.flag_or("ctc_zero_infinity", false)?;
        let loss = CtcLoss { blank: c.size_or("pad_token_id", 0)?, reduction, zero_infinity };
        let head = Linear::new(hidden, vocab, true, Form::Rows, &build)?;
        Ok(Speech { config: c.clone(), prefix, positions, trunk, head, loss })
    }

    /// The configuration as it was read.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Frames that so many samples or filter banks give.
    pub fn frames(&self, length: usize) -> usize {
        self.trunk.wave.as_ref().map_or(length, |wave| wave.frames(length))
    }

    /// States `[batch, frames, hidden]`. What goes into the blocks and comes out of each is put into `states` if they are wanted.
    ///
    /// # Errors
    /// If shapes do not fit, or the sound is too short.
    pub fn encode(&self, sound: &Sound, mut states: Option<&mut Vec<Tensor>>) -> Result<Tensor> {
        let Trunk { wave, norm, project, hidden, dropout, blocks, last } = &self.trunk;
        let x = match wave {
            Some(wave) => wave.forward(sound.values)?,
            None => sound.values.clone(),
        };
        let mut x = dropout.forward(&project.forward(&norm.forward(&x)?)?)?;
        if let Some(masked) = sound.masked {
            x = Tensor::where_cond(&masked.unsqueeze(-1)?, &hidden.tensor(), &x)?;
        }
        let (batch, length) = (x.size(0)?, x.size(1)?);
        let mut pass = Pass::default();
        if let Some(lengths) = sound.lengths {
            if lengths.len() != batch {
                return Err(Error::argument("lengths", format!("{} of them for a batch of {batch}", lengths.len())));
            }
            let lengths: Vec<usize> = lengths.iter().map(|&n| self.frames(n).min(length)).collect();
            let real: Vec<bool> = lengths.iter().flat_map(|&n| (0..length).map(move |at| at < n)).collect();
            let real = Tensor::from_vec(real, &[batch, length], x.device())?;
            x = x.masked_fill(&real.logical_not()?.unsqueeze(-1)?, 0.0)?;
            pass = Pass::new(&Mask::key_lengths(&lengths), 0, std::iter::empty());
            pass.real = Some(real);
        }
        let places = Tensor::arange(0, length as i64, DType::I32, x.device())?;
        match self.positions {
            Positions::Rotary => pass.positions = Some(places.unsqueeze(0)?.expand(&[batch, length])?),
            Positions::Relative => pass.pairs = Some(pairs(&places, &x)?),
            Positions::Nothing | Positions::Distances => {}
        }
        for block in blocks {
            let next = block.forward(&x, &pass)?;
            if let Some(states) = states.as_deref_mut() {
                states.push(x);
            }
            x = next;
        }
        if let Some(states) = states {
            states.push(x.clone());
        }
        match last {
            Some(last) => last.forward(&x),
            None => Ok(x),
        }
    }

    /// Logits `[batch, frames, vocabulary]` of states.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn logits(&self, states: &Tensor) -> Result<Tensor> {
        self.head.forward(states)
    }

    /// The loss of connectionist temporal classification of logits against labels `[batch, most]` (i32), whose negative ones are padding.
    /// `lengths` are those of the sound.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn loss(&self, logits: &Tensor, labels: &Tensor, lengths: Option<&[usize]>) -> Result<Tensor> {
        let (batch, length) = (logits.size(0)?, logits.size(1)?);
        let most = labels.size(-1)?;
        let values = labels.cast(DType::I32)?.to_vec::<i32>()?;
        let rows = values.chunks(most.max(1));
        let counts: Vec<usize> = rows.map(|row| row.iter().filter(|&&label| label >= 0).count()).collect();
        let frames = match lengths {
            Some(lengths) => lengths.iter().map(|&n| self.frames(n).min(length)).collect(),
            None => vec![length; batch],
        };
        let log_probs = logits.log_softmax(-1)?.transpose(0, 1)?;
        Ok(log_probs.ctc_loss(labels, &frames, &counts, &self.loss)?)
    }
}

impl Module for Speech {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module(&self.prefix, &self.trunk);
        v.module("lm_head", &self.head);
    }
}

fn is_bert(c: &Config) -> Result<bool> {
    Ok(c.text_or("model_type", "wav2vec2-conformer")? == "wav2vec2-bert")
}

fn prefix(c: &Config) -> Result<String> {
    Ok(if is_bert(c)? { "wav2vec2_bert" } else { "wav2vec2_conformer" }.into())
}

fn wave(c: &Config) -> Result<WaveConfig> {
    let (outputs, kernels, strides) = (c.sizes("conv_dim")?, c.sizes("conv_kernel")?, c.sizes("conv_stride")?);
    if outputs.is_empty() || kernels.len() != outputs.len() || strides.len() != outputs.len() {
        return Err(c.error("conv_dim, conv_kernel and conv_stride are not lists of one length"));
    }
    let layers =
        outputs.iter().zip(&kernels).zip(&strides).map(|((&outputs, &kernel), &stride)| [outputs, kernel, stride]);
    let layer_norm = match c.text_or("feat_extract_norm", "group")?.as_str() {
        "layer" => true,
        "group" => false,
        other => return Err(c.error(format!("feat_extract_norm {other:?} is neither layer nor group"))),
    };
    Ok(WaveConfig {
        layers: layers.collect(),
        bias: c.flag_or("conv_bias", false)?,
        layer_norm,
        activation: c.activation("feat_extract_activation", "gelu")?,
    })
}

fn positions(c: &Config) -> Result<Positions> {
    if c.json().get("position_embeddings_type").is_some_and(serde_json::Value::is_null) {
        return Ok(Positions::Nothing);
    }
    let default = if is_bert(c)? { "relative_key" } else { "relative" };
    match c.text_or("position_embeddings_type", default)?.as_str() {
        "relative" => Ok(Positions::Relative),
        "rotary" => Ok(Positions::Rotary),
        "relative_key" if is_bert(c)? => Ok(Positions::Distances),
        other => Err(c.error(format!("position_embeddings_type {other:?} is not supported"))),
    }
}

fn block(c: &Config, positions: Positions, causal: bool, norm: NormConfig) -> Result<ConformerConfig> {
    let (hidden, heads) = (c.size("hidden_size")?, c.size("num_attention_heads")?);
    let head_dim = c.head_dim(hidden, heads)?;
    let theta = c.number_or("rotary_embedding_base", 10_000.0)?;
    let activation = c.activation("hidden_act", if causal { "swish" } else { "gelu" })?;
    let feed_forward = |up, down| {
        Ok::<_, Error>(FeedForwardConfig {
            width: c.size("intermediate_size")?,
            activation,
            inner: Inner::Plain { up, down },
            bias: [true; 2],
            form: Form::Rows,
            between: Between::default(),
            dropout: c.number_or("activation_dropout", 0.1)?,
        })
    };
    let scores = match positions {
        Positions::Relative => Scores::Relative(RelativeConfig {
            project: "self_attn.linear_pos",
            form: Form::Rows,
            added: ["self_attn.pos_bias_u", "self_attn.pos_bias_v"],
            segments: None,
        }),
        Positions::Distances => Scores::Distances(DistancesConfig {
            name: "self_attn.distance_embedding",
            left: c.size_or("left_max_position_embeddings", 64)?,
            right: c.size_or("right_max_position_embeddings", 8)?,
        }),
        Positions::Nothing | Positions::Rotary => Scores::Plain,
    };
    let rotary = Rotary { theta, dim: head_dim, interleaved: false, stretch: Stretch::None };
    let dropout = c.number_or("hidden_dropout", 0.1)?;
    Ok(ConformerConfig {
        hidden,
        norm,
        feed_forward: [
            feed_forward("ffn1.intermediate_dense", "ffn1.output_dense")?,
            feed_forward("ffn2.intermediate_dense", "ffn2.output_dense")?,
        ],
        attention: AttentionConfig {
            rotary: (positions == Positions::Rotary).then_some(rotary),
            turns_input: true,
            scores,
            dropout: c.number_or("attention_dropout", 0.1)?,
            ..AttentionConfig::new(heads, head_dim, PROJECT, "self_attn.linear_out")
        },
        convolution: ConvolutionConfig {
            kernel: c.size_or("conv_depthwise_kernel_size", 31)?,
            causal,
            activation,
            norm: if causal { norm } else { NormConfig::layer(1e-5) },
            dropout: c.number_or("conformer_conv_dropout", 0.1)?,
        },
        dropout,
    })
}

/// Sinusoids of the distances from queries to keys, sines and cosines in turn, and the row of each pair.
fn pairs(places: &Tensor, like: &Tensor) -> Result<Pairs> {
    let (length, width) = (places.elements(), like.size(-1)?);
    let last = length as f64 - 1.0;
    let table = sinusoids((0..(2 * length).saturating_sub(1)).map(|row| last - row as f64), width, like)?;
    let halves = [table.size(0)? as isize, 2, -1];
    let table = table.reshape(&halves)?.transpose(1, 2)?.flatten(1, 2)?;
    let rows = places.unsqueeze(0)?.sub(&places.unsqueeze(1)?)?.add_scalar(last)?;
    Ok(Pairs { table, places: rows.reshape(&[1, 1, length as isize, length as isize])?, segments: None, factor: None })
}
