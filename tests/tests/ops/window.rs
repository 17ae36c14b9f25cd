//! Tensors larger than what one binding of the device holds: operations work on pieces of them, or say that they cannot.

use std::sync::OnceLock;

use wgrad::nn::Param;
use wgrad::optim::{Adam, Group, Optimizer, Rule};
use wgrad::{
    Activation, CrossEntropy, DType, Device, Epilogue, Error, NormKind, NormOptions, PadMode, Reduction, Result, Tensor,
};
use wgrad_tests::{Random, gpu_with_bindings_of, own};

/// Bytes of a binding; the tensors below take several of it.
const BINDING: u64 = 1 << 16;
const ROWS: usize = 301;
const COLS: usize = 259;

fn values(n: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..n).map(|_| random.normal() as f32).collect()
}

fn matrix(device: &Device, dtype: DType, seed: u64) -> Result<Tensor> {
    Tensor::from_vec(values(ROWS * COLS, seed), &[ROWS, COLS], device)?.cast(dtype)
}

fn vector(device: &Device, dtype: DType, n: usize, seed: u64) -> Result<Tensor> {
    Tensor::from_vec(values(n, seed), &[n], device)?.cast(dtype)
}

/// A GPU that all tests here share, so that kernels are compiled once.
fn small_bindings() -> Option<&'static Device> {
    static GPU: OnceLock<Option<Device>> = OnceLock::new();
    thread_local! {
        static HERE: Option<&'static Device> = own(&GPU, || gpu_with_bindings_of(BINDING));
    }
    HERE.with(|gpu| *gpu)
}

/// What `f` gives on the device whose bindings are small is what it gives on the CPU, with and without gradients.
fn agrees(name: &str, tolerance: f64, f: impl Fn(&Device) -> Result<Vec<Tensor>>) {
    let Some(gpu) = small_bindings() else { return };
    let read = |device: &Device| -> Vec<Vec<f64>> {
        let outputs = f(device).unwrap_or_else(|why| panic!("{name} on {device}: {why}"));
        outputs.iter().map(|y| y.to_f64_vec().unwrap()).collect()
    };
    let (want, got) = (read(&Device::new_cpu()), read(gpu));
    for (want, got) in want.iter().zip(&got) {
        assert_eq!(want.len(), got.len(), "{name}");
        for (i, (a, b)) in want.iter().zip(got).enumerate() {
            assert!((a - b).abs() <= tolerance * a.abs().max(1.0), "{name}, element {i}: {b}, on the CPU {a}");
        }
    }
    gpu.check_guards().unwrap();
}

/// Values and gradients of `sum(f(inputs) * weights)`.
fn with_gradients(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<Vec<Tensor>> {
    let leaves: Vec<Tensor> = inputs.iter().map(Tensor::requires_grad).collect();
    let y = f(&leaves)?;
    let weights = Tensor::from_vec(values(y.elements(), 99), y.shape(), y.device())?.cast(y.dtype())?;
    let gradients = y.mul(&weights)?.sum_all()?.backward()?;
    let mut all = vec![y];
    all.extend(leaves.iter().map(|leaf| gradients.get(leaf).expect("a gradient").clone()));
    Ok(all)
}

#[test]
fn elementwise_operations() {
    for (dtype, tolerance) in [(DType::F32, 1e-4), (DType::BF16, 0.02)] {
        agrees("unary", tolerance, |device| {
            with_gradients(&[matrix(device, dtype, 1)?], |x| x[0].gelu()?.mul_scalar(2.0))
        });
        agrees("rows and columns", tolerance, |device| {
            let (x, row) = (matrix(device, dtype, 1)?, vector(device, dtype, COLS, 2)?);
            let column = vector(device, dtype, ROWS, 3)?.unsqueeze(1)?;
            Ok(vec![x.add(&row)?.mul(&column)?, x.lt(&row)?])
        });
        agrees("choices", tolerance, |device| {
            let x = matrix(device, dtype, 1)?;
            let mask = x.detach().gt(&Tensor::zeros(&[1], dtype, device)?)?;
            with_gradients(&[x], |x| x[0].masked_fill(&mask, -1.0))
        });
        agrees("copies", tolerance, |device| {
            let x = matrix(device, dtype, 1)?;
            Ok(vec![
                x.narrow(0, 7, 290)?.copy()?,
                x.narrow(1, 3, 251)?.copy()?,
                x.narrow(0, 0, 130)?.transpose(0, 1)?.copy()?,
                x.cast(DType::F32)?,
                x.cast(DType::BF16)?,
            ])
        });
    }
    agrees("constants", 0.0, |device| Ok(vec![Tensor::full(3.0, &[ROWS, COLS], DType::F32, device)?]));
    agrees("one long row", 1e-4, |device| {
        let x = Tensor::from_vec(values(100_001, 5), &[100_001], device)?;
        with_gradients(&[x], |x| x[0].sigmoid())
    });
}

#[test]
fn reductions_norms_and_softmax() {
    for (dtype, tolerance) in [(DType::F32, 1e-3), (DType::BF16, 0.05)] {
        agrees("sums", tolerance, |device| {
            let x = matrix(device, dtype, 1)?.mul_scalar(0.1)?;
            Ok(vec![
                x.sum(&[0], false)?,
                x.sum(&[1], false)?,
                x.sum_all()?,
                x.max(&[1], true)?,
                x.max(&[0], true)?,
                x.mean_all()?,
            ])
        });
        agrees("softmax", tolerance, |device| with_gradients(&[matrix(device, dtype, 1)?], |x| x[0].softmax(-1)));
        agrees("log softmax", tolerance, |device| {
            with_gradients(&[matrix(device, dtype, 1)?], |x| x[0].log_softmax(-1))
        });
    }
    agrees("layer norm", 1e-3, |device| {
        let (gain, bias) = (vector(device, DType::F32, COLS, 2)?, vector(device, DType::F32, COLS, 3)?);
        with_gradients(&[matrix(device, DType::F32, 1)?, gain, bias], |x| {
            x[0].layer_norm(Some(&x[1]), Some(&x[2]), 1e-5)
        })
    });
    agrees("rms norm", 1e-3, |device| {
        with_gradients(&[matrix(device, DType::F32, 1)?, vector(device, DType::F32, COLS, 2)?], |x| {
            x[0].rms_norm(Some(&x[1]), 1e-5)
        })
    });
}

/// Words of dropout are counted through all rows, whichever of them a kernel sees.
#[test]
fn norm_of_a_sum_after_dropout() {
    agrees("norm of a sum after dropout", 1e-3, |device| {
        let inputs = [matrix(device, DType::F32, 1)?, matrix(device, DType::F32, 2)?];
        with_gradients(&inputs, |x| {
            let options = NormOptions::new(NormKind::Layer, 1e-5);
            let (y, sum) = crate::random::at(device, 4, || x[0].add_row_norm(&x[1], 0.2, &options))?;
            y.mul(&sum)
        })
    });
}

/// Two more shapes for [`matrix`]: factors of products.
fn factor(device: &Device, dtype: DType, shape: &[usize], seed: u64) -> Result<Tensor> {
    Tensor::from_vec(values(shape.iter().product(), seed), shape, device)?.mul_scalar(0.1)?.cast(dtype)
}

/// Results, operands and sums beyond a binding; columns odd, so that halves share words.
#[test]
fn matrix_products() {
    let factors = |device: &Device, dtype, a: &[usize], b: &[usize]| {
        Ok::<_, Error>([factor(device, dtype, a, 1)?, factor(device, dtype, b, 2)?])
    };
    for (dtype, tolerance) in [(DType::F32, 1e-3), (DType::F16, 0.02)] {
        agrees("product", tolerance, |device| {
            with_gradients(&factors(device, dtype, &[301, 259], &[259, 187])?, |x| x[0].matmul(&x[1]))
        });
        agrees("linear", tolerance, |device| {
            let mut inputs = factors(device, dtype, &[130, 259], &[401, 259])?.to_vec();
            inputs.extend([factor(device, dtype, &[401], 4)?, factor(device, dtype, &[130, 401], 3)?]);
            with_gradients(&inputs, |x| {
                let then = Epilogue { scale: 0.5, activation: Some(Activation::Gelu), residual: Some(x[3].clone()) };
                x[0].linear_then(&x[1], Some(&x[2]), &then)
            })
        });
    }
    for (a, b) in [([3, 30_001], [30_001, 5]), ([2, 17], [17, 40_001])] {
        agrees("long", 1e-3, |device| with_gradients(&factors(device, DType::F32, &a, &b)?, |x| x[0].matmul(&x[1])));
    }
    agrees("a batch, turned", 1e-3, |device| {
        with_gradients(&factors(device, DType::F32, &[5, 3, 131, 67], &[3, 133, 131])?, |x| {
            x[0].transpose(-1, -2)?.matmul(&x[1].transpose(-1, -2)?)
        })
    });
}

fn ids(device: &Device, n: usize, below: usize, seed: u64) -> Result<Tensor> {
    let mut random = Random::new(seed);
    Tensor::from_vec((0..n).map(|_| random.below(below) as u32).collect(), &[n], device)
}

#[test]
fn indexing() {
    for (dtype, tolerance) in [(DType::F32, 1e-3), (DType::BF16, 0.05)] {
        // A table beyond a binding, and more rows of it than a binding holds.
        agrees("embedding", tolerance, |device| {
            let ids = ids(device, 700, ROWS, 4)?;
            with_gradients(&[matrix(device, dtype, 1)?], |x| x[0].embedding(&ids, Some(3)))
        });
        agrees("columns", tolerance, |device| {
            let ids = ids(device, 300, COLS, 4)?;
            with_gradients(&[matrix(device, dtype, 1)?], |x| x[0].index_select(1, &ids))
        });
        agrees("additions", tolerance, |device| {
            let ids = ids(device, 257, ROWS, 5)?;
            let src = factor(device, dtype, &[257, COLS], 6)?;
            with_gradients(&[matrix(device, dtype, 1)?, src], |x| x[0].index_add(0, &ids, &x[1]))
        });
        agrees("elements", tolerance, |device| {
            let ids = ids(device, 201 * COLS, ROWS, 6)?.reshape(&[201, COLS as isize])?;
            let x = [matrix(device, dtype, 1)?, factor(device, dtype, &[201, COLS], 6)?];
            let mut all = with_gradients(&x[..1], |x| x[0].gather(0, &ids))?;
            all.extend(with_gradients(&x, |x| x[0].scatter(0, &ids, &x[1]))?);
            all.extend(with_gradients(&x, |x| x[0].scatter_add(0, &ids, &x[1]))?);
            Ok(all)
        });
        agrees("order", tolerance, |device| {
            let x = matrix(device, dtype, 1)?;
            let mut all = with_gradients(std::slice::from_ref(&x), |x| Ok(x[0].topk(100, 1, true)?.0))?;
            all.extend([x.topk(9, 1, false)?.1, x.argsort(0, false)?, x.argmax(1, false)?, x.argmin(0, false)?]);
            Ok(all)
        });
    }
    agrees("one hot", 0.0, |device| Ok(vec![ids(device, ROWS, COLS, 1)?.one_hot(COLS)?]));
    agrees("extremes of a long row", 0.0, |device| {
        let x = Tensor::from_vec(values(3 * 20_001, 5), &[3, 20_001], device)?;
        Ok(vec![x.argmax(1, false)?, x.reshape(&[1, -1])?.argmin(1, false)?, x.argmax(0, false)?])
    });
}

#[test]
fn joins_views_and_scans() {
    for (dtype, tolerance) in [(DType::F32, 1e-3), (DType::BF16, 0.05)] {
        agrees("joins", tolerance, |device| {
            let inputs = [matrix(device, dtype, 1)?, matrix(device, dtype, 2)?, factor(device, dtype, &[ROWS, 1], 3)?];
            let mut all = with_gradients(&inputs, |x| Tensor::concat(&[&x[0], &x[2], &x[1]], 1))?;
            all.extend(with_gradients(&inputs[..2], |x| Tensor::concat(&[&x[0], &x[1], &x[0]], 0))?);
            all.extend(with_gradients(&inputs[..2], |x| Tensor::stack(&[&x[0], &x[1]], 2))?);
            Ok(all)
        });
        agrees("slices", tolerance, |device| {
            let x = [matrix(device, dtype, 1)?];
            let mut all = with_gradients(&x, |x| x[0].narrow(0, 5, 200))?;
            all.extend(with_gradients(&x, |x| x[0].slice(1, 3, 250, 7))?);
            all.extend(with_gradients(&x, |x| x[0].slice(0, 1, 290, 3))?);
            all.extend(with_gradients(&x, |x| x[0].flip(&[0])?.roll(17, 1)?.pad(&[(1, 2), (0, 3)], PadMode::Reflect))?);
            Ok(all)
        });
        // Two long rows of an odd number of halves: cuts share words.
        agrees("odd rows", tolerance, |device| {
            let x = factor(device, dtype, &[3, 40_001], 1)?;
            let mut all = with_gradients(std::slice::from_ref(&x), |x| x[0].gelu()?.cast(DType::F32))?;
            all.push(x.transpose(0, 1)?.contiguous()?.cast(DType::F16)?);
            all.extend(with_gradients(&[x], |x| x[0].narrow(1, 1, 39_001)?.sum(&[0], false))?);
            Ok(all)
        });
        agrees("gates", tolerance, |device| {
            let x = [matrix(device, dtype, 1)?, matrix(device, dtype, 2)?];
            let mut all = with_gradients(&x, |x| x[0].gated(&x[1], Activation::Silu))?;
            all.extend(with_gradients(&x[..1], |x| x[0].narrow(1, 0, 258)?.glu(1))?);
            Ok(all)
        });
        agrees("running sums", tolerance, |device| {
            let x = [matrix(device, dtype, 1)?.mul_scalar(0.1)?];
            let mut all = with_gradients(&x, |x| x[0].cumsum(0))?;
            all.extend(with_gradients(&x, |x| x[0].cumprod(1))?);
            let blocks = [factor(device, dtype, &[3, 2, 50, 133], 1)?, factor(device, dtype, &[2], 2)?];
            all.extend(with_gradients(&blocks, |x| x[0].decaying_sum(&x[1]))?);
            Ok(all)
        });
    }
    agrees("a long running sum", 1e-2, |device| {
        let x = factor(device, DType::F32, &[2, 30_001], 1)?;
        with_gradients(&[x], |x| x[0].cumsum(1))
    });
}

#[test]
fn random_numbers_are_the_same() {
    agrees("draws", 1e-5, |device| {
        device.set_seed(5);
        let x = matrix(device, DType::F32, 1)?;
        let mut all = vec![
            Tensor::uniform(-1.0, 1.0, &[ROWS, COLS], DType::F32, device)?,
            Tensor::normal(0.0, 1.0, &[100_001], DType::F32, device)?,
            Tensor::bernoulli(0.3, &[ROWS, COLS], device)?,
            Tensor::arange(-5, 70_000, DType::I32, device)?,
        ];
        all.extend(with_gradients(&[x], |x| x[0].dropout(0.3))?);
        Ok(all)
    });
}

#[test]
fn cross_entropies() {
    for (dtype, tolerance) in [(DType::F32, 1e-4), (DType::BF16, 0.05)] {
        agrees("cross-entropy", tolerance, |device| {
            let targets = ids(device, ROWS, COLS, 3)?;
            let weight = vector(device, DType::F32, COLS, 4)?.abs()?;
            let options = CrossEntropy {
                ignore_index: Some(7),
                label_smoothing: 0.1,
                class_weight: Some(weight),
                ..CrossEntropy::default()
            };
            with_gradients(&[matrix(device, dtype, 1)?], |x| x[0].cross_entropy(&targets, &options))
        });
    }
    // So many rows that their statistics alone exceed a binding.
    agrees("many rows", 1e-4, |device| {
        let targets = ids(device, 5001, 3, 3)?;
        let options = CrossEntropy { reduction: Reduction::None, ..CrossEntropy::default() };
        with_gradients(&[factor(device, DType::F32, &[5001, 3], 1)?], |x| x[0].cross_entropy(&targets, &options))
    });
}

/// Losses of a few steps of embedding, linear layer and cross-entropy, whose table, logits and optimizer state take several of the
/// small bindings, and the parameters behind them.
fn losses(device: &Device, dtype: DType) -> Result<Vec<Tensor>> {
    let (vocab, width, tokens) = (401, 67, 120);
    let table = Param::new(&factor(device, DType::F32, &[vocab, width], 1)?.cast(dtype)?)?;
    let weight = Param::new(&factor(device, DType::F32, &[vocab, width], 2)?.cast(dtype)?)?;
    let named = vec![("table".to_string(), table.clone()), ("weight".to_string(), weight.clone())];
    let rule = Rule::AdamW(Adam::default());
    let mut optimizer = Optimizer::new(rule, 0.01, vec![Group::new(named)])?.with_max_norm(1.0)?;
    let mut all = Vec::new();
    for step in 0..4 {
        let (inputs, targets) = (ids(device, tokens, vocab, step)?, ids(device, tokens, vocab, step + 1)?);
        let logits = table.tensor().embedding(&inputs, None)?.linear(&weight.tensor(), None)?;
        let loss = logits.cross_entropy(&targets, &CrossEntropy::default())?;
        optimizer.step(&loss.backward()?)?;
        all.push(loss);
    }
    all.extend([table.tensor().detach(), weight.tensor().detach()]);
    Ok(all)
}

#[test]
fn training() {
    agrees("f32", 1e-4, |device| losses(device, DType::F32));
    agrees("bf16", 0.02, |device| losses(device, DType::BF16));
}

/// Large gradients, which are read where they are: alone, and behind a small one, each in several bindings.
#[test]
fn training_of_large_parameters() {
    let sizes = [10, (1 << 18) + 100, 1 << 18];
    let steps = |device: &Device| -> Result<Vec<Tensor>> {
        let draw = |n: usize, seed| factor(device, DType::F32, &[n], seed);
        let params: Vec<Param> =
            (0..).zip(sizes).map(|(seed, n)| Param::new(&draw(n, seed)?)).collect::<Result<_>>()?;
        let named = params.iter().enumerate().map(|(i, param)| (format!("p{i}"), param.clone())).collect();
        let mut optimizer = Optimizer::new(Rule::AdamW(Adam::default()), 0.01, vec![Group::new(named)])?;
        for step in 0..2 {
            let parts =
                (10..).zip(&params).map(|(seed, p)| p.tensor().mul(&draw(p.elements(), seed + step)?)?.sum_all());
            let parts = parts.collect::<Result<Vec<_>>>()?;
            let loss = parts[0].add(&parts[1])?.add(&parts[2])?;
            optimizer.step(&loss.backward()?)?;
        }
        Ok(params.iter().map(|param| param.tensor().detach()).collect())
    };
    agrees("large parameters", 1e-4, steps);
}

#[test]
fn what_cannot_be_cut_says_so() {
    let Some(gpu) = small_bindings() else { return };
    let x = matrix(gpu, DType::F32, 1).unwrap();
    let refused = |result: Result<Tensor>| match result {
        Err(Error::TooLarge { bytes, limit, .. }) => assert!(limit == BINDING && bytes > limit, "{bytes}"),
        other => panic!("{other:?}"),
    };
    // A single row is longer than a binding.
    refused(Tensor::zeros(&[2, 40_000], DType::F32, gpu).unwrap().softmax(-1));
    assert_eq!(x.to_vec::<f32>().unwrap(), values(ROWS * COLS, 1), "the device goes on");
}
