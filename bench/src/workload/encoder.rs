//! The masked language model of `mlm_step` and `mlm_forward`: a pre-norm encoder, feed-forward of four times the width, GELU, a readout of the
//! residual stream as it is. Its norm can be exchanged as Pre-RMSNorm and Pre-CRMSNorm Transformers do it (Jiang et al., 2023, arXiv:2305.14858).

use wgrad::nn::{Build, Embedding, LayerNorm, Linear, Module, Param, Visitor, join_heads, split_heads};
use wgrad::{Activation, AttentionOptions, DType, Device, Epilogue, NormKind, NormOptions, Tensor, no_grad};

use crate::{Result, check};

/// Added to the variance or the mean square.
const EPS: f64 = 1e-5;

/// The norm before each part.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// Layer norm with gain and bias.
    Layer,
    /// Layer norm without: gain and bias belong into the layer that follows. What the paper compares with.
    Plain,
    /// RMS norm, which is the same on a stream without a mean: what writes to it is centred.
    Rms,
    /// Compressed RMS norm, on a stream that lacks its last element, the negative sum of the others.
    Crms,
    /// The same on a stream of the full width, which stands for one more element: rows stay as long as devices like them.
    WideCrms,
}

/// Sizes of a model.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub length: usize,
    pub width: usize,
    pub heads: usize,
    pub layers: usize,
    pub vocab: usize,
    pub norm: Norm,
}

impl Sizes {
    /// Width of the residual stream.
    pub fn stream(&self) -> usize {
        self.width - usize::from(self.norm == Norm::Crms)
    }

    /// Multiplications and additions of the products of a pass forward.
    pub fn operations(&self, batch: usize) -> f64 {
        let &Sizes { length, width, layers, vocab, .. } = self;
        let stream = self.stream();
        let block = 24 * width * stream + 4 * length * width;
        (batch * length) as f64 * (layers * block + 2 * stream * vocab) as f64
    }
}

/// A norm with its parameters, if it has any.
enum RowNorm {
    Affine(LayerNorm),
    Bare(NormKind),
}

impl RowNorm {
    fn new(sizes: Sizes, build: &Build) -> wgrad::Result<Self> {
        Ok(match sizes.norm {
            Norm::Layer => RowNorm::Affine(LayerNorm::new(sizes.width, true, EPS, build)?),
            Norm::Plain => RowNorm::Bare(NormKind::Layer),
            Norm::Rms => RowNorm::Bare(NormKind::Rms),
            Norm::Crms | Norm::WideCrms => RowNorm::Bare(NormKind::Crms),
        })
    }

    fn forward(&self, x: &Tensor) -> wgrad::Result<Tensor> {
        match self {
            RowNorm::Affine(norm) => norm.forward(x),
            RowNorm::Bare(kind) => x.row_norm(&NormOptions::new(*kind, EPS)),
        }
    }
}

impl Module for RowNorm {
    fn visit(&self, v: &mut Visitor<'_>) {
        if let RowNorm::Affine(norm) = self {
            v.module("", norm);
        }
    }
}

/// `x` less its mean over a dimension.
fn centred(x: &Tensor, dim: isize) -> wgrad::Result<Tensor> {
    x.sub(&x.mean(&[dim], true)?)
}

/// The stream with what a layer adds to it; `centres`: vectors without a mean.
fn write(layer: &Linear, x: &Tensor, stream: &Tensor, centres: bool) -> wgrad::Result<Tensor> {
    let then = Epilogue { residual: Some(stream.clone()), ..Epilogue::default() };
    if !centres {
        return layer.forward_then(x, &then);
    }
    let bias = layer.bias.as_ref().map(|bias| centred(&bias.tensor(), 0)).transpose()?;
    x.linear_then(&centred(&layer.weight.tensor(), 0)?, bias.as_ref(), &then)
}

struct Block {
    attention_norm: RowNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    feed_forward_norm: RowNorm,
    up: Linear,
    down: Linear,
}

impl Block {
    fn new(sizes: Sizes, build: &Build) -> wgrad::Result<Self> {
        let Sizes { width, heads, .. } = sizes;
        let linear = |from, to| Linear::new(from, to, true, build);
        let (reads, writes) = (|to| linear(sizes.stream(), to), |from| linear(from, sizes.stream()));
        Ok(Block {
            attention_norm: RowNorm::new(sizes, build)?,
            query: reads(width)?,
            key: reads(width)?,
            value: reads(width)?,
            output: writes(width)?,
            heads,
            feed_forward_norm: RowNorm::new(sizes, build)?,
            up: reads(4 * width)?,
            down: writes(4 * width)?,
        })
    }

    fn forward(&self, x: &Tensor, centres: bool) -> wgrad::Result<Tensor> {
        let normed = self.attention_norm.forward(x)?;
        let heads = |layer: &Linear| split_heads(&layer.forward(&normed)?, self.heads);
        let (query, key, value) = (heads(&self.query)?, heads(&self.key)?, heads(&self.value)?);
        let attended = join_heads(&query.attention(&key, &value, &AttentionOptions::default())?)?;
        let x = write(&self.output, &attended, x, centres)?;
        let gelu = Epilogue { activation: Some(Activation::Gelu), ..Epilogue::default() };
        let inner = self.up.forward_then(&self.feed_forward_norm.forward(&x)?, &gelu)?;
        write(&self.down, &inner, &x, centres)
    }
}

impl Module for Block {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("attention_norm", &self.attention_norm);
        v.module("query", &self.query);
        v.module("key", &self.key);
        v.module("value", &self.value);
        v.module("output", &self.output);
        v.module("feed_forward_norm", &self.feed_forward_norm);
        v.module("up", &self.up);
        v.module("down", &self.down);
    }
}

/// The model.
pub struct Model {
    sizes: Sizes,
    tokens: Embedding,
    positions: Embedding,
    blocks: Vec<Block>,
    head: Linear,
    /// Whether what writes to the stream is centred in each pass: a model with RMS norms in training, which then is that with layer norms.
    centres: bool,
}

impl Module for Model {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("tokens", &self.tokens);
        v.module("positions", &self.positions);
        v.modules("blocks", &self.blocks);
        v.module("head", &self.head);
    }
}

impl Model {
    /// A model for training.
    pub fn new(sizes: Sizes, build: &Build) -> wgrad::Result<Self> {
        let Sizes { length, layers, vocab, norm, .. } = sizes;
        let stream = sizes.stream();
        Ok(Model {
            sizes,
            tokens: Embedding::new(vocab, stream, None, build)?,
            positions: Embedding::new(length, stream, None, build)?,
            blocks: (0..layers).map(|_| Block::new(sizes, build)).collect::<wgrad::Result<_>>()?,
            head: Linear::new(stream, vocab, true, build)?,
            centres: norm == Norm::Rms,
        })
    }

    /// Centres once and for all what training centres in each pass.
    pub fn for_inference(mut self) -> wgrad::Result<Self> {
        if std::mem::take(&mut self.centres) {
            let centre = |param: &Param, dim| param.set(&no_grad(|| centred(&param.tensor(), dim))?);
            centre(&self.tokens.weight, -1)?;
            centre(&self.positions.weight, -1)?;
            for layer in self.blocks.iter().flat_map(|block| [&block.output, &block.down]) {
                centre(&layer.weight, 0)?;
                layer.bias.as_ref().map(|bias| centre(bias, 0)).transpose()?;
            }
        }
        Ok(self)
    }

    /// Logits `[batch, length, vocab]` of `ids [batch, length]`.
    pub fn forward(&self, ids: &Tensor) -> wgrad::Result<Tensor> {
        let places = Tensor::arange(0, ids.size(1)? as i64, DType::U32, ids.device())?;
        let mut x = self.tokens.forward(ids)?.add(&self.positions.forward(&places)?)?;
        if self.centres {
            x = x.row_norm(&NormOptions::new(NormKind::Centre, 0.0))?;
        }
        for block in &self.blocks {
            x = block.forward(&x, self.centres)?;
        }
        self.head.forward(&x)
    }

    /// The same on the CPU in f64.
    pub fn reference(&self) -> Result<Self> {
        let model = Model::new(self.sizes, &Build::new(&Device::cpu()).with_dtype(DType::F64))?;
        for ((_, to), (_, from)) in model.named_parameters().iter().zip(self.named_parameters()) {
            to.set(&check::to_reference(&from.tensor().detach())?)?;
        }
        Ok(Model { centres: self.centres, ..model })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { length: 5, width: 8, heads: 2, layers: 2, vocab: 11, norm: Norm::Plain };

    fn ids() -> Tensor {
        Tensor::from_vec((0..10u32).map(|n| n * n % 11).collect(), &[2, 5], &Device::cpu()).unwrap()
    }

    /// A model of another norm whose parameters are what `of` makes of those of `model`.
    fn other(model: &Model, norm: Norm, of: impl Fn(&str, Tensor) -> wgrad::Result<Tensor>) -> Model {
        let other =
            Model::new(Sizes { norm, ..model.sizes }, &Build::new(&Device::cpu()).with_dtype(DType::F64)).unwrap();
        let from = model.named_parameters();
        assert_eq!(from.len(), other.named_parameters().len());
        for ((name, from), (_, to)) in from.iter().zip(other.named_parameters()) {
            to.set(&of(name, from.tensor().detach()).unwrap().contiguous().unwrap()).unwrap();
        }
        other
    }

    fn same(what: &str, got: &Tensor, want: &Tensor) {
        check::close_tensors(what, got, want, 1e-10).unwrap();
    }

    fn largest(x: &Tensor) -> f64 {
        x.abs().unwrap().max(&[], false).unwrap().item().unwrap()
    }

    #[test]
    fn norms_are_exchanged_and_the_function_stays() {
        let plain = Model::new(SIZES, &Build::new(&Device::cpu()).with_dtype(DType::F64)).unwrap();
        // The readout has no norm before it, so it must not see the mean of the stream for the models to be the same.
        plain.head.weight.set(&centred(&plain.head.weight.tensor().detach(), 1).unwrap()).unwrap();
        let rms = other(&plain, Norm::Rms, |_, x| Ok(x));
        let (of_plain, of_rms) = (plain.forward(&ids()).unwrap(), rms.forward(&ids()).unwrap());
        same("logits with RMS norms", &of_rms, &of_plain);
        let gradients = [&of_plain, &of_rms].map(|y| y.square().unwrap().sum_all().unwrap().backward().unwrap());
        for ((name, plain), (_, rms)) in plain.named_parameters().iter().zip(rms.named_parameters()) {
            let of_plain = plain.gradient(&gradients[0]).unwrap();
            let apart = rms.gradient(&gradients[1]).unwrap().sub(of_plain).unwrap();
            // The readout's own gradient knows the mean.
            let apart = if name == "head.weight" { centred(&apart, 1).unwrap() } else { apart };
            let (apart, size) = (largest(&apart), largest(of_plain));
            assert!(apart < 1e-10, "{name}: gradients of up to {size:.1e} differ by {apart:.1e}");
        }
        let rms = rms.for_inference().unwrap();
        assert!(!rms.centres && plain.tokens.weight.tensor().sum_all().unwrap().item().unwrap().abs() > 1e-3);
        same("logits of what is centred once", &rms.forward(&ids()).unwrap(), &of_plain);
        let last = SIZES.width - 1;
        let crms = other(&rms, Norm::Crms, |name, x| match name.rsplit('.').nth(1) {
            Some("output" | "down") => x.narrow(0, 0, last),
            Some("tokens" | "positions") => x.narrow(1, 0, last),
            _ if x.rank() == 2 => x.narrow(1, 0, last)?.sub(&x.narrow(1, last, 1)?),
            _ => Ok(x),
        });
        assert_eq!(crms.tokens.weight.shape(), [11, 7]);
        same("logits with compressed RMS norms", &crms.forward(&ids()).unwrap(), &of_plain);
    }

    #[test]
    fn a_reference_is_the_same_model() {
        for norm in [Norm::Layer, Norm::Plain, Norm::Rms, Norm::Crms, Norm::WideCrms] {
            let model = Model::new(Sizes { norm, ..SIZES }, &Build::new(&Device::cpu())).unwrap();
            let (got, want) = (model.forward(&ids()).unwrap(), model.reference().unwrap().forward(&ids()).unwrap());
            check::close_tensors("logits", &got, &want, 1e-4).unwrap();
        }
    }
}
