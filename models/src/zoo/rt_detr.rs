//! RT-DETRv2 (Lv et al., 2024, arXiv 2407.17140; Zhao et al., DETRs beat YOLOs on real-time object detection, 2023, arXiv 2304.08069): objects in
//! images. A residual network makes maps of three sizes, an encoder mixes them, and a decoder refines the boxes of its best places.

mod encoder;

use std::path::Path;

use wgrad::Tensor;
use wgrad::nn::{Build, Embedding, Init, Module, Visitor};

use super::config::Config;
use super::files;
use crate::activation::Activation;
use crate::attention::{Attention, AttentionConfig, Deformable, DeformableConfig, Pass, Project};
use crate::block::{Place, Residual};
use crate::boxes::{DetectionLoss, MatchConfig, Objects, detection_loss};
use crate::feed_forward::{Between, FeedForward, FeedForwardConfig, Inner};
use crate::front::resnet::{ConvNorm, ConvNormConfig, ResNet, ResNetConfig};
use crate::norm::{Norm, NormConfig};
use crate::weights::{Form, Linear};
use crate::{Error, Result};
use encoder::Encoder;

pub(super) const PROJECT: Project =
    Project::Apart { query: "self_attn.q_proj", key: "self_attn.k_proj", value: "self_attn.v_proj" };
/// Names that stand twice in files, and a table that follows from the configuration.
const UNUSED: [&str; 3] = ["class_embed.", "bbox_embed.", "n_points_scale"];

/// Layers on each other with relu between them.
struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    fn new(widths: &[usize], build: &Build) -> Result<Self> {
        let layer = |pair: &[usize]| Linear::new(pair[0], pair[1], true, Form::Rows, build);
        Ok(Mlp { layers: widths.windows(2).map(layer).collect::<Result<_>>()? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let last = self.layers.len().saturating_sub(1);
        let apply = |x: Tensor, (i, layer): (usize, &Linear)| {
            layer.forward_then(&x, (i < last).then_some(Activation::Relu), None)
        };
        self.layers.iter().enumerate().try_fold(x.clone(), apply)
    }
}

impl Module for Mlp {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.modules("layers", &self.layers);
    }
}

/// A layer of the decoder: attention among queries, to the maps, and a feed-forward part.
struct DecoderLayer {
    attention: (Attention, Residual),
    cross: (Deformable, Residual),
    feed_forward: (FeedForward, Residual),
}

impl DecoderLayer {
    fn forward(
        &self,
        x: &Tensor,
        positions: &Tensor,
        memory: &Tensor,
        sizes: &[[usize; 2]],
        boxes: &Tensor,
    ) -> Result<Tensor> {
        let pass = Pass::among(positions.clone());
        let (attention, residual) = &self.attention;
        let x = residual.around(x, None, |x, residual| attention.forward(x, None, &pass, None, residual))?;
        let (cross, residual) = &self.cross;
        let x = residual.join(&x, &cross.forward(&x.add(positions)?, memory, sizes, boxes)?, None)?;
        let (feed_forward, residual) = &self.feed_forward;
        residual.around(&x, None, |x, residual| feed_forward.forward(x, residual))
    }
}

impl Module for DecoderLayer {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("", &self.attention.0);
        v.module("", &self.attention.1);
        v.module("encoder_attn", &self.cross.0);
        v.module("", &self.cross.1);
        v.module("", &self.feed_forward.0);
        v.module("", &self.feed_forward.1);
    }
}

/// A detector of objects.
pub struct RtDetr {
    config: Config,
    objective: MatchConfig,
    queries: usize,
    backbone: ResNet,
    encoder: Encoder,
    /// From the encoder's maps to the decoder's memory.
    inputs: Vec<ConvNorm>,
    /// Classes of noised objects, which training with noise reads.
    noise: Option<Embedding>,
    states: (Linear, Norm),
    score: Linear,
    box_of_place: Mlp,
    positions: Mlp,
    layers: Vec<DecoderLayer>,
    classes: Vec<Linear>,
    boxes: Vec<Mlp>,
}

/// One set of predictions.
#[derive(Clone)]
pub struct Detected {
    /// `[batch, queries, classes]`.
    pub logits: Tensor,
    /// (Middle x, middle y, width, height) in parts of the image, `[batch, queries, 4]`.
    pub boxes: Tensor,
}

/// What a detector makes of images.
pub struct Detections {
    /// What the layers of the decoder say, the last one last.
    pub layers: Vec<Detected>,
    /// States of the queries before the first layer and after each, `[batch, queries, hidden]`.
    pub states: Vec<Tensor>,
    /// What is said of each place of the maps, boxes as logits, `[batch, places, ..]`.
    pub places: Detected,
    /// Of the places that became queries.
    pub chosen: Detected,
    /// Their boxes as logits, which the decoder starts from.
    pub start: Tensor,
    /// Maps of the encoder.
    pub maps: Vec<Tensor>,
    /// Maps of the backbone before and after attention, where there is any.
    pub attended: Vec<Tensor>,
}

impl RtDetr {
    /// A model with new weights.
    ///
    /// # Errors
    /// If the configuration is incomplete or contradicts itself, or memory is exhausted.
    pub fn new(c: &Config, build: &Build) -> Result<Self> {
        let build = &build.clone().with_init(Init::Normal { mean: 0.0, std: c.number_or("initializer_range", 0.01)? });
        if c.flag_or("learn_initial_query", false)? {
            return Err(c.error("learn_initial_query is not supported"));
        }
        let labels = c.json().get("id2label").and_then(|labels| labels.as_object().map(serde_json::Map::len));
        let classes = c.size_or("num_labels", labels.unwrap_or(80))?;
        let (width, inside) = (c.size_or("d_model", 256)?, c.size_or("encoder_hidden_dim", 256)?);
        let norm = NormConfig::layer(c.eps("layer_norm_eps", 1e-5)?);
        let project = |channels: &usize| {
            let conv = ConvNormConfig { names: ["0", "1"], ..conv_norm(c, *channels, width, 1, 1, None)? };
            ConvNorm::new(conv, build)
        };
        let inputs = or_default(c.sizes("decoder_in_channels")?, [inside; 3]);
        if c.size_or("num_feature_levels", 3)? != inputs.len() {
            return Err(c.error("num_feature_levels other than the number of decoder_in_channels is not supported"));
        }
        let count = c.layers("decoder_layers")?;
        let linear = |outputs| Linear::new(width, outputs, true, Form::Rows, build);
        let noise = match c.size_or("num_denoising", 100)? {
            0 => None,
            _ => Some(Embedding::new(classes + 1, width, Some(classes), build)?),
        };
        Ok(RtDetr {
            config: c.clone(),
            objective: objective(c)?,
            queries: c.size_or("num_queries", 300)?,
            backbone: ResNet::new(backbone(c)?, build)?,
            encoder: Encoder::new(c, build)?,
            inputs: inputs.iter().map(project).collect::<Result<_>>()?,
            noise,
            states: (linear(width)?, Norm::new(norm, width, build)?),
            score: linear(classes)?,
            box_of_place: Mlp::new(&[width, width, width, 4], build)?,
            positions: Mlp::new(&[4, 2 * width, width], build)?,
            layers: (0..count).map(|_| decoder_layer(c, width, inputs.len(), norm, build)).collect::<Result<_>>()?,
            classes: (0..count).map(|_| linear(classes)).collect::<Result<_>>()?,
            boxes: (0..count).map(|_| Mlp::new(&[width, width, width, 4], build)).collect::<Result<_>>()?,
        })
    }

    /// A model with the weights of a folder, in inference mode.
    ///
    /// # Errors
    /// If a file is missing or damaged, or a tensor is missing, unknown, or of another shape.
    pub fn load(c: &Config, folder: &Path, build: &Build) -> Result<Self> {
        let weights = files::open(folder, c.layers("decoder_layers")?)?;
        let model = Self::new(c, &build.clone().blank()?)?;
        files::fill(&model, &weights, &UNUSED)?;
        Ok(model)
    }

    /// The configuration as it was read.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Objects in images `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// If shapes do not fit, or the images have fewer places than there are queries.
    pub fn detect(&self, images: &Tensor) -> Result<Detections> {
        let (maps, attended) = self.encoder.forward(self.backbone.forward(images)?)?;
        let (mut rows, mut sizes) = (Vec::new(), Vec::new());
        for (map, project) in maps.iter().zip(&self.inputs) {
            let map = project.forward(map)?;
            sizes.push([map.size(2)?, map.size(3)?]);
            rows.push(map.flatten(2, 3)?.transpose(1, 2)?);
        }
        let memory = Tensor::concat(&rows.iter().collect::<Vec<_>>(), 1)?;
        let (anchors, valid) = anchors(&sizes, &memory)?;
        if memory.size(1)? < self.queries {
            let message = format!("{} places for {} queries", memory.size(1)?, self.queries);
            return Err(Error::argument("images", message));
        }
        let states = self.states.1.forward(&self.states.0.forward(&memory.mul(&valid)?)?)?;
        let places = Detected {
            logits: self.score.forward(&states)?,
            boxes: self.box_of_place.forward(&states)?.add(&anchors)?,
        };
        let (_, best) = places.logits.detach().max(&[-1], false)?.topk(self.queries, 1, true)?;
        let rows_of = |x: &Tensor| {
            let shape = [x.size(0)?, self.queries, x.size(2)?];
            x.gather(1, &best.unsqueeze(-1)?.expand(&shape)?)
        };
        let start = rows_of(&places.boxes)?;
        let chosen = Detected { logits: rows_of(&places.logits)?, boxes: start.sigmoid()? };

        let mut x = rows_of(&states)?.detach();
        let mut boxes = start.detach().sigmoid()?;
        let (mut layers, mut all) = (Vec::new(), vec![x.clone()]);
        for ((layer, class), refine) in self.layers.iter().zip(&self.classes).zip(&self.boxes) {
            let positions = self.positions.forward(&boxes)?;
            x = layer.forward(&x, &positions, &memory, &sizes, &boxes)?;
            let refined = refine.forward(&x)?.add(&logit(&boxes)?)?.sigmoid()?;
            boxes = refined.detach();
            layers.push(Detected { logits: class.forward(&x)?, boxes: refined });
            all.push(x.clone());
        }
        Ok(Detections { layers, states: all, places, chosen, start, maps, attended })
    }

    /// The losses of what each layer says, the last one first, and then of the chosen places, against the objects of each image. Training
    /// with noised objects is not among them.
    ///
    /// # Errors
    /// If shapes do not fit, a class is out of range, or an image has more objects than queries.
    pub fn losses(&self, detections: &Detections, objects: &[Objects]) -> Result<Vec<DetectionLoss>> {
        let (last, before) = detections.layers.split_last().ok_or_else(|| self.config.error("there are no layers"))?;
        let sets = std::iter::once(last).chain(before).chain([&detections.chosen]);
        sets.map(|set| detection_loss(&self.objective, &set.logits, &set.boxes, objects)).collect()
    }
}

impl Module for RtDetr {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("model.backbone.model", &self.backbone);
        v.module("model", &self.encoder);
        v.modules("model.decoder_input_proj", &self.inputs);
        if let Some(noise) = &self.noise {
            v.module("model.denoising_class_embed", noise);
        }
        v.module("model.enc_output.0", &self.states.0);
        v.module("model.enc_output.1", &self.states.1);
        v.module("model.enc_score_head", &self.score);
        v.module("model.enc_bbox_head", &self.box_of_place);
        v.module("model.decoder.query_pos_head", &self.positions);
        v.modules("model.decoder.layers", &self.layers);
        v.modules("model.decoder.class_embed", &self.classes);
        v.modules("model.decoder.bbox_embed", &self.boxes);
    }
}

/// Logits of numbers in [0, 1], which are kept from both ends.
fn logit(x: &Tensor) -> Result<Tensor> {
    let odds = x.clamp(Some(1e-5), None)?.div(&x.affine(-1.0, 1.0)?.clamp(Some(1e-5), None)?)?;
    Ok(odds.log()?)
}

/// A box around each place of the maps, as logits `[1, places, 4]`, and 1 where it is not too near to the edge, `[1, places, 1]`.
fn anchors(sizes: &[[usize; 2]], like: &Tensor) -> Result<(Tensor, Tensor)> {
    let (mut boxes, mut valid) = (Vec::new(), Vec::new());
    for (level, &[height, width]) in sizes.iter().enumerate() {
        let side = 0.05 * 2f64.powi(level as i32);
        for at in 0..height * width {
            let middle = [(at % width) as f64 + 0.5, (at / width) as f64 + 0.5];
            let place = [middle[0] / width as f64, middle[1] / height as f64, side, side];
            let inside = place.iter().all(|&v| v > 0.01 && v < 0.99);
            boxes.extend(place.map(|v| if inside { (v / (1.0 - v)).ln() as f32 } else { f32::MAX }));
            valid.push(if inside { 1f32 } else { 0.0 });
        }
    }
    let count = valid.len();
    let tensor =
        |values: Vec<f32>, last| Tensor::from_vec(values, &[1, count, last], like.device())?.cast(like.dtype());
    Ok((tensor(boxes, 4)?, tensor(valid, 1)?))
}

/// A convolution and its norm, with names that most have.
pub(super) fn conv_norm(
    c: &Config,
    channels: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    activation: Option<Activation>,
) -> Result<ConvNormConfig> {
    let eps = c.eps("batch_norm_eps", 1e-5)?;
    Ok(ConvNormConfig { names: ["conv", "norm"], channels, outputs, kernel, stride, eps, frozen: false, activation })
}

pub(super) fn or_default(sizes: Vec<usize>, default: [usize; 3]) -> Vec<usize> {
    if sizes.is_empty() { Vec::from(default) } else { sizes }
}

pub(super) fn feed_forward(width: usize, activation: Activation, dropout: f64) -> FeedForwardConfig {
    let inner = Inner::Plain { up: "fc1", down: "fc2" };
    FeedForwardConfig {
        width,
        activation,
        inner,
        bias: [true; 2],
        form: Form::Rows,
        between: Between::default(),
        dropout,
    }
}

fn decoder_layer(c: &Config, width: usize, levels: usize, norm: NormConfig, build: &Build) -> Result<DecoderLayer> {
    let heads = c.size_or("decoder_attention_heads", 8)?;
    let dropout = c.number_or("dropout", 0.0)?;
    let attention = AttentionConfig {
        dropout: c.number_or("attention_dropout", 0.0)?,
        ..AttentionConfig::new(heads, c.head_dim(width, heads)?, PROJECT, "self_attn.out_proj")
    };
    let discrete = match c.text_or("decoder_method", "default")?.as_str() {
        "default" => false,
        "discrete" => true,
        other => return Err(c.error(format!("decoder_method {other:?} is neither default nor discrete"))),
    };
    let points = c.size_or("decoder_n_points", 4)?;
    let scale = c.number_or("decoder_offset_scale", 0.5)?;
    let inner = c.activation("decoder_activation_function", "relu")?;
    let feed = feed_forward(c.size_or("decoder_ffn_dim", 1024)?, inner, c.number_or("activation_dropout", 0.0)?);
    let residual = |name| Residual::new(Place::post(name), norm, width, dropout, build);
    let cross = DeformableConfig { heads, levels, points, scale, discrete };
    Ok(DecoderLayer {
        attention: (Attention::new(attention, width, build)?, residual("self_attn_layer_norm")?),
        cross: (Deformable::new(cross, width, build)?, residual("encoder_attn_layer_norm")?),
        feed_forward: (FeedForward::new(feed, width, build)?, residual("final_layer_norm")?),
    })
}

fn objective(c: &Config) -> Result<MatchConfig> {
    let number = |name, default| c.number_or(name, default);
    let focal = [number("matcher_alpha", 0.25)?, number("matcher_gamma", 2.0)?];
    Ok(MatchConfig {
        costs: [
            number("matcher_class_cost", 2.0)?,
            number("matcher_bbox_cost", 5.0)?,
            number("matcher_giou_cost", 2.0)?,
        ],
        focal: c.flag_or("use_focal_loss", true)?.then_some(focal),
        weights: [number("weight_loss_vfl", 1.0)?, number("weight_loss_bbox", 5.0)?, number("weight_loss_giou", 2.0)?],
        varifocal: [number("focal_loss_alpha", 0.75)?, number("focal_loss_gamma", 2.0)?],
    })
}

fn backbone(c: &Config) -> Result<ResNetConfig> {
    let inner = c.inner("backbone_config")?.ok_or_else(|| c.error("backbone_config is missing"))?;
    let (widths, depths) = (inner.sizes("hidden_sizes")?, inner.sizes("depths")?);
    if widths.is_empty() || widths.len() != depths.len() {
        return Err(inner.error("hidden_sizes and depths are not lists of one length"));
    }
    let bottleneck = match inner.text_or("layer_type", "bottleneck")?.as_str() {
        "bottleneck" => true,
        "basic" => false,
        other => return Err(inner.error(format!("layer_type {other:?} is neither bottleneck nor basic"))),
    };
    // Stage 0 of the list is the stem.
    let wanted = or_default(inner.sizes("out_indices")?, [2, 3, 4]);
    Ok(ResNetConfig {
        channels: inner.size_or("num_channels", 3)?,
        stem: inner.size_or("embedding_size", 64)?,
        stages: widths.into_iter().zip(depths).map(|(width, depth)| [width, depth]).collect(),
        bottleneck,
        halves_first: inner.flag_or("downsample_in_first_stage", false)?,
        halves_early: inner.flag_or("downsample_in_bottleneck", false)?,
        wanted: wanted.into_iter().map(|stage| stage.saturating_sub(1)).collect(),
        frozen: c.flag_or("freeze_backbone_batch_norms", true)?,
        activation: inner.activation("hidden_act", "relu")?,
    })
}
