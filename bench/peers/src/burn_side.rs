//! burn through its wgpu backend, with autotune and fusion, as its users run it.

use burn::module::{Module, Param};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::transformer::{TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput};
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig, RmsNorm, RmsNormConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::module::{attention, embedding, layer_norm};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, DeviceKind, Distribution, Int, Tensor, activation};

use crate::{Args, Result, Step};

const NORMAL: Distribution = Distribution::Normal(0.0, 1.0);

#[derive(Module, Debug)]
struct Mlm {
    tokens: Embedding,
    positions: Embedding,
    encoder: TransformerEncoder,
    head: Linear,
}

impl Mlm {
    fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let [b, l] = ids.dims();
        let places = Tensor::<1, Int>::arange(0..l as i64, &ids.device()).reshape([1, l]).repeat_dim(0, b);
        let x = self.tokens.forward(ids) + self.positions.forward(places);
        self.head.forward(self.encoder.forward(TransformerEncoderInput::new(x)))
    }
}

#[derive(Module, Debug)]
struct Vector {
    value: Param<Tensor<1>>,
}

fn device(args: &mut Args) -> Result<Device> {
    Ok(Device::wgpu(match args.get("device").as_deref() {
        Some("cpu") => DeviceKind::Cpu,
        Some("gpu") => DeviceKind::DiscreteGpu(0),
        None => DeviceKind::DefaultDevice,
        Some(other) => return Err(format!("device={other}: burn takes cpu (a software adapter) and gpu").into()),
    }))
}

/// Reads one element, so that nothing of `y` can be left undone: with fusion, `sync` alone does not wait for operations that no
/// kernel has been made of yet.
fn finish<const D: usize>(y: Tensor<D>) {
    let _first: f32 = y.flatten::<1>(0, D - 1).slice([0..1]).into_scalar();
}

/// Class numbers or token numbers below `bound`.
fn numbers<const D: usize>(shape: [usize; D], bound: usize, device: &Device) -> Tensor<D, Int> {
    Tensor::<D>::random(shape, Distribution::Uniform(0.0, bound as f64 - 0.01), device).int()
}

/// The workload, or None if there is none of this name.
pub fn prepare(workload: &str, args: &mut Args) -> Result<Option<Step>> {
    let plain = device(args)?;
    let backward = workload.ends_with("_bwd");
    let device = if backward { plain.clone().autodiff() } else { plain.clone() };
    let waited = device.clone();
    let sync = move || -> Result<()> { waited.sync().map_err(|why| format!("{why:?}").into()) };
    let step: Step = match workload {
        "matmul" => {
            let (b, m) = (args.number("b", 1)?, args.number("m", 512)?);
            let (n, k) = (args.number("n", 512)?, args.number("k", 512)?);
            let x = Tensor::<3>::random([b, m, k], NORMAL, &device);
            let y = Tensor::<3>::random([b, k, n], NORMAL, &device);
            Box::new(move || {
                finish(x.clone().matmul(y.clone()));
                sync()
            })
        }
        "softmax" => {
            let x = Tensor::<2>::random([args.number("rows", 4096)?, args.number("d", 1024)?], NORMAL, &device);
            Box::new(move || {
                finish(activation::softmax(x.clone(), 1));
                sync()
            })
        }
        "layer_norm" | "layer_norm_bwd" => {
            let (rows, d) = (args.number("rows", 4096)?, args.number("d", 768)?);
            let x = Tensor::<2>::random([rows, d], NORMAL, &device);
            let dy = Tensor::<2>::random([rows, d], NORMAL, &device);
            let (gain, bias) = (Tensor::<1>::ones([d], &device), Tensor::<1>::zeros([d], &device));
            Box::new(move || {
                if backward {
                    let x = x.clone().require_grad();
                    let (gain, bias) = (gain.clone().require_grad(), bias.clone().require_grad());
                    let y = layer_norm(x.clone(), gain.clone(), Some(bias.clone()), 1e-5);
                    let grads = (y * dy.clone()).sum().backward();
                    let _g = (gain.grad(&grads), bias.grad(&grads));
                    x.grad(&grads).map(finish);
                } else {
                    finish(layer_norm(x.clone(), gain.clone(), Some(bias.clone()), 1e-5));
                }
                sync()
            })
        }
        "rms_norm" | "rms_norm_bwd" => {
            let (rows, d) = (args.number("rows", 4096)?, args.number("d", 768)?);
            let x = Tensor::<2>::random([rows, d], NORMAL, &device);
            let dy = Tensor::<2>::random([rows, d], NORMAL, &device);
            let norm: RmsNorm = RmsNormConfig::new(d).init(&device);
            Box::new(move || {
                if backward {
                    let x = x.clone().require_grad();
                    let grads = (norm.forward(x.clone()) * dy.clone()).sum().backward();
                    let _g = norm.gamma.val().grad(&grads);
                    x.grad(&grads).map(finish);
                } else {
                    finish(norm.forward(x.clone()));
                }
                sync()
            })
        }
        "cross_entropy" | "cross_entropy_bwd" => {
            let (rows, vocab) = (args.number("rows", 1024)?, args.number("vocab", 8192)?);
            let logits = Tensor::<2>::random([rows, vocab], NORMAL, &device);
            let targets = numbers([rows], vocab, &device);
            let loss = CrossEntropyLossConfig::new().init(&device);
            Box::new(move || {
                if backward {
                    let logits = logits.clone().require_grad();
                    let grads = loss.forward(logits.clone(), targets.clone()).backward();
                    logits.grad(&grads).map(finish);
                } else {
                    finish(loss.forward(logits.clone(), targets.clone()));
                }
                sync()
            })
        }
        "attention" | "attention_bwd" => {
            let shape = [args.number("b", 1)?, args.number("h", 8)?, args.number("l", 512)?, args.number("dh", 64)?];
            let causal = args.number("causal", 0)? == 1;
            let [q, k, v, dy] = [0; 4].map(|_| Tensor::<4>::random(shape, NORMAL, &device));
            let options = move || AttentionModuleOptions { is_causal: causal, ..Default::default() };
            Box::new(move || {
                if backward {
                    let [q, k, v] = [&q, &k, &v].map(|x| x.clone().require_grad());
                    let y = attention(q.clone(), k.clone(), v.clone(), None, None, options());
                    let grads = (y * dy.clone()).sum().backward();
                    let _g = (q.grad(&grads), k.grad(&grads));
                    v.grad(&grads).map(finish);
                } else {
                    finish(attention(q.clone(), k.clone(), v.clone(), None, None, options()));
                }
                sync()
            })
        }
        "elementwise" | "elementwise_bwd" => {
            let n = args.number("n", 1 << 22)?;
            let op = args.get("op").unwrap_or_else(|| "add".into());
            let width = if op == "bias_gelu" { 1024 } else { n };
            let x = Tensor::<2>::random([n / width, width], NORMAL, &device);
            let other = Tensor::<2>::random([1, width], NORMAL, &device);
            let dy = Tensor::<2>::random([n / width, width], NORMAL, &device);
            let apply: fn(Tensor<2>, Tensor<2>) -> Tensor<2> = match op.as_str() {
                "add" => |x, y| x + y,
                "gelu" => |x, _| activation::gelu(x),
                "bias_gelu" => |x, y| activation::gelu(x + y),
                other => return Err(format!("op={other} is not run here").into()),
            };
            Box::new(move || {
                if backward {
                    let (x, other) = (x.clone().require_grad(), other.clone().require_grad());
                    let grads = (apply(x.clone(), other.clone()) * dy.clone()).sum().backward();
                    let _g = other.grad(&grads);
                    x.grad(&grads).map(finish);
                } else {
                    finish(apply(x.clone(), other.clone()));
                }
                sync()
            })
        }
        "reduce" => {
            let n = args.number("n", 1 << 22)?;
            let over = args.get("over").unwrap_or_else(|| "all".into());
            let width = if over == "all" { n } else { (n as f64).sqrt() as usize };
            let x = Tensor::<2>::random([n / width, width], NORMAL, &device);
            Box::new(move || {
                match over.as_str() {
                    "rows" => finish(x.clone().sum_dim(1)),
                    "columns" => finish(x.clone().sum_dim(0)),
                    _ => finish(x.clone().sum()),
                }
                sync()
            })
        }
        "embedding" | "embedding_bwd" => {
            let (vocab, d, n) = (args.number("vocab", 8192)?, args.number("d", 256)?, args.number("n", 4096)?);
            let table = Tensor::<2>::random([vocab, d], NORMAL, &device);
            let dy = Tensor::<3>::random([1, n, d], NORMAL, &device);
            let ids = numbers([1, n], vocab, &device);
            Box::new(move || {
                if backward {
                    let table = table.clone().require_grad();
                    let grads = (embedding(table.clone(), ids.clone()) * dy.clone()).sum().backward();
                    table.grad(&grads).map(finish);
                } else {
                    finish(embedding(table.clone(), ids.clone()));
                }
                sync()
            })
        }
        "adamw" => {
            let n = args.number("n", 1 << 22)?;
            let autodiff = plain.clone().autodiff();
            let param = Param::from_tensor(Tensor::<1>::random([n], NORMAL, &autodiff));
            let id = param.id;
            let mut model = Some(Vector { value: param });
            let gradient = Tensor::<1>::random([n], NORMAL, &plain);
            let mut optimizer = AdamWConfig::new().init();
            Box::new(move || {
                let mut gradients = GradientsParams::new();
                gradients.register(id, gradient.clone());
                model = model.take().map(|vector| optimizer.step(1e-3, vector, gradients));
                sync()
            })
        }
        "mlm_step" => {
            let (b, l, d) = (args.number("b", 8)?, args.number("l", 128)?, args.number("d", 256)?);
            let (h, layers, vocab) = (args.number("h", 4)?, args.number("layers", 4)?, args.number("vocab", 8192)?);
            let autodiff = plain.clone().autodiff();
            let encoder = TransformerEncoderConfig::new(d, 4 * d, h, layers).with_dropout(0.0).with_norm_first(true);
            let mut model = Some(Mlm {
                tokens: EmbeddingConfig::new(vocab, d).init(&autodiff),
                positions: EmbeddingConfig::new(l, d).init(&autodiff),
                encoder: encoder.init(&autodiff),
                head: LinearConfig::new(d, vocab).init(&autodiff),
            });
            let mut optimizer = AdamWConfig::new().init();
            let (ids, targets) = (numbers([b, l], vocab, &autodiff), numbers([b * l], vocab, &autodiff));
            let loss = CrossEntropyLossConfig::new().init(&autodiff);
            Box::new(move || {
                let Some(mlm) = model.take() else { return Err("the last step failed".into()) };
                let logits = mlm.forward(ids.clone()).reshape([b * l, vocab]);
                let loss = loss.forward(logits, targets.clone());
                let gradients = GradientsParams::from_grads(loss.backward(), &mlm);
                model = Some(optimizer.step(1e-4, mlm, gradients));
                let _loss: f32 = loss.into_scalar();
                sync()
            })
        }
        _ => return Ok(None),
    };
    Ok(Some(step))
}
