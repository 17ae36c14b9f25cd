//! Language models in candle on the CPU, as candle-transformers builds them: its fused norms, softmax and rotary positions, and a cache
//! of keys and values that is made once.

use candle_core::{D, DType, Device, IndexOp, Tensor};
use candle_nn::kv_cache::KvCache;
use candle_nn::{ops, rotary_emb};

use crate::{Args, Result, Step};

struct Shape {
    llama: bool,
    vocab: usize,
    width: usize,
    inner: usize,
    layers: usize,
    heads: usize,
    key_heads: usize,
    positions: usize,
}

struct Block {
    norms: [(Tensor, Tensor); 2],
    /// Of GPT-2 one matrix, of Llama three.
    attend: Vec<(Tensor, Option<Tensor>)>,
    output: (Tensor, Option<Tensor>),
    /// Of Llama gate and up.
    up: Vec<(Tensor, Option<Tensor>)>,
    down: (Tensor, Option<Tensor>),
}

struct Model {
    shape: Shape,
    tokens: Tensor,
    positions: Option<Tensor>,
    turns: Option<(Tensor, Tensor)>,
    blocks: Vec<Block>,
    norm: (Tensor, Tensor),
}

fn linear(x: &Tensor, (weight, bias): &(Tensor, Option<Tensor>)) -> candle_core::Result<Tensor> {
    let y = x.matmul(&weight.t()?)?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

impl Model {
    fn new(name: &str, most: usize) -> Result<Self> {
        let shape = match name {
            "gpt2" => Shape {
                llama: false,
                vocab: 50257,
                width: 768,
                inner: 3072,
                layers: 12,
                heads: 12,
                key_heads: 12,
                positions: most,
            },
            "llama" => Shape {
                llama: true,
                vocab: 128_256,
                width: 2048,
                inner: 8192,
                layers: 16,
                heads: 32,
                key_heads: 8,
                positions: most,
            },
            other => return Err(format!("shape={other}: expected gpt2 or llama").into()),
        };
        let Shape { llama, vocab, width, inner, layers, heads, key_heads, positions } = shape;
        let cpu = &Device::Cpu;
        let weight = |outputs: usize, inputs: usize| Tensor::randn(0f32, 0.02f32, (outputs, inputs), cpu);
        let layer = |outputs: usize, inputs: usize| -> candle_core::Result<(Tensor, Option<Tensor>)> {
            let bias = if llama { None } else { Some(Tensor::zeros(outputs, DType::F32, cpu)?) };
            Ok((weight(outputs, inputs)?, bias))
        };
        let norm = || -> candle_core::Result<(Tensor, Tensor)> {
            Ok((Tensor::ones(width, DType::F32, cpu)?, Tensor::zeros(width, DType::F32, cpu)?))
        };
        let head_dim = width / heads;
        let block = |_| -> candle_core::Result<Block> {
            let attend: Vec<usize> =
                if llama { vec![width, key_heads * head_dim, key_heads * head_dim] } else { vec![3 * width] };
            let up = vec![inner; if llama { 2 } else { 1 }];
            Ok(Block {
                norms: [norm()?, norm()?],
                attend: attend.into_iter().map(|outputs| layer(outputs, width)).collect::<candle_core::Result<_>>()?,
                output: layer(width, width)?,
                up: up.into_iter().map(|outputs| layer(outputs, width)).collect::<candle_core::Result<_>>()?,
                down: layer(width, inner)?,
            })
        };
        let turns = if llama {
            let half = head_dim / 2;
            let rates = (0..half).map(|i| 500_000f32.powf(-(i as f32) / half as f32)).collect();
            let rates = Tensor::from_vec(rates, (1, half), cpu)?;
            let places = Tensor::arange(0f32, positions as f32, cpu)?.reshape((positions, 1))?;
            let angles = places.matmul(&rates)?;
            Some((angles.cos()?, angles.sin()?))
        } else {
            None
        };
        Ok(Model {
            tokens: weight(vocab, width)?,
            positions: if llama { None } else { Some(weight(positions, width)?) },
            turns,
            blocks: (0..layers).map(block).collect::<candle_core::Result<_>>()?,
            norm: norm()?,
            shape,
        })
    }

    fn norm(&self, x: &Tensor, (gain, bias): &(Tensor, Tensor)) -> candle_core::Result<Tensor> {
        if self.shape.llama { ops::rms_norm(x, gain, 1e-5) } else { ops::layer_norm(x, gain, bias, 1e-5) }
    }

    /// Logits of the token after `ids`, which come after those in the caches.
    fn next(&self, ids: &Tensor, caches: &mut [KvCache]) -> candle_core::Result<Tensor> {
        let Shape { llama, width, heads, key_heads, .. } = self.shape;
        let (length, past, head_dim) = (ids.dim(0)?, caches[0].current_seq_len(), width / heads);
        let mut x = self.tokens.embedding(ids)?;
        if let Some(positions) = &self.positions {
            x = (x + positions.narrow(0, past, length)?)?;
        }
        let split = |x: Tensor, heads: usize| x.reshape((1, length, heads, head_dim))?.transpose(1, 2)?.contiguous();
        let hidden = if length > 1 {
            let rows = 0..length * (past + length);
            let hide = |i| if i % (past + length) > past + i / (past + length) { f32::NEG_INFINITY } else { 0.0 };
            Some(Tensor::from_vec(rows.map(hide).collect(), (length, past + length), &Device::Cpu)?)
        } else {
            None
        };
        for (block, cache) in self.blocks.iter().zip(caches) {
            let y = self.norm(&x, &block.norms[0])?;
            let parts: Vec<Tensor> = if llama {
                block.attend.iter().map(|layer| linear(&y, layer)).collect::<candle_core::Result<_>>()?
            } else {
                linear(&y, &block.attend[0])?.chunk(3, D::Minus1)?
            };
            let mut q = split(parts[0].clone(), heads)?;
            let (mut k, v) = (split(parts[1].clone(), key_heads)?, split(parts[2].clone(), key_heads)?);
            if let Some((cos, sin)) = &self.turns {
                let (cos, sin) = (cos.narrow(0, past, length)?, sin.narrow(0, past, length)?);
                (q, k) = (rotary_emb::rope(&q, &cos, &sin)?, rotary_emb::rope(&k, &cos, &sin)?);
            }
            let (mut k, mut v) = cache.append(&k, &v)?;
            let group = heads / key_heads;
            if group > 1 {
                let all = past + length;
                let repeated = |x: &Tensor| {
                    let x = x.unsqueeze(2)?.expand((1, key_heads, group, all, head_dim))?;
                    x.reshape((1, heads, all, head_dim))
                };
                (k, v) = (repeated(&k)?, repeated(&v)?);
            }
            let scores = (q.matmul(&k.t()?)? / (head_dim as f64).sqrt())?;
            let scores = match &hidden {
                Some(hidden) => scores.broadcast_add(hidden)?,
                None => scores,
            };
            let y = ops::softmax_last_dim(&scores)?.matmul(&v)?.transpose(1, 2)?.reshape((length, width))?;
            x = (x + linear(&y, &block.output)?)?;
            let y = self.norm(&x, &block.norms[1])?;
            let inner = if llama {
                (linear(&y, &block.up[0])?.silu()? * linear(&y, &block.up[1])?)?
            } else {
                linear(&y, &block.up[0])?.gelu()?
            };
            x = (x + linear(&inner, &block.down)?)?;
        }
        let last = self.norm(&x.i(length - 1..)?.contiguous()?, &self.norm)?;
        last.matmul(&self.tokens.t()?)
    }
}

/// `lm_prefill shape l` and `lm_decode shape past`.
pub fn prepare(workload: &str, args: &mut Args) -> Result<Option<Step>> {
    let shape = args.get("shape").unwrap_or_else(|| "gpt2".into());
    let prefill = match workload {
        "lm_prefill" => true,
        "lm_decode" => false,
        _ => return Ok(None),
    };
    let tokens = args.number(if prefill { "l" } else { "past" }, 128)?;
    let most = tokens + 512;
    let model = Model::new(&shape, most)?;
    let caches = move |layers: usize| -> Vec<KvCache> { (0..layers).map(|_| KvCache::new(2, most)).collect() };
    let layers = model.shape.layers;
    let ids = Tensor::rand(0f32, model.shape.vocab as f32 - 0.01, tokens, &Device::Cpu)?.to_dtype(DType::U32)?;
    if prefill {
        return Ok(Some(Box::new(move || {
            model.next(&ids, &mut caches(layers))?;
            Ok(())
        })));
    }
    let mut filled = caches(layers);
    model.next(&ids, &mut filled)?;
    let last = ids.i(..1)?;
    Ok(Some(Box::new(move || {
        if filled[0].current_seq_len() == most {
            return Err("lm_decode runs at most 512 times here".into());
        }
        model.next(&last, &mut filled)?;
        Ok(())
    })))
}
