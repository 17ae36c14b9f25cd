//! Norms with state: every pass against the recurrences of the papers in plain f64, one number after the other; and what the papers
//! claim of them.

mod online;
mod power;
mod unified;

use wgrad::nn::{Build, Module, Param};
use wgrad::{DType, Device, Tensor, autograd, checkpoint};
use wgrad_models::norm::{
    AlphaBatchNorm, OnlineNorm, OnlineNormConfig, PowerNorm, PowerNormConfig, UnifiedNorm, UnifiedNormConfig,
};
use wgrad_tests::{Random, Tolerance, compare, each_device, gpu};

/// Rows, each with its channels.
type Matrix = Vec<Vec<f64>>;

fn draw(rows: usize, channels: usize, scale: f64, random: &mut Random) -> Matrix {
    (0..rows).map(|_| (0..channels).map(|c| scale * (1.0 + c as f64) * random.normal() + 0.3).collect()).collect()
}

fn tensor(x: &Matrix, dtype: DType, device: &Device) -> Tensor {
    let values: Vec<f32> = x.iter().flatten().map(|&v| v as f32).collect();
    let wide: Vec<f64> = x.iter().flatten().copied().collect();
    let shape = [x.len(), x[0].len()];
    match dtype {
        DType::F64 => Tensor::from_vec(wide, &shape, device).unwrap(),
        _ => Tensor::from_vec(values, &shape, device).unwrap().cast(dtype).unwrap(),
    }
}

fn param(module: &dyn Module, name: &str) -> Param {
    module.named_parameters().into_iter().find(|(known, _)| known == name).expect(name).1
}

fn value(module: &dyn Module, name: &str) -> Vec<f64> {
    param(module, name).tensor().to_f64_vec().unwrap()
}

/// The mean of `f(row, channel)` over the rows that count.
fn mean(valid: &[bool], channel: usize, f: impl Fn(usize, usize) -> f64) -> f64 {
    let rows: Vec<usize> = (0..valid.len()).filter(|&i| valid[i]).collect();
    rows.iter().map(|&i| f(i, channel)).sum::<f64>() / rows.len() as f64
}

/// f64 on the CPU with narrow tolerance, f32 on the GPU with a wide one, and halves, which round what is kept, with the widest.
fn settings() -> Vec<(Device, DType, f64)> {
    let cpu = Device::cpu();
    let mut all = vec![(cpu.clone(), DType::F64, 1e-10), (cpu.clone(), DType::F16, 1e-2), (cpu, DType::BF16, 8e-2)];
    all.extend(gpu().map(|gpu| (gpu.clone(), DType::F32, 2e-4)));
    all
}

#[track_caller]
fn close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    let largest = want.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
    let tolerance = Tolerance { atol: tolerance * largest, rtol: tolerance };
    if let Err(why) = compare(got, want, tolerance) {
        panic!("{what}: {why}");
    }
}

type Forward = dyn Fn(&Tensor) -> wgrad_models::Result<Tensor> + Send + Sync;

/// Every norm with state, by name: the module, and its forward pass.
fn all(device: &Device, channels: usize) -> Vec<(&'static str, Box<dyn Module>, Box<Forward>)> {
    let build = Build::new(device);
    fn boxed<M: Module + Send + Sync + 'static>(
        name: &'static str,
        module: M,
        forward: fn(&M, &Tensor) -> wgrad_models::Result<Tensor>,
    ) -> (&'static str, Box<dyn Module>, Box<Forward>) {
        struct Shared<M>(std::sync::Arc<M>);
        impl<M: Module> Module for Shared<M> {
            fn visit(&self, v: &mut wgrad::nn::Visitor<'_>) {
                self.0.visit(v);
            }
        }
        let module = std::sync::Arc::new(module);
        let shared = module.clone();
        (name, Box::new(Shared(module)), Box::new(move |x| forward(&shared, x)))
    }
    let power = PowerNormConfig { warmup: 2, groups: Some(2), ..PowerNormConfig::default() };
    let unified = UnifiedNormConfig { warmup: 2, window: 2, filter: true, ..UnifiedNormConfig::default() };
    let online = OnlineNormConfig { forward_keep: 0.9, backward_keep: 0.9, ..OnlineNormConfig::default() };
    vec![
        boxed("power", PowerNorm::new(power, channels, &build).unwrap(), |n, x| n.forward(x, None)),
        boxed("unified", UnifiedNorm::new(unified, channels, &build).unwrap(), |n, x| n.forward(x, None)),
        boxed("online", OnlineNorm::new(online, channels, &build).unwrap(), |n, x| n.forward(x)),
    ]
}

fn states(module: &dyn Module) -> Vec<f64> {
    module.named_parameters().iter().flat_map(|(_, p)| p.tensor().to_f64_vec().unwrap()).collect()
}

/// Results, gradients and states are the same whether activations are kept or computed again.
#[test]
fn checkpoints_move_the_state_once() {
    each_device(|device| {
        let (plain, checked) = (all(device, 4), all(device, 4));
        for ((name, module, forward), (_, other, again)) in plain.into_iter().zip(checked) {
            let again = std::sync::Arc::new(again);
            let mut random = Random::new(4);
            for _ in 0..5 {
                let x = tensor(&draw(6, 4, 1.0, &mut random), DType::F32, device).requires_grad();
                let dy = tensor(&draw(6, 4, 1.0, &mut random), DType::F32, device);
                let y = forward(&x).unwrap();
                let a = autograd::backward(&[(&y, dy.clone())], &[], false).unwrap();
                let f = again.clone();
                let run = move |x: &[Tensor]| {
                    let failed = |e: wgrad_models::Error| wgrad::Error::argument("checkpoint", e.to_string());
                    Ok(vec![f(&x[0]).map_err(failed)?.mul_scalar(1.0)?])
                };
                let z = checkpoint(run, &[&x]).unwrap().remove(0);
                let b = autograd::backward(&[(&z, dy)], &[], false).unwrap();
                assert_eq!(y.to_f64_vec().unwrap(), z.to_f64_vec().unwrap(), "{name}: results");
                let gradient = |g: &wgrad::Gradients| g.get(&x).unwrap().to_f64_vec().unwrap();
                assert_eq!(gradient(&a), gradient(&b), "{name}: gradients");
                assert_eq!(states(&*module), states(&*other), "{name}: states");
            }
        }
    });
}

/// In evaluation a row's result does not depend on the others, and no state moves.
#[test]
fn evaluation_uses_no_statistic_of_the_batch() {
    let device = Device::cpu();
    for (name, module, forward) in all(&device, 4) {
        let mut random = Random::new(5);
        for _ in 0..4 {
            let x = tensor(&draw(6, 4, 1.0, &mut random), DType::F32, &device);
            forward(&x).unwrap();
        }
        module.train(false);
        let before = states(&*module);
        let x = tensor(&draw(6, 4, 3.0, &mut random), DType::F32, &device);
        let together = forward(&x).unwrap().to_f64_vec().unwrap();
        let alone: Vec<f64> =
            (0..6).flat_map(|i| forward(&x.narrow(0, i, 1).unwrap()).unwrap().to_f64_vec().unwrap()).collect();
        assert_eq!(together, alone, "{name}");
        assert_eq!(before, states(&*module), "{name}");
    }
}

/// The ends are plain batch norm in evaluation and that of the test batch, to the bit; in between, statistics are mixed.
#[test]
fn alpha_mixes_statistics() {
    each_device(|device| {
        let mut random = Random::new(11);
        let x = tensor(&draw(40, 3, 2.0, &mut random), DType::F32, device);
        let at = |alpha: f64| {
            let norm = AlphaBatchNorm::new(alpha, 1e-5, 3, &Build::new(device)).unwrap();
            norm.forward(&x, None).unwrap().to_f64_vec().unwrap()
        };
        let source = x.mul(&Tensor::ones(&[3], DType::F32, device).unwrap().add_scalar(1e-5).unwrap().rsqrt().unwrap());
        assert_eq!(at(1.0), source.unwrap().to_f64_vec().unwrap());
        let mean = x.mean(&[0], false).unwrap();
        let centred = x.sub(&mean).unwrap();
        let var = centred.square().unwrap().mean(&[0], false).unwrap();
        let batch = centred.mul(&var.add_scalar(1e-5).unwrap().rsqrt().unwrap()).unwrap();
        assert_eq!(at(0.0), batch.to_f64_vec().unwrap());
        let mixed = x.sub(&mean.mul_scalar(0.1).unwrap()).unwrap();
        let var = var.mul_scalar(0.1).unwrap().add_scalar(0.9).unwrap();
        let mixed = mixed.div(&var.add_scalar(1e-5).unwrap().sqrt().unwrap()).unwrap();
        close("a tenth of the batch", &at(0.9), &mixed.to_f64_vec().unwrap(), 1e-5);
        for (dtype, tolerance) in [(DType::F16, 5e-3), (DType::BF16, 4e-2)] {
            let norm = AlphaBatchNorm::new(0.9, 1e-5, 3, &Build::new(device).with_dtype(dtype)).unwrap();
            let half = norm.forward(&x.cast(dtype).unwrap(), None).unwrap();
            assert_eq!(half.dtype(), dtype);
            close("a tenth of the batch in halves", &half.to_f64_vec().unwrap(), &at(0.9), tolerance);
        }
    });
    assert!(AlphaBatchNorm::new(1.1, 1e-5, 3, &Build::new(&Device::cpu())).is_err());
}

#[test]
fn bad_input() {
    let device = Device::cpu();
    let build = Build::new(&device);
    let x = Tensor::zeros(&[4, 3], DType::F32, &device).unwrap();
    let sentence = |result: wgrad_models::Result<Tensor>| match result {
        Ok(_) => panic!("expected an error, got a result"),
        Err(why) => why.to_string(),
    };
    let power = PowerNorm::new(PowerNormConfig::default(), 5, &build).unwrap();
    assert!(sentence(power.forward(&x, None)).contains("power_norm: x of shape [4, 3], expected [.., 5]"));
    let unified = UnifiedNorm::new(UnifiedNormConfig::default(), 3, &build).unwrap();
    let valid = Tensor::zeros(&[3], DType::Bool, &device).unwrap();
    assert!(sentence(unified.forward(&x, Some(&valid))).contains("unified_norm: valid of shape [3], expected [4]"));
    let online = OnlineNorm::new(OnlineNormConfig::default(), 3, &build).unwrap();
    assert!(sentence(online.forward(&x.narrow(0, 0, 0).unwrap())).contains("online_norm: x of shape [0, 3]"));
    let groups = PowerNormConfig { groups: Some(2), ..PowerNormConfig::default() };
    assert!(PowerNorm::new(groups, 5, &build).is_err());
    assert!(UnifiedNorm::new(UnifiedNormConfig { window: 0, ..UnifiedNormConfig::default() }, 3, &build).is_err());
    // No position counts: nothing to divide by, and nothing that is not finite.
    let none = Tensor::zeros(&[4], DType::Bool, &device).unwrap();
    let y = PowerNorm::new(PowerNormConfig::default(), 3, &build).unwrap().forward(&x, Some(&none)).unwrap();
    assert!(y.to_f64_vec().unwrap().iter().all(|v| v.is_finite()));
}
