//! Native sparse attention (Yuan et al., 2025, arXiv 2502.11089): three views of what came before, weighed by gates. Means of short
//! blocks, the blocks that these find most important, and the nearest tokens.

use wgrad::nn::{Build, Module, Visitor, join_heads, split_heads};
use wgrad::{AttentionOptions, DType, Mask, Tensor};

use super::Mixer;
use crate::attention::Pass;
use crate::weights::{Form, Linear};
use crate::{Error, Result};

/// How many times the keys that a query sees all have to be, on the CPU and on GPUs, so that going over the chosen blocks alone is worth putting
/// queries into their order. Of 8 blocks of 32, and 2 heads of 64, a training step of 4096 took 0.4 to 0.5 of the dense one on the CPU, but 1.4 on llvmpipe,
/// where the one grows with the length and the other with its square.
const SKIPS: [usize; 2] = [8, 32];

/// What a layer is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NativeSparseConfig {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; the queries of one share their choice of blocks.
    pub key_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Tokens of a block, whose mean stands for it and which is chosen as a whole.
    pub block: usize,
    /// Blocks that a query sees, its own, the one before and the first among them.
    pub chosen: usize,
    /// Tokens before a query that it sees in any case, itself included.
    pub window: usize,
    /// Base of the rotary wavelengths.
    pub theta: f64,
}

/// A layer of native sparse attention.
pub struct NativeSparse {
    config: NativeSparseConfig,
    query: Linear,
    key: Linear,
    value: Linear,
    gate: Linear,
    output: Linear,
}

impl NativeSparse {
    /// A layer on vectors of `hidden`.
    ///
    /// # Errors
    /// If sizes do not fit each other, or memory is exhausted.
    pub fn new(config: NativeSparseConfig, hidden: usize, build: &Build) -> Result<Self> {
        let NativeSparseConfig { heads, key_heads, head_dim, block, chosen, .. } = config;
        if key_heads == 0 || !heads.is_multiple_of(key_heads) || block == 0 || chosen == 0 {
            return Err(Error::config(format!("{config:?}")));
        }
        let linear = |inputs, outputs| Linear::new(inputs, outputs, false, Form::Rows, build);
        Ok(NativeSparse {
            query: linear(hidden, heads * head_dim)?,
            key: linear(hidden, key_heads * head_dim)?,
            value: linear(hidden, key_heads * head_dim)?,
            gate: Linear::new(hidden, 3 * heads, true, Form::Rows, build)?,
            output: linear(heads * head_dim, hidden)?,
            config,
        })
    }

    /// The mean of each block that is whole, `[batch, key heads, blocks, head_dim]`.
    fn means(&self, x: &Tensor) -> Result<Tensor> {
        let &[batch, heads, length, width] = x.shape() else {
            return Err(Error::argument("NativeSparse", format!("heads of shape {:?}", x.shape())));
        };
        let block = self.config.block;
        let whole = x.narrow(2, 0, length / block * block)?;
        let sizes = [batch, heads, length / block, block, width].map(|n| n as isize);
        Ok(whole.reshape(&sizes)?.mean(&[3], false)?)
    }

    /// The blocks that a query sees, its own first, `[batch, key heads, length, blocks of a query]`: those of the largest weights `[batch, heads,
    /// length, whole blocks]` in the sum over the heads of a key head. Where there are not so many up to its own, later ones stand for nothing.
    fn choice(&self, weights: &Tensor, length: usize) -> Result<Tensor> {
        let NativeSparseConfig { heads, key_heads, block, chosen, .. } = self.config;
        let (batch, whole, blocks) = (weights.size(0)?, weights.size(3)?, length.div_ceil(block));
        let group = heads / key_heads;
        let sizes = [batch, key_heads, group, length, whole].map(|n| n as isize);
        let shared = weights.detach().reshape(&sizes)?.sum(&[2], false)?;
        let missing = (blocks - whole) as isize;
        let shared = shared.pad(&[(0, 0), (0, 0), (0, 0), (0, missing)], wgrad::PadMode::Constant(0.0))?;
        // Weights sum to `group` at most: blocks that have to be seen are above, those that lie ahead below.
        let (must, ahead) = (2.0 * group as f32, -1.0);
        let forced = (0..length).flat_map(|i| {
            let own = i / block;
            (0..blocks).map(move |b| match b {
                _ if b > own => ahead - must,
                _ if b == own => 2.0 * must,
                _ if b + 1 == own || b == 0 => must,
                _ => 0.0,
            })
        });
        let forced = Tensor::from_vec(forced.collect(), &[length, blocks], weights.device())?.cast(weights.dtype())?;
        let (_, best) = shared.add(&forced)?.topk(chosen.min(blocks), -1, true)?;
        Ok(best)
    }

    /// Attention to the blocks of a choice.
    fn chosen(&self, query: &Tensor, key: &Tensor, value: &Tensor, choice: &Tensor) -> Result<Tensor> {
        let NativeSparseConfig { heads, key_heads, block, .. } = self.config;
        let (length, count) = (key.size(2)?, choice.size(3)?);
        if length >= SKIPS[usize::from(query.device().is_gpu())] * count * block {
            let others = choice.narrow(3, 1, count - 1)?;
            return Ok(query.chosen_attention(key, value, &others, block, None)?);
        }
        let seen = choice.one_hot(length.div_ceil(block))?.sum(&[3], false)?;
        let zero = Tensor::scalar(0.0, seen.dtype(), seen.device())?;
        let seen = seen.gt(&zero)?.repeat_interleave(heads / key_heads, 1)?;
        let mask = Mask::blocks(&seen, 1, block).and(Mask::causal(0));
        Ok(query.attention(key, value, &AttentionOptions { mask, ..AttentionOptions::default() })?)
    }
}

impl Mixer for NativeSparse {
    /// Causal whatever the pass says.
    fn mix(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let NativeSparseConfig { heads, key_heads, head_dim, block, window, theta, .. } = self.config;
        let length = x.size(1)?;
        let query = split_heads(&self.query.forward(x)?, heads)?;
        let key = split_heads(&self.key.forward(x)?, key_heads)?;
        let value = split_heads(&self.value.forward(x)?, key_heads)?;
        let turned = |x: &Tensor| match &pass.positions {
            Some(positions) => x.rotary(positions, theta, head_dim, false),
            None => Ok(x.clone()),
        };
        let gates = self.gate.forward(x)?.sigmoid()?;
        let gate = |branch: usize| gates.narrow(-1, branch * heads, heads)?.transpose(1, 2)?.unsqueeze(-1);
        let with = |mask| AttentionOptions { mask, ..AttentionOptions::default() };

        let near = Mask::causal(0).and(Mask::window(window.max(1) - 1, 0));
        let (turned_query, turned_key) = (turned(&query)?, turned(&key)?);
        let mut out = turned_query.attention(&turned_key, &value, &with(near))?.mul(&gate(2)?)?;
        let whole = length / block;
        let weights = if whole > 0 {
            // A block is seen from its last token on.
            let ends: Vec<i32> = (0..whole).map(|b| ((b + 1) * block - 1) as i32).collect();
            let cpu = wgrad::Device::cpu();
            let low = Tensor::from_vec(ends, &[1, 1, whole], &cpu)?;
            let high = Tensor::full(length as f64, &[1, 1, whole], DType::I32, &cpu)?;
            let options = with(Mask::intervals(&low, &high, None));
            let (keys, values) = (self.means(&key)?, self.means(&value)?);
            out = out.add(&query.attention(&keys, &values, &options)?.mul(&gate(0)?)?)?;
            query.detach().attention_weights(&keys.detach(), &options)?
        } else {
            Tensor::zeros(&[x.size(0)?, heads, length, 0], x.dtype(), x.device())?
        };
        let choice = self.choice(&weights, length)?;
        out = out.add(&self.chosen(&turned_query, &turned_key, &value, &choice)?.mul(&gate(1)?)?)?;
        self.output.forward(&join_heads(&out)?)
    }
}

impl Module for NativeSparse {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("q_proj", &self.query);
        v.module("k_proj", &self.key);
        v.module("v_proj", &self.value);
        v.module("g_proj", &self.gate);
        v.module("o_proj", &self.output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgrad::Device;

    /// A later token changes nothing before it, and queries see their own block, the one before and the first.
    #[test]
    fn is_causal_and_keeps_what_it_must() {
        let device = Device::new_cpu();
        device.set_seed(3);
        let config =
            NativeSparseConfig { heads: 4, key_heads: 2, head_dim: 8, block: 4, chosen: 3, window: 3, theta: 100.0 };
        let layer = NativeSparse::new(config, 16, &Build::new(&device)).unwrap();
        let x = Tensor::normal(0.0, 1.0, &[1, 22, 16], DType::F32, &device).unwrap();
        let before = layer.mix(&x, &Pass::default()).unwrap();
        let tail = Tensor::normal(0.0, 1.0, &[1, 5, 16], DType::F32, &device).unwrap();
        let changed = Tensor::concat(&[&x.narrow(1, 0, 17).unwrap(), &tail], 1).unwrap();
        let after = layer.mix(&changed, &Pass::default()).unwrap();
        let cut = |x: &Tensor| x.narrow(1, 0, 17).unwrap().to_f64_vec().unwrap();
        assert!(cut(&before).iter().zip(cut(&after)).all(|(a, b)| (a - b).abs() < 1e-5));

        let weights = Tensor::uniform(0.0, 0.2, &[1, 4, 22, 5], DType::F32, &device).unwrap();
        let lists = layer.choice(&weights, 22).unwrap().to_vec::<u32>().unwrap();
        for (row, list) in lists.chunks(3).enumerate() {
            let own = (row % 22 / 4) as u32;
            assert!(list[0] == own && list.contains(&0) && list.contains(&own.saturating_sub(1)), "{row}: {list:?}");
            assert_eq!(list.iter().filter(|&&block| block <= own).count() as u32, 3.min(own + 1));
        }
    }

    /// Going over the chosen blocks alone gives what their mask gives, in value and all gradients.
    #[test]
    fn chosen_blocks_are_their_mask() {
        let device = Device::new_cpu();
        device.set_seed(5);
        let config =
            NativeSparseConfig { heads: 4, key_heads: 2, head_dim: 8, block: 4, chosen: 3, window: 3, theta: 100.0 };
        let layer = NativeSparse::new(config, 16, &Build::new(&device)).unwrap();
        let length = SKIPS[0] * 12 + 3;
        let normal =
            |heads| Tensor::normal(0.0, 1.0, &[2, heads, length, 8], DType::F32, &device).unwrap().requires_grad();
        let x = [normal(4), normal(2), normal(2)];
        let weights = Tensor::uniform(0.0, 0.2, &[2, 4, length, length / 4], DType::F32, &device).unwrap();
        let choice = layer.choice(&weights, length).unwrap();
        let seen = choice.one_hot(length.div_ceil(4)).unwrap().sum(&[3], false).unwrap().cast(DType::Bool).unwrap();
        let seen = seen.repeat_interleave(2, 1).unwrap();
        let mask = Mask::blocks(&seen, 1, 4).and(Mask::causal(0));
        let options = AttentionOptions { mask, ..AttentionOptions::default() };
        let all = |y: Tensor| {
            let gradients = y.square().unwrap().sum_all().unwrap().backward().unwrap();
            let of_x = x.iter().map(|x| gradients.get(x).unwrap().to_f64_vec().unwrap());
            [y.to_f64_vec().unwrap()].into_iter().chain(of_x).flatten().collect::<Vec<f64>>()
        };
        let got = all(layer.chosen(&x[0], &x[1], &x[2], &choice).unwrap());
        let want = all(x[0].attention(&x[1], &x[2], &options).unwrap());
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-4));
    }
}
