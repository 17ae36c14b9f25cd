//! LXMERT (Tan and Bansal, 2019, arXiv 1908.07490): BERT layers on words, BERT layers on regions of an image, and layers in which each side
//! attends to the other.

use std::path::Path;

use wgrad::nn::{Build, Dropout, Init, Module, Visitor, loss};
use wgrad::{Activation, Mask, Reduction, Tensor};

use super::config::Config;
use super::model::Task;
use super::{bert, files};
use crate::attention::{Attention, AttentionConfig, Pass, Project};
use crate::block::{Block, BlockConfig, Place, Residual};
use crate::feed_forward::{FeedForward, FeedForwardConfig, Inner};
use crate::front::embeddings::{Embeddings, EmbeddingsConfig, TextInput};
use crate::heads::{self, Head};
use crate::norm::{Norm, NormConfig};
use crate::weights::{Form, Linear};
use crate::{Error, Result};

const CROSS: Project = Project::Apart {
    query: "visual_attention.att.query",
    key: "visual_attention.att.key",
    value: "visual_attention.att.value",
};

/// Attention or feed-forward part, and its residual.
struct Part<T>(T, Residual);

impl<T: Module> Module for Part<T> {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("", &self.0);
        v.module("", &self.1);
    }
}

impl Part<Attention> {
    fn forward(&self, x: &Tensor, context: Option<&Tensor>, pass: &Pass) -> Result<Tensor> {
        self.1.around(x, None, |x, residual| self.0.forward(x, context, pass, None, residual))
    }
}

/// A layer in which words attend to regions and regions to words, by the same weights, and then each side to itself.
struct CrossLayer {
    cross: Part<Attention>,
    attend: [Part<Attention>; 2],
    feed: [Part<FeedForward>; 2],
}

impl CrossLayer {
    fn new(block: &BlockConfig, build: &Build) -> Result<Self> {
        let &BlockConfig { hidden, norm, dropout, .. } = block;
        let residual = |name| Residual::new(Place::post(name), norm, hidden, dropout, build);
        let attention = |project, output, name| {
            let config = AttentionConfig { project, output, ..block.attention };
            Ok::<_, Error>(Part(Attention::new(config, hidden, build)?, residual(name)?))
        };
        let feed = |up, down, name| {
            let config = FeedForwardConfig { inner: Inner::Plain { up, down }, ..block.feed_forward };
            Ok::<_, Error>(Part(FeedForward::new(config, hidden, build)?, residual(name)?))
        };
        let own = |query, key, value| Project::Apart { query, key, value };
        let words = own("lang_self_att.self.query", "lang_self_att.self.key", "lang_self_att.self.value");
        let regions = own("visn_self_att.self.query", "visn_self_att.self.key", "visn_self_att.self.value");
        Ok(CrossLayer {
            cross: attention(CROSS, "visual_attention.output.dense", "visual_attention.output.LayerNorm")?,
            attend: [
                attention(words, "lang_self_att.output.dense", "lang_self_att.output.LayerNorm")?,
                attention(regions, "visn_self_att.output.dense", "visn_self_att.output.LayerNorm")?,
            ],
            feed: [
                feed("lang_inter.dense", "lang_output.dense", "lang_output.LayerNorm")?,
                feed("visn_inter.dense", "visn_output.dense", "visn_output.LayerNorm")?,
            ],
        })
    }

    fn forward(&self, [words, regions]: [&Tensor; 2], [of_words, of_regions]: [&Pass; 2]) -> Result<[Tensor; 2]> {
        let crossed = [
            self.cross.forward(words, Some(regions), of_regions)?,
            self.cross.forward(regions, Some(words), of_words)?,
        ];
        let side = |side: usize, pass| {
            let x = self.attend[side].forward(&crossed[side], None, pass)?;
            let Part(feed, residual) = &self.feed[side];
            residual.around(&x, None, |x, residual| feed.forward(x, residual))
        };
        Ok([side(0, of_words)?, side(1, of_regions)?])
    }
}

impl Module for CrossLayer {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("", &self.cross);
        self.attend.iter().for_each(|part| v.module("", part));
        self.feed.iter().for_each(|part| v.module("", part));
    }
}

/// Features of regions and their boxes as vectors.
struct Regions {
    features: (Linear, Norm),
    boxes: (Linear, Norm),
    dropout: Dropout,
}

impl Module for Regions {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("visn_fc", &self.features.0);
        v.module("visn_layer_norm", &self.features.1);
        v.module("box_fc", &self.boxes.0);
        v.module("box_layer_norm", &self.boxes.1);
        v.module("dropout", &self.dropout);
    }
}

struct Trunk {
    embeddings: Embeddings,
    regions: Regions,
    words: Vec<Block>,
    images: Vec<Block>,
    cross: Vec<CrossLayer>,
    pooler: Linear,
}

impl Module for Trunk {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("", &self.embeddings);
        v.module("encoder.visn_fc", &self.regions);
        v.modules("encoder.layer", &self.words);
        v.modules("encoder.r_layers", &self.images);
        v.modules("encoder.x_layers", &self.cross);
        v.module("pooler.dense", &self.pooler);
    }
}

/// Answers to questions: `[batch, hidden]` to `[batch, answers]`.
struct Answers(Linear, Norm, Linear);

impl Module for Answers {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("0", &self.0);
        v.module("2", &self.1);
        v.module("3", &self.2);
    }
}

/// What is predicted of each region: its object, its attribute, its features.
const OBJECTS: [&str; 3] = ["obj", "attr", "feat"];

/// LXMERT with the heads of its pretraining.
pub struct Lxmert {
    config: Config,
    trunk: Trunk,
    words: Head,
    matching: Linear,
    regions: (Linear, Norm, Activation),
    of_regions: [Linear; 3],
    answers: Answers,
    factor: f64,
}

/// Words and regions that may belong together.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The words.
    pub text: TextInput<'a>,
    /// Features `[batch, regions, features]`.
    pub features: &'a Tensor,
    /// Boxes `[batch, regions, 4]`.
    pub boxes: &'a Tensor,
    /// True for real regions, `[batch, regions]`; None if all are.
    pub real: Option<&'a Tensor>,
}

/// What is to be predicted of a scene.
#[derive(Clone, Copy)]
pub struct SceneLabels<'a> {
    /// Hidden words, -100 elsewhere, `[batch, length]`.
    pub words: &'a Tensor,
    /// Whether the words describe the image, `[batch]`.
    pub matched: &'a Tensor,
    /// The answer to a question, `[batch]`.
    pub answer: &'a Tensor,
    /// Objects and attributes `[batch, regions]` and features `[batch, regions, features]`, each with weights `[batch, regions]`.
    pub regions: [(&'a Tensor, &'a Tensor); 3],
}

/// What LXMERT makes of a scene.
pub struct Understood {
    /// Outputs of the layers on words, the cross layers last.
    pub words: Vec<Tensor>,
    /// Outputs of the layers on regions, the cross layers last.
    pub regions: Vec<Tensor>,
    /// Logits of words `[batch, length, vocabulary]`.
    pub prediction: Tensor,
    /// Logits `[batch, 2]` of belonging together.
    pub matching: Tensor,
    /// Logits of answers `[batch, answers]`.
    pub answer: Tensor,
}

/// Numbers of layers on words, on regions, and on both.
fn sizes(c: &Config) -> Result<[usize; 3]> {
    Ok([c.size_or("l_layers", 9)?, c.size_or("r_layers", 5)?, c.size_or("x_layers", 5)?])
}

impl Lxmert {
    /// A model with new weights.
    ///
    /// # Errors
    /// If the configuration is incomplete or contradicts itself, or memory is exhausted.
    pub fn new(c: &Config, build: &Build) -> Result<Self> {
        let [of_words, of_images, of_both] = sizes(c)?;
        let build = &build.clone().with_init(Init::Normal { mean: 0.0, std: c.number_or("initializer_range", 0.02)? });
        // Numbers of layers stand in fields of their own; BERT's is a table here.
        let mut plain = c.json();
        plain["num_hidden_layers"] = 1.into();
        let text = bert::encoder(&Config::new(plain)?, Task::MaskedLm)?;
        let (hidden, block) = (text.hidden, text.stack.blocks[0]);
        let norm = |width| Norm::new(NormConfig::layer(1e-12), width, build);
        let linear = |inputs, outputs| Linear::new(inputs, outputs, true, Form::Rows, build);
        let blocks = |count: usize| (0..count).map(|_| Block::new(&block, build)).collect::<Result<Vec<_>>>();
        let features = c.size_or("visual_feat_dim", 2048)?;
        let embeddings =
            Embeddings::new(EmbeddingsConfig { padding: Some(0), first_fixed: true, ..text.embeddings }, build)?;
        let trunk = Trunk {
            regions: Regions {
                features: (linear(features, hidden)?, norm(hidden)?),
                boxes: (linear(c.size_or("visual_pos_dim", 4)?, hidden)?, norm(hidden)?),
                dropout: Dropout::new(block.dropout)?,
            },
            words: blocks(of_words)?,
            images: blocks(of_images)?,
            cross: (0..of_both).map(|_| CrossLayer::new(&block, build)).collect::<Result<_>>()?,
            pooler: linear(hidden, hidden)?,
            embeddings,
        };
        Ok(Lxmert {
            config: c.clone(),
            words: Head::new(text.head, hidden, trunk.embeddings.word(), build)?,
            matching: linear(hidden, 2)?,
            regions: (linear(hidden, hidden)?, norm(hidden)?, c.activation("hidden_act", "gelu")?),
            of_regions: [
                linear(hidden, c.size_or("num_object_labels", 1600)?)?,
                linear(hidden, c.size_or("num_attr_labels", 400)?)?,
                linear(hidden, features)?,
            ],
            answers: Answers(
                linear(hidden, 2 * hidden)?,
                norm(2 * hidden)?,
                linear(2 * hidden, c.size_or("num_qa_labels", 9500)?)?,
            ),
            factor: c.number_or("visual_loss_normalizer", 1.0 / 0.15)?,
            trunk,
        })
    }

    /// A model with the weights of a folder, in inference mode.
    ///
    /// # Errors
    /// If a file is missing or damaged, or a tensor is missing, unknown, or of another shape.
    pub fn load(c: &Config, folder: &Path, build: &Build) -> Result<Self> {
        let weights = files::open(folder, sizes(c)?.iter().sum())?;
        let model = Self::new(c, &build.clone().blank()?)?;
        files::fill(&model, &weights, &[])?;
        Ok(model)
    }

    /// The configuration as it was read.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// States and predictions of a scene.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, scene: &Scene) -> Result<Understood> {
        let Trunk { embeddings, regions, words, images, cross, pooler } = &self.trunk;
        let mask = match scene.real {
            Some(real) => Mask::dense(&real.unsqueeze(1)?.unsqueeze(1)?),
            None => Mask::all(),
        };
        let pass = |mask: &Mask| Pass::new(mask, 0, std::iter::empty());
        let (of_words, of_regions) = (pass(&scene.text.mask()?), pass(&mask));
        let mut x = embeddings.forward(&scene.text, 0)?;
        let project = |(layer, norm): &(Linear, Norm), x: &Tensor| norm.forward(&layer.forward(x)?);
        let both = project(&regions.features, scene.features)?.add(&project(&regions.boxes, scene.boxes)?)?;
        let mut y = regions.dropout.forward(&both.mul_scalar(0.5)?)?;
        let (mut word_states, mut region_states) = (Vec::new(), Vec::new());
        for block in words {
            x = block.forward(&x, None, &of_words, None, None)?;
            word_states.push(x.clone());
        }
        for block in images {
            y = block.forward(&y, None, &of_regions, None, None)?;
            region_states.push(y.clone());
        }
        for layer in cross {
            [x, y] = layer.forward([&x, &y], [&of_words, &of_regions])?;
            word_states.push(x.clone());
            region_states.push(y.clone());
        }
        let pooled = pooler.forward_then(&x.select(1, 0)?, Some(Activation::Tanh), None)?;
        let Answers(up, norm, down) = &self.answers;
        let inside = norm.forward(&up.forward_then(&pooled, Some(Activation::Gelu), None)?)?;
        Ok(Understood {
            words: word_states,
            regions: region_states,
            prediction: self.words.forward(&x)?,
            matching: self.matching.forward(&pooled)?,
            answer: down.forward(&inside)?,
        })
    }

    /// The sum of the losses of pretraining.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn loss(&self, seen: &Understood, labels: &SceneLabels) -> Result<Tensor> {
        let mut sum = heads::cross_entropy(&seen.prediction, labels.words)?
            .add(&heads::cross_entropy(&seen.matching, labels.matched)?)?
            .add(&heads::cross_entropy(&seen.answer, labels.answer)?)?;
        let Some(regions) = seen.regions.last() else { return Ok(sum) };
        let (dense, norm, activation) = &self.regions;
        let transformed = norm.forward(&dense.forward_then(regions, Some(*activation), None)?)?;
        for (number, (head, (label, weight))) in self.of_regions.iter().zip(labels.regions).enumerate() {
            let outputs = head.forward(&transformed)?;
            let losses = if OBJECTS[number] == "feat" {
                loss::smooth_l1(&outputs, label, 1.0, Reduction::None)?.mean(&[-1], false)?
            } else {
                heads::cross_entropies(&outputs, label)?
            };
            sum = sum.add(&losses.mul(weight)?.mean_all()?.mul_scalar(self.factor)?)?;
        }
        Ok(sum)
    }
}

impl Module for Lxmert {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("lxmert", &self.trunk);
        v.module("", &self.words);
        v.module("cls.seq_relationship", &self.matching);
        v.module("obj_predict_head.transform.dense", &self.regions.0);
        v.module("obj_predict_head.transform.LayerNorm", &self.regions.1);
        for (name, layer) in OBJECTS.iter().zip(&self.of_regions) {
            v.module(&format!("obj_predict_head.decoder_dict.{name}"), layer);
        }
        v.module("answer_head.logit_fc", &self.answers);
    }
}
