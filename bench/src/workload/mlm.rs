//! A training step of a masked language model: pre-norm encoder, feed-forward of four times the width, GELU, AdamW.

use std::cell::RefCell;
use std::rc::Rc;

use wgrad::nn::{Build, Embedding, LayerNorm, Linear, Module, MultiHeadAttention, Visitor};
use wgrad::optim::{Adam, Group, Optimizer, Rule};
use wgrad::{AttentionOptions, CrossEntropy, DType, Device, Tensor};

use super::Work;
use crate::params::Params;
use crate::{Error, Result, check};

/// Operations up to which the reference does a step of the whole batch; beyond, of its first rows.
const MAX_CHECKED: f64 = 5e10;

#[derive(Clone, Copy)]
struct Sizes {
    length: usize,
    width: usize,
    heads: usize,
    layers: usize,
    vocab: usize,
}

struct Block {
    attention_norm: LayerNorm,
    attention: MultiHeadAttention,
    feed_forward_norm: LayerNorm,
    up: Linear,
    down: Linear,
}

impl Block {
    fn forward(&self, x: &Tensor) -> wgrad::Result<Tensor> {
        let normed = self.attention_norm.forward(x)?;
        let x = x.add(&self.attention.forward(&normed, &normed, &AttentionOptions::default())?)?;
        let inner = self.up.forward(&self.feed_forward_norm.forward(&x)?)?.gelu()?;
        x.add(&self.down.forward(&inner)?)
    }
}

impl Module for Block {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("attention_norm", &self.attention_norm);
        v.module("attention", &self.attention);
        v.module("feed_forward_norm", &self.feed_forward_norm);
        v.module("up", &self.up);
        v.module("down", &self.down);
    }
}

struct Model {
    tokens: Embedding,
    positions: Embedding,
    blocks: Vec<Block>,
    head: Linear,
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
    fn new(sizes: Sizes, build: &Build) -> wgrad::Result<Self> {
        let Sizes { length, width, heads, layers, vocab } = sizes;
        let block = |_| {
            Ok(Block {
                attention_norm: LayerNorm::new(width, true, 1e-5, build)?,
                attention: MultiHeadAttention::new(width, heads, true, 0.0, build)?,
                feed_forward_norm: LayerNorm::new(width, true, 1e-5, build)?,
                up: Linear::new(width, 4 * width, true, build)?,
                down: Linear::new(4 * width, width, true, build)?,
            })
        };
        Ok(Model {
            tokens: Embedding::new(vocab, width, None, build)?,
            positions: Embedding::new(length, width, None, build)?,
            blocks: (0..layers).map(block).collect::<wgrad::Result<_>>()?,
            head: Linear::new(width, vocab, true, build)?,
        })
    }

    fn forward(&self, ids: &Tensor) -> wgrad::Result<Tensor> {
        let places = Tensor::arange(0, ids.size(1)? as i64, DType::U32, ids.device())?;
        let mut x = self.tokens.forward(ids)?.add(&self.positions.forward(&places)?)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        self.head.forward(&x)
    }
}

/// A model with its optimizer.
struct Training {
    model: Model,
    optimizer: Optimizer,
}

impl Training {
    fn new(model: Model) -> wgrad::Result<Self> {
        let optimizer = Optimizer::new(Rule::AdamW(Adam::default()), 1e-4, Group::of(&model))?;
        Ok(Training { model, optimizer })
    }

    /// One step on `ids` and `targets` `[batch, length]`; reads the loss, as a training loop does.
    fn step(&mut self, ids: &Tensor, targets: &Tensor) -> wgrad::Result<f64> {
        let loss = self.model.forward(ids)?.cross_entropy(targets, &CrossEntropy::default())?;
        self.optimizer.step(&loss.backward()?)?;
        loss.item()
    }

    /// The same on the CPU in f64.
    fn reference(&self, sizes: Sizes) -> Result<Self> {
        let model = Model::new(sizes, &Build::new(&Device::cpu()).with_dtype(DType::F64))?;
        for ((_, to), (_, from)) in model.named_parameters().iter().zip(self.model.named_parameters()) {
            to.set(&check::to_reference(&from.tensor().detach())?)?;
        }
        Ok(Training::new(model)?)
    }
}

/// A batch of `b` rows of `l` tokens through `layers` blocks of width `d` with `h` heads.
pub fn mlm_step(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let (batch, length, width) = (params.size("b", 8)?, params.size("l", 128)?, params.size("d", 256)?);
    let (heads, layers, vocab) = (params.size("h", 4)?, params.size("layers", 4)?, params.size("vocab", 8192)?);
    let sizes = Sizes { length, width, heads, layers, vocab };
    let flops = operations(batch, sizes);
    let training = Rc::new(RefCell::new(Training::new(Model::new(sizes, &Build::new(device))?)?));
    let draw = || Tensor::randint(0, vocab as i64, &[batch, length], DType::U32, device);
    let (ids, targets) = (draw()?, draw()?);
    let name = name.to_string();
    let (trained, x, y) = (training.clone(), ids.clone(), targets.clone());
    Ok(Work {
        flops: Some(flops),
        bytes: None,
        f32: true,
        wait: true,
        step: Box::new(move || {
            let loss = trained.borrow_mut().step(&x, &y)?;
            if !loss.is_finite() {
                return Err(Error::new(format!("the loss is {loss}")));
            }
            Ok(Vec::new())
        }),
        check: Box::new(move |_| {
            let rows = ((batch as f64 * MAX_CHECKED / flops) as usize).clamp(1, batch);
            let (ids, targets) = (ids.narrow(0, 0, rows)?, targets.narrow(0, 0, rows)?);
            let mut training = training.borrow_mut();
            let mut reference = training.reference(sizes)?;
            let (wide_ids, wide_targets) = (check::to_reference(&ids)?, check::to_reference(&targets)?);
            // The second loss shows the first gradients and the optimizer's step.
            for step in ["first", "second"] {
                let (got, want) = (training.step(&ids, &targets)?, reference.step(&wide_ids, &wide_targets)?);
                check::close(&format!("{name}, {step} loss"), &[got], &[want], 1e-4)?;
            }
            Ok(())
        }),
    })
}

/// Multiplications and additions of the products, forward and twice as many backward.
fn operations(batch: usize, sizes: Sizes) -> f64 {
    let Sizes { length, width, layers, vocab, .. } = sizes;
    let block = 24 * width * width + 4 * length * width;
    3.0 * (batch * length) as f64 * (layers * block + 2 * width * vocab) as f64
}
