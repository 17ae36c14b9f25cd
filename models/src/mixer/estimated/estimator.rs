//! What estimates where the weights of full attention lie: linear attention, and convolutions over its result.

use wgrad::nn::{Build, Favor, Init, Module, Param, RandomFeatures, Visitor};
use wgrad::{Conv, DType, Interpolation, LinearAttention, PadMode, Tensor};

use super::{Direction, EstimatedConfig, of_real};
use crate::norm::{Norm, NormConfig};
use crate::weights::{Form, Linear};
use crate::{Error, Result};

/// Positions between the taps of a causal convolution.
const DILATION: usize = 2;
/// Queries back and columns aside that it sees, in taps.
const TAPS: usize = 3;
const EPS: f64 = 1e-5;
/// What the sum of linear attention's weights is at least.
const LEAST: f64 = 1e-6;

/// A convolution over queries and columns that sees no later query: a linear layer on its taps side by side.
struct CausalConv(Linear);

impl CausalConv {
    fn new(channels: usize, build: &Build) -> Result<Self> {
        let build = build.clone().with_init(Init::KaimingNormal { gain: 1.0 });
        Ok(CausalConv(Linear::new(TAPS * TAPS * channels, channels, true, Form::Rows, &build)?))
    }

    /// `x [batch, queries, columns, channels]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (queries, columns) = (x.size(1)?, x.size(2)?);
        let (back, aside) = ((TAPS - 1) * DILATION, (TAPS / 2 * DILATION) as isize);
        let pads = [(0, 0), (back as isize, 0), (aside, aside), (0, 0)];
        let padded = x.pad(&pads, PadMode::Constant(0.0))?;
        let mut taps = Vec::with_capacity(TAPS * TAPS);
        for row in 0..TAPS {
            let rows = padded.narrow(1, row * DILATION, queries)?;
            for column in 0..TAPS {
                taps.push(rows.narrow(2, column * DILATION, columns)?);
            }
        }
        self.0.forward(&Tensor::concat(&taps.iter().collect::<Vec<_>>(), -1)?)
    }
}

/// A convolution of 3 x 3 over queries and columns, of which it takes every `step`-th query.
struct Conv3 {
    weight: Param,
    bias: Param,
    step: usize,
}

impl Conv3 {
    fn new(channels: usize, outputs: usize, step: usize, build: &Build) -> Result<Self> {
        let weight = build.param(&[outputs, channels, 3, 3], Init::KaimingNormal { gain: 1.0 })?;
        Ok(Conv3 { weight, bias: build.param(&[outputs], Init::Zeros)?, step })
    }

    /// `x [batch, channels, queries, columns]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let options = Conv { stride: [self.step, 1], padding: [1, 1], ..Conv::default() };
        Ok(x.conv2d(&self.weight.tensor(), Some(&self.bias.tensor()), &options)?)
    }
}

impl Module for Conv3 {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("weight", &self.weight);
        v.param("bias", &self.bias);
    }
}

/// What makes the grid of what linear attention found.
enum Decoder {
    Causal(Box<CausalDecoder>),
    Both([Conv3; 3]),
}

struct CausalDecoder {
    /// What stands for a position, `[longest, head_dim]`.
    places: Param,
    widen_norm: Norm,
    convs: [CausalConv; 2],
    join: Linear,
    join_norm: Norm,
}

pub(super) struct Estimator {
    columns: usize,
    /// Of queries and keys, never trained.
    features: RandomFeatures,
    inner: Linear,
    inner_norm: Norm,
    widen: Linear,
    decoder: Decoder,
    gates: Linear,
}

impl Estimator {
    pub(super) fn new(config: &EstimatedConfig, heads: usize, dim: usize, build: &Build) -> Result<Self> {
        let columns = config.columns;
        let linear = |inputs, outputs| Linear::new(inputs, outputs, true, Form::Rows, build);
        let norm = |width| Norm::new(NormConfig::layer(EPS), width, build);
        let favor = if config.direction == Direction::Both { Favor::Softmax } else { Favor::Relu };
        let decoder = match config.direction {
            Direction::Causal { longest } => Decoder::Causal(Box::new(CausalDecoder {
                places: build.param(&[longest, dim], Init::Normal { mean: 0.0, std: 1.0 })?,
                widen_norm: norm(columns / 4)?,
                convs: [CausalConv::new(2 * heads, build)?, CausalConv::new(2 * heads, build)?],
                join: linear(2 * heads, heads)?,
                join_norm: norm(columns)?,
            })),
            Direction::Both => Decoder::Both([
                Conv3::new(4 * heads, 4 * heads, 2, build)?,
                Conv3::new(4 * heads, 4 * heads, 1, build)?,
                Conv3::new(4 * heads, heads, 1, build)?,
            ]),
        };
        // Two channels a head of a quarter of the columns, or four of half of them.
        let wide = if config.direction == Direction::Both { 2 * columns } else { columns / 2 };
        Ok(Estimator {
            columns,
            features: RandomFeatures::new(dim, Some(config.features), favor, build)?,
            inner: linear(3 * dim, 2 * dim)?,
            inner_norm: norm(2 * dim)?,
            widen: linear(2 * dim, wide)?,
            decoder,
            gates: linear(2 * dim, 2)?,
        })
    }

    /// The weights on the grid `[batch, heads, queries, columns]`, as logits, and both gates `[batch, heads, queries, 2]`. Keys that are not
    /// `real [batch, keys]` count for nothing.
    pub(super) fn forward(&self, [query, key, value]: [&Tensor; 3], real: Option<&Tensor>) -> Result<[Tensor; 2]> {
        let &[batch, heads, length, dim] = value.shape() else {
            return Err(Error::argument("Estimated", format!("values of shape {:?}", value.shape())));
        };
        let places = match &self.decoder {
            Decoder::Causal(causal) => {
                let places = &causal.places;
                let most = places.shape()[0];
                if length > most {
                    return Err(Error::argument(
                        "Estimated",
                        format!("{length} tokens, but there are {most} positions"),
                    ));
                }
                places.tensor().narrow(0, 0, length)?
            }
            // As many rows of a unit matrix as there are tokens, with what lies between two rows between them.
            Decoder::Both(_) => {
                let unit = Tensor::arange(0, dim as i64, DType::U32, value.device())?
                    .one_hot(dim)?
                    .cast(value.dtype())?
                    .unsqueeze(0)?;
                unit.interpolate(&[length], Interpolation::Linear { align_corners: true })?
                    .squeeze(0)?
                    .transpose(0, 1)?
            }
        };
        let keys = of_real(self.features.key(&of_real(key.clone(), real)?)?, real)?;
        let options = LinearAttention {
            causal: matches!(self.decoder, Decoder::Causal(_)),
            normalize: Some(LEAST),
            ..LinearAttention::default()
        };
        let values = Tensor::concat(&[&places.expand(&[batch, heads, length, dim])?, value], -1)?;
        let (seen, _) = self.features.query(query)?.linear_attention(&keys, &values, &options)?;
        let inner = self.inner.forward(&Tensor::concat(&[&seen, value], -1)?)?;
        let inner = self.inner_norm.forward(&inner)?.gelu()?;
        let wide = self.widen.forward(&inner)?;
        let split = |parts: usize| {
            let width = wide.size(-1)? / parts;
            wide.reshape(&[batch, heads, length, parts, width].map(|n| n as isize))
        };
        let grid = match &self.decoder {
            Decoder::Causal(causal) => {
                let CausalDecoder { widen_norm, convs, join, join_norm, .. } = &**causal;
                // The heads' pairs of channels: [batch, queries, columns / 4, 2 heads].
                let wide = widen_norm.forward(&split(2)?)?.permute(&[0, 2, 4, 1, 3])?.flatten(3, 4)?;
                let wide = convs[0].forward(&wide)?.relu()?;
                let wide = convs[1].forward(&wide)?.relu()?;
                join_norm.forward(&join.forward(&wide.repeat_interleave(4, 2)?)?.permute(&[0, 3, 1, 2])?)?
            }
            Decoder::Both(convs) => {
                // [batch, 4 heads, queries, columns / 2], where padding is zeros.
                let wide = of_real(split(4)?.permute(&[0, 1, 3, 2, 4])?.flatten(1, 2)?, real)?;
                let wide = convs[0].forward(&wide)?.relu()?;
                let wide = convs[1].forward(&wide)?.relu()?;
                let wide = wide.repeat_interleave(2, 2)?.narrow(2, 0, length)?;
                let how = Interpolation::Linear { align_corners: false };
                convs[2].forward(&wide)?.interpolate(&[self.columns], how)?
            }
        };
        Ok([grid, self.gates.forward(&inner)?])
    }
}

impl Module for Estimator {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("features", &self.features);
        v.module("inner", &self.inner);
        v.module("inner_norm", &self.inner_norm);
        v.module("widen", &self.widen);
        match &self.decoder {
            Decoder::Causal(causal) => {
                let CausalDecoder { places, widen_norm, convs, join, join_norm } = &**causal;
                v.param("places", places);
                v.module("widen_norm", widen_norm);
                for (number, conv) in convs.iter().enumerate() {
                    v.module(&format!("convs.{number}"), &conv.0);
                }
                v.module("join", join);
                v.module("join_norm", join_norm);
            }
            Decoder::Both(convs) => {
                for (number, conv) in convs.iter().enumerate() {
                    v.module(&format!("convs.{number}"), conv);
                }
            }
        }
        v.module("gates", &self.gates);
    }
}
