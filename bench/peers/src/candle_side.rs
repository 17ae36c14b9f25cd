//! candle on the CPU, with its fused operations where it has them; its differentiable compositions where it is to differentiate.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, loss, ops};

use crate::{Args, Result, Step};

fn normal(shape: &[usize]) -> candle_core::Result<Tensor> {
    Tensor::randn(0f32, 1f32, shape, &Device::Cpu)
}

fn var(shape: &[usize]) -> candle_core::Result<Var> {
    Var::from_tensor(&normal(shape)?)
}

/// Class numbers or token numbers below `bound`.
fn numbers(count: usize, bound: usize) -> candle_core::Result<Tensor> {
    Tensor::rand(0f32, bound as f32 - 0.01, count, &Device::Cpu)?.to_dtype(DType::U32)
}

fn backward_of(y: &Tensor, dy: &Tensor) -> Result<()> {
    let _gradients = (y * dy)?.sum_all()?.backward()?;
    Ok(())
}

/// The workload, or None if there is none of this name.
pub fn prepare(workload: &str, args: &mut Args) -> Result<Option<Step>> {
    if args.get("device").is_some_and(|device| device != "cpu") {
        return Err("candle runs here with device=cpu only".into());
    }
    let backward = workload.ends_with("_bwd");
    let step: Step = match workload {
        "matmul" => {
            let (b, m) = (args.number("b", 1)?, args.number("m", 512)?);
            let (n, k) = (args.number("n", 512)?, args.number("k", 512)?);
            let (x, y) = (normal(&[b, m, k])?, normal(&[b, k, n])?);
            Box::new(move || {
                x.matmul(&y)?;
                Ok(())
            })
        }
        "softmax" => {
            let x = normal(&[args.number("rows", 4096)?, args.number("d", 1024)?])?;
            Box::new(move || {
                ops::softmax_last_dim(&x)?;
                Ok(())
            })
        }
        "layer_norm" | "layer_norm_bwd" | "rms_norm" | "rms_norm_bwd" => {
            let (rows, d) = (args.number("rows", 4096)?, args.number("d", 768)?);
            let (x, gain, bias) = (var(&[rows, d])?, var(&[d])?, var(&[d])?);
            let dy = normal(&[rows, d])?;
            let rms = workload.starts_with("rms");
            Box::new(move || {
                let _y = match (rms, backward) {
                    (false, false) => ops::layer_norm(&x, &gain, &bias, 1e-5)?,
                    (true, false) => ops::rms_norm(&x, &gain, 1e-5)?,
                    (false, true) => return backward_of(&ops::layer_norm_slow(&x, &gain, &bias, 1e-5)?, &dy),
                    (true, true) => return backward_of(&ops::rms_norm_slow(&x, &gain, 1e-5)?, &dy),
                };
                Ok(())
            })
        }
        "cross_entropy" | "cross_entropy_bwd" => {
            let (rows, vocab) = (args.number("rows", 1024)?, args.number("vocab", 8192)?);
            let (logits, targets) = (var(&[rows, vocab])?, numbers(rows, vocab)?);
            Box::new(move || {
                let loss = loss::cross_entropy(&logits, &targets)?;
                if backward {
                    loss.backward()?;
                }
                Ok(())
            })
        }
        "attention" | "attention_bwd" => {
            let shape = [args.number("b", 1)?, args.number("h", 8)?, args.number("l", 512)?, args.number("dh", 64)?];
            let [_, _, l, dh] = shape;
            let later = match args.number("causal", 0)? {
                1 => {
                    let later = (0..l * l).map(|i| if i % l > i / l { -1e30f32 } else { 0.0 }).collect();
                    Some(Tensor::from_vec(later, (l, l), &Device::Cpu)?)
                }
                _ => None,
            };
            let (q, k, v) = (var(&shape)?, var(&shape)?, var(&shape)?);
            let dy = normal(&shape)?;
            let scale = 1.0 / (dh as f64).sqrt();
            Box::new(move || {
                let scores = (q.matmul(&k.t()?)? * scale)?;
                let scores = match &later {
                    Some(later) => scores.broadcast_add(later)?,
                    None => scores,
                };
                let weights = if backward { ops::softmax(&scores, 3)? } else { ops::softmax_last_dim(&scores)? };
                let y = weights.matmul(&v)?;
                if backward { backward_of(&y, &dy) } else { Ok(()) }
            })
        }
        "elementwise" | "elementwise_bwd" => {
            let n = args.number("n", 1 << 22)?;
            let op = args.get("op").unwrap_or_else(|| "add".into());
            let width = if op == "bias_gelu" { 1024 } else { n };
            let (x, other) = (var(&[n / width, width])?, var(&[1, width])?);
            let dy = normal(&[n / width, width])?;
            if !["add", "gelu", "bias_gelu"].contains(&op.as_str()) {
                return Err(format!("op={op} is not run here").into());
            }
            Box::new(move || {
                let y = match op.as_str() {
                    "add" => (x.as_tensor() + other.as_tensor())?,
                    "gelu" => x.gelu_erf()?,
                    _ => x.broadcast_add(&other)?.gelu_erf()?,
                };
                if backward { backward_of(&y, &dy) } else { Ok(()) }
            })
        }
        "reduce" => {
            let n = args.number("n", 1 << 22)?;
            let over = args.get("over").unwrap_or_else(|| "all".into());
            let width = if over == "all" { n } else { (n as f64).sqrt() as usize };
            let x = normal(&[n / width, width])?;
            Box::new(move || {
                match over.as_str() {
                    "rows" => x.sum(1)?,
                    "columns" => x.sum(0)?,
                    _ => x.sum_all()?,
                };
                Ok(())
            })
        }
        "embedding" | "embedding_bwd" => {
            let (vocab, d, n) = (args.number("vocab", 8192)?, args.number("d", 256)?, args.number("n", 4096)?);
            let (table, ids, dy) = (var(&[vocab, d])?, numbers(n, vocab)?, normal(&[n, d])?);
            Box::new(move || {
                let y = table.embedding(&ids)?;
                if backward { backward_of(&y, &dy) } else { Ok(()) }
            })
        }
        "copy" => {
            let x = normal(&[args.number("n", 1 << 22)?])?;
            Box::new(move || {
                x.copy()?;
                Ok(())
            })
        }
        "adamw" => {
            let param = var(&[args.number("n", 1 << 22)?])?;
            let dy = normal(param.dims())?;
            let gradients = (param.as_tensor() * &dy)?.sum_all()?.backward()?;
            let mut optimizer = AdamW::new(vec![param], ParamsAdamW { lr: 1e-3, ..Default::default() })?;
            Box::new(move || Ok(optimizer.step(&gradients)?))
        }
        "mlm_step" => mlm_step(args)?,
        _ => return crate::candle_lm::prepare(workload, args),
    };
    Ok(Some(step))
}

struct Linear {
    weight: Var,
    bias: Var,
}

impl Linear {
    fn new(inputs: usize, outputs: usize, all: &mut Vec<Var>) -> Result<Self> {
        let bound = 1.0 / (inputs as f32).sqrt();
        let weight = Var::from_tensor(&Tensor::rand(-bound, bound, (outputs, inputs), &Device::Cpu)?)?;
        let bias = Var::zeros(outputs, DType::F32, &Device::Cpu)?;
        all.extend([weight.clone(), bias.clone()]);
        Ok(Linear { weight, bias })
    }

    /// `x` is `[tokens, inputs]`.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        x.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)
    }
}

struct Block {
    norms: [(Var, Var); 2],
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    up: Linear,
    down: Linear,
}

/// The model of wgrad-bench: pre-norm encoder, four times the width inside, GELU, no dropout, AdamW.
fn mlm_step(args: &mut Args) -> Result<Step> {
    let (b, l, d) = (args.number("b", 8)?, args.number("l", 128)?, args.number("d", 256)?);
    let (h, layers, vocab) = (args.number("h", 4)?, args.number("layers", 4)?, args.number("vocab", 8192)?);
    let mut all = Vec::new();
    let (tokens, positions) = (var(&[vocab, d])?, var(&[l, d])?);
    all.extend([tokens.clone(), positions.clone()]);
    let mut blocks = Vec::new();
    for _ in 0..layers {
        let norm = |all: &mut Vec<Var>| -> Result<(Var, Var)> {
            let gain = Var::ones(d, DType::F32, &Device::Cpu)?;
            let bias = Var::zeros(d, DType::F32, &Device::Cpu)?;
            all.extend([gain.clone(), bias.clone()]);
            Ok((gain, bias))
        };
        blocks.push(Block {
            norms: [norm(&mut all)?, norm(&mut all)?],
            query: Linear::new(d, d, &mut all)?,
            key: Linear::new(d, d, &mut all)?,
            value: Linear::new(d, d, &mut all)?,
            output: Linear::new(d, d, &mut all)?,
            up: Linear::new(d, 4 * d, &mut all)?,
            down: Linear::new(4 * d, d, &mut all)?,
        });
    }
    let head = Linear::new(d, vocab, &mut all)?;
    let (ids, targets) = (numbers(b * l, vocab)?, numbers(b * l, vocab)?);
    let mut optimizer = AdamW::new(all, ParamsAdamW { lr: 1e-4, ..Default::default() })?;
    Ok(Box::new(move || {
        let norm = |x: &Tensor, (gain, bias): &(Var, Var)| ops::layer_norm_slow(x, gain, bias, 1e-5);
        let heads = |x: Tensor| x.reshape((b, l, h, d / h))?.transpose(1, 2)?.contiguous();
        let mut x = tokens.embedding(&ids)?.reshape((b, l, d))?.broadcast_add(&positions)?.reshape((b * l, d))?;
        for block in &blocks {
            let y = norm(&x, &block.norms[0])?;
            let [q, k, v] = [&block.query, &block.key, &block.value].map(|linear| heads(linear.forward(&y)?));
            let scores = (q?.matmul(&k?.t()?)? / ((d / h) as f64).sqrt())?;
            let y = ops::softmax(&scores, 3)?.matmul(&v?)?.transpose(1, 2)?.reshape((b * l, d))?;
            x = (x + block.output.forward(&y)?)?;
            let y = block.up.forward(&norm(&x, &block.norms[1])?)?.gelu_erf()?;
            x = (x + block.down.forward(&y)?)?;
        }
        let loss = loss::cross_entropy(&head.forward(&x)?, &targets)?;
        optimizer.step(&loss.backward()?)?;
        loss.to_scalar::<f32>()?;
        Ok(())
    }))
}
