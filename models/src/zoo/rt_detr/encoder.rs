//! The hybrid encoder of RT-DETR: attention within the smallest map, and convolutions that mix the maps down and up again.

use wgrad::nn::{Build, Module, Visitor};
use wgrad::{Interpolation, Tensor};

use super::{PROJECT, conv_norm, feed_forward, or_default};
use crate::activation::Activation;
use crate::attention::{AttentionConfig, Pass};
use crate::block::{BlockConfig, Place, Wiring};
use crate::front::resnet::{ConvNorm, ConvNormConfig};
use crate::norm::NormConfig;
use crate::stack::{Stack, StackConfig};
use crate::zoo::config::Config;
use crate::{Error, Result};

/// Two convolutions side by side (Ding et al., RepVGG, 2021, arXiv 2101.03697).
struct Rep {
    convs: [ConvNorm; 2],
    activation: Activation,
}

impl Module for Rep {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("conv1", &self.convs[0]);
        v.module("conv2", &self.convs[1]);
    }
}

/// Two paths through half of the channels, one of them deep (Wang et al., CSPNet, 2020, arXiv 1911.11929).
struct Fusion {
    paths: [ConvNorm; 2],
    deep: Vec<Rep>,
    out: Option<ConvNorm>,
}

impl Fusion {
    fn new(c: &Config, hidden: usize, build: &Build) -> Result<Self> {
        let inside = (hidden as f64 * c.number_or("hidden_expansion", 1.0)?) as usize;
        let activation = c.activation("activation_function", "silu")?;
        let conv = |channels, outputs, kernel, activation| {
            ConvNorm::new(conv_norm(c, channels, outputs, kernel, 1, activation)?, build)
        };
        let rep = |_| {
            let convs = [conv(inside, inside, 3, None)?, conv(inside, inside, 1, None)?];
            Ok::<_, Error>(Rep { convs, activation })
        };
        let act = Some(activation);
        Ok(Fusion {
            paths: [conv(2 * hidden, inside, 1, act)?, conv(2 * hidden, inside, 1, act)?],
            deep: (0..3).map(rep).collect::<Result<_>>()?,
            out: if inside == hidden { None } else { Some(conv(inside, hidden, 1, act)?) },
        })
    }

    /// Of two maps of one size.
    fn forward(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let x = Tensor::concat(&[a, b], 1)?;
        let rep = |x: Tensor, rep: &Rep| {
            let sum = rep.convs[0].forward(&x)?.add(&rep.convs[1].forward(&x)?)?;
            Ok::<_, Error>(rep.activation.apply(&sum)?)
        };
        let deep = self.deep.iter().try_fold(self.paths[0].forward(&x)?, rep)?;
        let sum = deep.add(&self.paths[1].forward(&x)?)?;
        match &self.out {
            Some(out) => out.forward(&sum),
            None => Ok(sum),
        }
    }
}

impl Module for Fusion {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("conv1", &self.paths[0]);
        v.module("conv2", &self.paths[1]);
        v.modules("bottlenecks", &self.deep);
        if let Some(out) = &self.out {
            v.module("conv3", out);
        }
    }
}

/// The encoder with the layers before it.
pub(super) struct Encoder {
    hidden: usize,
    temperature: f64,
    inputs: Vec<ConvNorm>,
    /// Which map each stack is for.
    stacks: Vec<(usize, Stack)>,
    lateral: Vec<ConvNorm>,
    down: Vec<Fusion>,
    smaller: Vec<ConvNorm>,
    up: Vec<Fusion>,
}

impl Encoder {
    pub fn new(c: &Config, build: &Build) -> Result<Self> {
        let hidden = c.size_or("encoder_hidden_dim", 256)?;
        let activation = Some(c.activation("activation_function", "silu")?);
        let channels = or_default(c.sizes("encoder_in_channels")?, [512, 1024, 2048]);
        let input = |channels: &usize| {
            let conv = ConvNormConfig { names: ["0", "1"], eps: 1e-5, ..conv_norm(c, *channels, hidden, 1, 1, None)? };
            ConvNorm::new(conv, build)
        };
        let conv = |kernel, stride| ConvNorm::new(conv_norm(c, hidden, hidden, kernel, stride, activation)?, build);
        let steps = channels.len().saturating_sub(1);
        let places = c.sizes("encode_proj_layers")?;
        let places = if places.is_empty() { vec![2] } else { places };
        let layers = c.size_or("encoder_layers", 1)?;
        if !hidden.is_multiple_of(4) || places.iter().any(|&place| place >= channels.len()) {
            return Err(c.error(format!("encode_proj_layers {places:?} of {} maps of width {hidden}", channels.len())));
        }
        let stack = |&place: &usize| Ok::<_, Error>((place, Stack::new(&stack(c, hidden, layers)?, hidden, build)?));
        Ok(Encoder {
            hidden,
            temperature: c.number_or("positional_encoding_temperature", 10_000.0)?,
            inputs: channels.iter().map(input).collect::<Result<_>>()?,
            stacks: places.iter().filter(|_| layers > 0).map(stack).collect::<Result<_>>()?,
            lateral: (0..steps).map(|_| conv(1, 1)).collect::<Result<_>>()?,
            down: (0..steps).map(|_| Fusion::new(c, hidden, build)).collect::<Result<_>>()?,
            smaller: (0..steps).map(|_| conv(3, 2)).collect::<Result<_>>()?,
            up: (0..steps).map(|_| Fusion::new(c, hidden, build)).collect::<Result<_>>()?,
        })
    }

    /// Mixed maps, the largest first, of the backbone's; and those that went into attention and the last that came out.
    pub fn forward(&self, maps: Vec<Tensor>) -> Result<(Vec<Tensor>, Vec<Tensor>)> {
        if maps.len() != self.inputs.len() {
            return Err(Error::argument("maps", format!("{} of them, expected {}", maps.len(), self.inputs.len())));
        }
        let project = |(map, conv): (&Tensor, &ConvNorm)| conv.forward(map);
        let mut maps: Vec<Tensor> = maps.iter().zip(&self.inputs).map(project).collect::<Result<_>>()?;
        let mut attended = Vec::new();
        for (place, stack) in &self.stacks {
            let map = maps[*place].clone();
            attended.push(map.clone());
            let (height, width) = (map.size(2)?, map.size(3)?);
            let pass = Pass::among(self.positions(height, width, &map)?);
            let rows = stack.forward(map.flatten(2, 3)?.transpose(1, 2)?, &pass, None, None, None)?;
            let shape = [map.size(0)?, self.hidden, height, width].map(|n| n as isize);
            maps[*place] = rows.transpose(1, 2)?.reshape(&shape)?;
        }
        if let Some((place, _)) = self.stacks.last() {
            attended.push(maps[*place].clone());
        }
        // Down from the smallest map, each step twice as large.
        let Some(mut top) = maps.pop() else { return Ok((maps, attended)) };
        let mut fused = Vec::new();
        for ((lateral, fusion), map) in self.lateral.iter().zip(&self.down).zip(maps.iter().rev()) {
            top = lateral.forward(&top)?;
            fused.push(top.clone());
            let wide = top.interpolate(&map.shape()[2..], Interpolation::Nearest)?;
            top = fusion.forward(&wide, map)?;
        }
        // And up again.
        let mut mixed = vec![top];
        for ((conv, fusion), map) in self.smaller.iter().zip(&self.up).zip(fused.iter().rev()) {
            let small = conv.forward(&mixed[mixed.len() - 1])?;
            mixed.push(fusion.forward(&small, map)?);
        }
        Ok((mixed, attended))
    }

    /// Sines and cosines of rows and columns, `[1, height * width, hidden]`.
    fn positions(&self, height: usize, width: usize, like: &Tensor) -> Result<Tensor> {
        let quarter = self.hidden / 4;
        let wave = |k: usize| self.temperature.powf(-(k as f64) / quarter as f64);
        let mut values = Vec::new();
        for at in 0..height * width {
            for place in [at / width, at % width] {
                let angles = (0..quarter).map(|k| place as f64 * wave(k));
                values.extend(angles.clone().map(|angle| angle.sin() as f32));
                values.extend(angles.map(|angle| angle.cos() as f32));
            }
        }
        Ok(Tensor::from_vec(values, &[1, height * width, self.hidden], like.device())?.cast(like.dtype())?)
    }
}

fn stack(c: &Config, hidden: usize, layers: usize) -> Result<StackConfig> {
    let heads = c.size_or("encoder_attention_heads", 8)?;
    let (dropout, inside) = (c.number_or("dropout", 0.0)?, c.number_or("activation_dropout", 0.0)?);
    let place = |name| {
        if c.flag_or("normalize_before", false)? { Ok(Place::pre(name)) } else { Ok::<_, Error>(Place::post(name)) }
    };
    let activation = c.activation("encoder_activation_function", "gelu")?;
    let block = BlockConfig {
        hidden,
        norm: NormConfig::layer(c.eps("layer_norm_eps", 1e-5)?),
        attention: AttentionConfig {
            dropout,
            ..AttentionConfig::new(heads, c.head_dim(hidden, heads)?, PROJECT, "self_attn.out_proj")
        },
        attention_place: place("self_attn_layer_norm")?,
        cross: None,
        feed_forward: feed_forward(c.size_or("encoder_ffn_dim", 1024)?, activation, inside),
        feed_forward_place: place("final_layer_norm")?,
        wiring: Wiring::Sequential,
        dropout,
    };
    Ok(StackConfig { name: "layers", blocks: vec![block; layers], norm: None })
}

impl Module for Encoder {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.modules("encoder_input_proj", &self.inputs);
        for (number, (_, stack)) in self.stacks.iter().enumerate() {
            v.module(&format!("encoder.encoder.{number}"), stack);
        }
        v.modules("encoder.lateral_convs", &self.lateral);
        v.modules("encoder.fpn_blocks", &self.down);
        v.modules("encoder.downsample_convs", &self.smaller);
        v.modules("encoder.pan_blocks", &self.up);
    }
}
