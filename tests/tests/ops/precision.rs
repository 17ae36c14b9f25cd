//! Training in half precision: overflow skips steps until the scale fits, and it learns what f32 learns.

use wgrad::nn::{Build, LayerNorm, Linear, Module, Precision, Visitor};
use wgrad::optim::{Adam, Group, LossScaler, Optimizer, Rule};
use wgrad::{DType, Device, Meter, Result, Tensor};
use wgrad_tests::{Random, devices, expect_error, fresh_gpu};

struct Net {
    up: Linear,
    norm: LayerNorm,
    down: Linear,
}

impl Module for Net {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("up", &self.up);
        v.module("norm", &self.norm);
        v.module("down", &self.down);
    }
}

impl Net {
    fn new(precision: Precision, device: &Device) -> Result<Self> {
        let build = Build::new(device).with_dtype(precision.dtype());
        let (up, down) = (Linear::new(8, 32, true, &build)?, Linear::new(32, 1, true, &build)?);
        let net = Net { up, norm: LayerNorm::new(32, true, 1e-5, &build)?, down };
        // The random numbers of a device belong to all tests together.
        let mut random = Random::new(7);
        for (_, param) in net.named_parameters().iter().filter(|(name, _)| !name.starts_with("norm")) {
            let values: Vec<f32> = (0..param.elements()).map(|_| (0.3 * random.normal()) as f32).collect();
            param.set(&Tensor::from_vec(values, param.shape(), device)?.cast(precision.dtype())?)?;
        }
        Ok(net)
    }

    /// Mean square of what is missing to the product of the first two inputs.
    fn loss(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.down.forward(&self.norm.forward(&self.up.forward(x)?)?.gelu()?)?.cast(DType::F32)?;
        let x = x.cast(DType::F32)?;
        y.sub(&x.narrow(1, 0, 1)?.mul(&x.narrow(1, 1, 1)?)?)?.square()?.mean_all()
    }
}

struct Trained {
    /// Mean of the last ten.
    loss: f64,
    skipped: usize,
    scale: Option<f64>,
    /// After each step: waits, buffers, bind groups of the device.
    counters: Vec<(u64, u64, u64)>,
}

fn train(device: &Device, precision: Precision, scaler: Option<LossScaler>, steps: usize) -> Trained {
    let net = Net::new(precision, device).unwrap();
    let rule = Rule::AdamW(Adam::default());
    let mut optimizer = Optimizer::new(rule, 1e-2, Group::of(&net)).unwrap().with_max_norm(1.0).unwrap();
    let mut scaler = scaler;
    let mut losses = Meter::new(device, steps).unwrap();
    let mut skipped = Meter::new(device, steps).unwrap();
    let mut counters = Vec::new();
    let mut random = Random::new(8);
    for _ in 0..steps {
        let x: Vec<f32> = (0..64 * 8).map(|_| random.normal() as f32).collect();
        let x = Tensor::from_vec(x, &[64, 8], device).unwrap().cast(precision.dtype()).unwrap();
        let loss = net.loss(&x).unwrap();
        let report = match &mut scaler {
            None => optimizer.step(&loss.backward().unwrap()),
            Some(scaler) => optimizer.step_scaled(&scaler.backward(&loss).unwrap(), scaler),
        };
        skipped.push(&report.unwrap().skipped.unwrap()).unwrap();
        losses.push(&loss).unwrap();
        let memory = device.memory();
        counters.push((memory.reads, memory.allocations, memory.bind_groups_created));
    }
    let skipped = skipped.take().unwrap().iter().sum::<f64>() as usize;
    let losses = losses.take().unwrap();
    let tail = &losses[steps - 10..];
    Trained {
        loss: tail.iter().sum::<f64>() / 10.0,
        skipped,
        scale: scaler.map(|scaler| scaler.scale().unwrap()),
        counters,
    }
}

#[test]
fn halves_learn_what_f32_learns() {
    for device in devices() {
        let steps = if device.is_gpu() { 60 } else { 200 };
        let single = train(&device, Precision::F32, None, steps).loss;
        for precision in [Precision::F16, Precision::Bf16] {
            let half = train(&device, precision, precision.scaler(), steps).loss;
            assert!((half - single).abs() < 0.05 * single + 0.02, "{device}, {precision}: {half}, f32: {single}");
        }
    }
}

#[test]
fn overflow_skips_steps_until_the_scale_fits() {
    for device in devices() {
        let scaler = LossScaler::new(2f64.powi(30), 1000).unwrap();
        let Trained { loss, skipped, scale, .. } = train(&device, Precision::F16, Some(scaler), 40);
        let scale = scale.unwrap();
        assert!((3..30).contains(&skipped), "{device}: {skipped} steps skipped");
        assert_eq!(scale, 2f64.powi(30 - skipped as i32), "each halves the scale");
        assert!(loss.is_finite() && loss < 1.5, "{device}: {loss}");
    }
}

#[test]
fn nobody_waits_to_learn_whether_a_step_is_skipped() {
    let Some(device) = fresh_gpu() else { return };
    let scaler = LossScaler::new(2f64.powi(26), 1000).unwrap();
    let Trained { skipped, counters, .. } = train(&device, Precision::F16, Some(scaler), 14);
    assert!((3..14).contains(&skipped), "{skipped} steps skipped");
    for (step, now) in counters.iter().enumerate().skip(4) {
        assert_eq!(*now, counters[3], "waits, buffers, bind groups at step {step}");
    }
}

#[test]
fn names_are_read_and_written() {
    for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
        assert_eq!(precision.to_string().parse::<Precision>().unwrap(), precision);
        assert_eq!(precision.scaler().is_some(), precision == Precision::F16);
    }
    expect_error("half".parse::<Precision>(), &["half", "bf16"]);
}
