//! Layers, initial values and losses.

use wgrad::nn::{
    Build, Dropout, Embedding, Init, LayerNorm, Linear, Module, MultiHeadAttention, Param, RmsNorm, Visitor,
    join_heads, loss, split_heads,
};
use wgrad::{AttentionOptions, DType, Device, Reduction, Result, Tensor};
use wgrad_tests::{Input, assert_close, assert_equal, each_device, expect_error, gradcheck, same_on_devices};

fn f32s(values: &[f32], shape: &[usize], device: &Device) -> Tensor {
    Tensor::from_slice(values, shape, device).unwrap()
}

/// A module of every kind of part.
struct Everything {
    tokens: Embedding,
    layers: Vec<MultiHeadAttention>,
    norm: LayerNorm,
    rms: RmsNorm,
    head: Linear,
    dropout: Dropout,
}

impl Module for Everything {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("tokens", &self.tokens);
        v.modules("layer", &self.layers);
        v.module("norm", &self.norm);
        v.module("norm.rms", &self.rms);
        v.module("", &self.head);
        v.module("dropout", &self.dropout);
    }
}

fn everything(build: &Build) -> Result<Everything> {
    Ok(Everything {
        tokens: Embedding::new(10, 4, Some(3), build)?,
        layers: vec![
            MultiHeadAttention::new(4, 2, false, 0.5, build)?,
            MultiHeadAttention::new(4, 1, true, 0.5, build)?,
        ],
        norm: LayerNorm::new(4, true, 1e-5, build)?,
        rms: RmsNorm::new(4, 1e-6, build)?,
        head: Linear::new(4, 3, true, build)?,
        dropout: Dropout::new(0.5)?,
    })
}

impl Everything {
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let mut x = self.tokens.forward(ids)?;
        for layer in &self.layers {
            x = self.norm.forward(&x.add(&layer.forward(&x, &x, &AttentionOptions::default())?)?)?;
        }
        self.head.forward(&self.dropout.forward(&self.rms.forward(&x)?)?)
    }
}

#[test]
fn names_follow_the_nesting() {
    let model = everything(&Build::new(&Device::cpu())).unwrap();
    let names: Vec<String> = model.named_parameters().into_iter().map(|(name, _)| name).collect();
    let parts = ["query", "key", "value", "output"];
    let mut want = vec!["tokens.weight".to_string()];
    want.extend(parts.map(|part| format!("layer.0.{part}.weight")));
    want.extend(parts.iter().flat_map(|part| ["weight", "bias"].map(|name| format!("layer.1.{part}.{name}"))));
    want.extend(["norm.weight", "norm.bias", "norm.rms.weight", "weight", "bias"].map(String::from));
    assert_equal("names", &names, &want);
    assert_eq!(model.parameter_count(), 40 + 4 * 16 + 4 * 20 + 4 + 4 + 4 + 15);
}

#[test]
fn every_parameter_learns_and_inference_is_still() {
    each_device(|device| {
        for dtype in [DType::F32, DType::BF16] {
            let model = everything(&Build::new(device).with_dtype(dtype)).unwrap();
            let ids = Tensor::from_slice(&[1u32, 2, 3, 9, 0, 3], &[2, 3], device).unwrap();
            let out = model.forward(&ids).unwrap();
            assert_eq!((out.shape(), out.dtype()), (&[2, 3, 3][..], dtype));
            let gradients = out.square().unwrap().mean_all().unwrap().backward().unwrap();
            for (name, param) in model.named_parameters() {
                let gradient = param.gradient(&gradients).unwrap_or_else(|| panic!("no gradient of {name}"));
                assert_eq!((gradient.shape(), gradient.dtype()), (param.shape(), dtype), "{name}");
                assert!(gradient.to_f64_vec().unwrap().iter().all(|g| g.is_finite()), "{name}");
            }
            let table = model.tokens.weight.gradient(&gradients).unwrap().to_f64_vec().unwrap();
            assert_equal("padding row", &table[12..16], &[0.0; 4]);
            assert!(table[4..8].iter().any(|&g| g != 0.0));

            model.train(false);
            let (first, again) = (model.forward(&ids).unwrap(), model.forward(&ids).unwrap());
            assert_equal("inference", &first.to_f64_vec().unwrap(), &again.to_f64_vec().unwrap());
            model.train(true);
            let noisy = model.forward(&ids).unwrap();
            assert_ne!(noisy.to_f64_vec().unwrap(), first.to_f64_vec().unwrap());
        }
    });
}

#[test]
fn layers_compute_what_they_say() {
    each_device(|device| {
        let set = |param: &Param, values: &[f32]| param.set(&f32s(values, param.shape(), device)).unwrap();
        let build = Build::new(device);
        let linear = Linear::new(2, 3, true, &build).unwrap();
        assert_equal("bias", &linear.bias.as_ref().unwrap().tensor().to_f64_vec().unwrap(), &[0.0; 3]);
        set(&linear.weight, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        set(linear.bias.as_ref().unwrap(), &[0.5, 0.0, -1.0]);
        let y = linear.forward(&f32s(&[1.0, -1.0], &[1, 2], device)).unwrap();
        assert_close("linear", &y.to_f64_vec().unwrap(), &[-0.5, -1.0, -2.0], 1e-6, 0.0);

        let x = f32s(&[1.0, 2.0, 3.0, 6.0], &[1, 4], device);
        let y = RmsNorm::new(4, 0.0, &build).unwrap().forward(&x).unwrap();
        let rms = 12.5f64.sqrt();
        assert_close("rms", &y.to_f64_vec().unwrap(), &[1.0 / rms, 2.0 / rms, 3.0 / rms, 6.0 / rms], 1e-6, 1e-6);
        let y = LayerNorm::new(4, false, 0.0, &build).unwrap().forward(&x).unwrap();
        let std = 3.5f64.sqrt();
        assert_close("layer norm", &y.to_f64_vec().unwrap(), &[-2.0 / std, -1.0 / std, 0.0, 3.0 / std], 1e-6, 1e-6);

        // With one head and identities for projections, attention is softmax(x x^T / sqrt(width)) x.
        let attention = MultiHeadAttention::new(2, 1, false, 0.0, &build).unwrap();
        for (_, param) in attention.named_parameters() {
            set(&param, &[1.0, 0.0, 0.0, 1.0]);
        }
        let x = f32s(&[1.0, 0.0, 0.0, 2.0], &[1, 2, 2], device);
        let y = attention.forward(&x, &x, &AttentionOptions::default()).unwrap();
        let p = |a: f64, b: f64| a.exp() / (a.exp() + b.exp());
        let half = 0.5f64.sqrt();
        let (p, q) = (p(half, 0.0), p(4.0 * half, 0.0));
        assert_close("attention", &y.to_f64_vec().unwrap(), &[p, 2.0 * (1.0 - p), 1.0 - q, 2.0 * q], 1e-5, 1e-5);

        let x = f32s(&(0..24).map(|i| i as f32).collect::<Vec<_>>(), &[1, 4, 6], device);
        let heads = split_heads(&x, 3).unwrap();
        assert_eq!(heads.shape(), [1, 3, 4, 2]);
        assert_equal("heads", &heads.to_f64_vec().unwrap()[8..10], &[2.0, 3.0]);
        assert_equal("back", &join_heads(&heads).unwrap().to_f64_vec().unwrap(), &x.to_f64_vec().unwrap());
    });
}

#[test]
fn initial_values_have_their_moments() {
    let device = Device::cpu();
    let check = |init: Init, shape: &[usize], mean: f64, std: f64, most: f64| {
        let values = init.tensor(shape, DType::F32, &device).unwrap().to_f64_vec().unwrap();
        let n = values.len() as f64;
        let found = values.iter().sum::<f64>() / n;
        let spread = (values.iter().map(|v| (v - found).powi(2)).sum::<f64>() / n).sqrt();
        // Five standard errors.
        assert!((found - mean).abs() <= 5.0 * std / n.sqrt() + 1e-9, "{init:?}: mean {found}, expected {mean}");
        assert!((spread - std).abs() <= 5.0 * std / n.sqrt() + 1e-9, "{init:?}: deviation {spread}, expected {std}");
        let largest = values.iter().fold(0.0f64, |m, v| m.max((v - mean).abs()));
        assert!(largest <= most * (1.0 + 1e-6), "{init:?}: {largest} from the mean, expected at most {most}");
    };
    let shape = [60, 100, 5];
    let (fan_in, fan_out) = (500.0f64, 300.0f64);
    check(Init::Constant(2.5), &[7], 2.5, 0.0, 0.0);
    check(Init::Normal { mean: 1.0, std: 2.0 }, &shape, 1.0, 2.0, 12.0);
    // A standard normal cut at two deviations has the deviation 0.8796.
    check(Init::TruncatedNormal { mean: -1.0, std: 0.02 }, &shape, -1.0, 0.02 * 0.879_626, 0.04);
    check(Init::Uniform { low: -1.0, high: 3.0 }, &shape, 1.0, 4.0 / 12f64.sqrt(), 2.0);
    let xavier = (2.0 / (fan_in + fan_out)).sqrt();
    check(Init::XavierUniform { gain: 1.0 }, &shape, 0.0, xavier, 3f64.sqrt() * xavier);
    check(Init::XavierNormal { gain: 2.0 }, &shape, 0.0, 2.0 * xavier, 12.0 * xavier);
    let kaiming = (2.0 / fan_in).sqrt();
    check(Init::KaimingUniform { gain: 2f64.sqrt() }, &shape, 0.0, kaiming, 3f64.sqrt() * kaiming);
    check(Init::KaimingNormal { gain: 2f64.sqrt() }, &shape, 0.0, kaiming, 6.0 * kaiming);
    let waves = Init::Sinusoid { amplitude: 0.5, base: 16.0 }.tensor(&[3, 4], DType::F64, &device).unwrap();
    let row = |p: f64| [p.sin(), p.cos(), (p / 4.0).sin(), (p / 4.0).cos()].map(|v| 0.5 * v);
    assert_close("waves", &waves.to_f64_vec().unwrap(), &[row(0.0), row(1.0), row(2.0)].concat(), 1e-12, 0.0);
    expect_error(Init::KaimingNormal { gain: 1.0 }.tensor(&[3], DType::F32, &device), &["Init", "[out, in", "[3]"]);
    expect_error(Init::Zeros.tensor(&[3], DType::I32, &device), &["Init", "i32", "float"]);
}

#[test]
fn the_same_seed_gives_the_same_model_everywhere() {
    let Ok(device) = Device::software() else { return };
    let other = Device::software().unwrap();
    for dtype in [DType::F32, DType::BF16] {
        let draw = |device: &Device| {
            device.set_seed(5);
            let model = everything(&Build::new(device).with_dtype(dtype)).unwrap();
            model.named_parameters().iter().flat_map(|(_, p)| p.tensor().to_f64_vec().unwrap()).collect::<Vec<_>>()
        };
        let values = draw(&device);
        assert_equal("again", &draw(&other), &values);
        other.set_seed(6);
        let model = everything(&Build::new(&other).with_dtype(dtype)).unwrap();
        assert_ne!(model.head.weight.tensor().to_f64_vec().unwrap(), values[values.len() - 15..values.len() - 3]);
    }
}

#[test]
fn losses_agree_on_devices_and_have_their_gradients() {
    type Loss = (&'static str, fn(&Tensor, &Tensor, Reduction) -> Result<Tensor>);
    let losses: [Loss; 8] = [
        ("mse", loss::mse),
        ("l1", loss::l1),
        ("huber", |x, y, r| loss::huber(x, y, 0.7, r)),
        ("smooth_l1", |x, y, r| loss::smooth_l1(x, y, 0.5, r)),
        ("bce", |x, y, r| loss::bce_with_logits(x, &y.sigmoid()?, None, None, r)),
        ("bce weighted", |x, y, r| loss::bce_with_logits(x, &y.sigmoid()?, Some(&x.square()?), Some(&y.exp()?), r)),
        ("kl_div", |x, y, r| loss::kl_div(&x.log_softmax(-1)?, &y.softmax(-1)?, false, r)),
        ("kl_div of logs", |x, y, r| loss::kl_div(&x.log_softmax(-1)?, &y.log_softmax(-1)?, true, r)),
    ];
    for (name, f) in losses {
        // Differences keep away from the kinks of the absolute value at 0 and of Huber's at 0.7 and 0.5.
        let x = Input::of(&[0.1, 2.0, -1.5, 0.4, 0.9, -3.0], &[2, 3]);
        let y = Input::of(&[0.3, 0.8, -1.8, -0.4, -0.7, 1.0], &[2, 3]);
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            gradcheck(name, &[x.clone(), y.clone()], |i| f(&i[0], &i[1], reduction));
            same_on_devices(name, &[x.clone(), y.clone()], |i| f(&i[0], &i[1], reduction));
        }
    }
    let (x, y) = (Input::normal(&[2, 1, 5], 1), Input::normal(&[1, 3, 5], 2));
    gradcheck("cosine", &[x.clone(), y.clone()], |i| loss::cosine_similarity(&i[0], &i[1], -1, 1e-8));
    same_on_devices("cosine", &[x, y], |i| loss::cosine_similarity(&i[0], &i[1], -1, 1e-8));
}

#[test]
fn losses_at_their_edges() {
    each_device(|device| {
        let x = f32s(&[100.0, -100.0, 0.0, 0.0], &[4], device).requires_grad();
        let target = f32s(&[0.0, 0.0, 1.0, 0.5], &[4], device);
        let bce = loss::bce_with_logits(&x, &target, None, None, Reduction::None).unwrap();
        let ln2 = std::f64::consts::LN_2;
        assert_close("bce", &bce.to_f64_vec().unwrap(), &[100.0, 0.0, ln2, ln2], 1e-6, 1e-6);
        let gradients = bce.sum_all().unwrap().backward().unwrap();
        let got = gradients.get(&x).unwrap().to_f64_vec().unwrap();
        assert_close("bce gradient", &got, &[1.0, 0.0, -0.5, 0.0], 1e-6, 1e-6);

        let zero = f32s(&[0.0, 0.0], &[2], device).requires_grad();
        let similar = loss::cosine_similarity(&zero, &zero, 0, 1e-8).unwrap();
        assert_eq!(similar.item().unwrap(), 0.0);
        let gradients = similar.backward().unwrap();
        assert_equal("zero vectors", &gradients.get(&zero).unwrap().to_f64_vec().unwrap(), &[0.0, 0.0]);

        let target = f32s(&[0.0, 1.0], &[2], device);
        let kl = loss::kl_div(&f32s(&[-1.0, -2.0], &[2], device), &target, false, Reduction::None).unwrap();
        assert_close("zero probability", &kl.to_f64_vec().unwrap(), &[0.0, 2.0], 1e-6, 0.0);

        let logs = f32s(&[-1.0, -2.0, -3.0, -4.0], &[2, 2], device);
        let ids = Tensor::from_slice(&[1i32, 0], &[2], device).unwrap();
        assert_eq!(loss::nll(&logs, &ids, Reduction::Sum).unwrap().item().unwrap(), 5.0);
        expect_error(loss::nll(&logs, &logs, Reduction::Sum), &["nll", "[2, 2]"]);
    });
}

#[test]
fn bad_layers_are_refused() {
    let build = Build::new(&Device::cpu());
    expect_error(
        MultiHeadAttention::new(6, 4, true, 0.0, &build).map(|_| ()),
        &["MultiHeadAttention::new", "6", "4 heads"],
    );
    expect_error(Embedding::new(3, 2, Some(3), &build).map(|_| ()), &["Embedding::new", "index 3", "size 3"]);
    expect_error(Dropout::new(1.5).map(|_| ()), &["Dropout::new", "1.5"]);
    let linear = Linear::new(2, 3, true, &build).unwrap();
    let wrong = f32s(&[0.0; 3], &[1, 3], &Device::cpu());
    expect_error(linear.forward(&wrong), &["linear", "[1, 3]", "[3, 2]"]);
    let x = f32s(&[1.0], &[1], &Device::cpu());
    expect_error(loss::huber(&x, &x, 0.0, Reduction::Mean), &["huber", "delta is 0"]);
    expect_error(loss::smooth_l1(&x, &x, -1.0, Reduction::Mean), &["smooth_l1", "beta is -1"]);
    expect_error(split_heads(&x, 1), &["split_heads", "[1]"]);
}
