//! Placements run, and are each other where they should be.

use wgrad::nn::{Init, Module};
use wgrad::{DType, Device, Tensor};

use super::*;
use crate::depth::mean_squares;
use crate::lm::Lm;

const SHAPE: Shape = Shape { vocab: 11, hidden: 16, heads: 2, layers: 5, length: 6 };

#[test]
fn names_go_both_ways() {
    for placement in Placement::ALL {
        assert_eq!(placement.name().parse::<Placement>().unwrap(), placement);
    }
    let unknown = "before".parse::<Placement>().unwrap_err().to_string();
    assert!(unknown.contains("\"before\"") && unknown.contains("layernorm-scaling"), "{unknown}");
}

#[test]
fn every_placement_runs_both_ways_and_is_causal() {
    let device = Device::new_cpu();
    let ids = |last: i32| Tensor::from_vec(vec![1, 5, 3, 3, 0, last], &[1, 6], &device).unwrap();
    let labels = Tensor::from_vec(vec![5, 3, 3, 0, 9, 2], &[1, 6], &device).unwrap();
    for placement in Placement::ALL {
        device.set_seed(3);
        let lm = Lm::new(&SHAPE.decoder(placement), &device).unwrap();
        let gradients = lm.loss(&ids(9), &labels).unwrap().backward().unwrap();
        for (name, param) in lm.named_parameters() {
            let gradient = param.gradient(&gradients).unwrap_or_else(|| panic!("{placement}: {name} has no gradient"));
            let sum = gradient.square().unwrap().sum_all().unwrap().item().unwrap();
            assert!(sum.is_finite(), "{placement}: gradient of {name}");
        }
        let logits = |last| lm.logits(&ids(last)).unwrap().to_vec::<f32>().unwrap();
        let (one, other) = (logits(9), logits(4));
        let before = 5 * SHAPE.vocab;
        assert_eq!(one[..before], other[..before], "{placement} looks ahead");
        assert_ne!(one[before..], other[before..], "{placement} does not see its last token");
    }
}

#[test]
fn an_encoder_sees_both_sides() {
    let device = Device::new_cpu();
    let lm = Lm::new(&LmConfig { causal: false, ..SHAPE.decoder(Placement::Pre) }, &device).unwrap();
    let ids = |last: i32| Tensor::from_vec(vec![1, 5, last], &[1, 3], &device).unwrap();
    let logits = |last| lm.logits(&ids(last)).unwrap().to_vec::<f32>().unwrap();
    assert_ne!(logits(2)[..SHAPE.vocab], logits(7)[..SHAPE.vocab]);
}

/// The largest difference of logits between two models, of which the second takes its parameters from the first: those of the same name, or
/// what `value` makes of them.
fn difference(from: &LmConfig, to: &LmConfig, value: impl Fn(&str, Tensor) -> Tensor) -> f64 {
    let device = Device::new_cpu();
    device.set_seed(5);
    let (from, to) = (Lm::new(from, &device).unwrap(), Lm::new(to, &device).unwrap());
    let known = from.named_parameters();
    // Gains of one would hide where norms stand.
    for (_, param) in &known {
        if param.shape().len() == 1 {
            let init = Init::Uniform { low: 0.5, high: 1.5 };
            param.set(&init.tensor(param.shape(), DType::F32, &device).unwrap()).unwrap();
        }
    }
    for (name, param) in to.named_parameters() {
        let found = known.iter().find(|(other, _)| *other == name);
        let old = found.map_or_else(|| param.tensor(), |(_, param)| param.tensor());
        param.set(&value(&name, old.detach())).unwrap();
    }
    let ids = Tensor::from_vec(vec![1, 5, 3, 3, 0, 9], &[1, 6], &device).unwrap();
    let apart = from.logits(&ids).unwrap().sub(&to.logits(&ids).unwrap()).unwrap();
    apart.detach().abs().unwrap().max(&[], false).unwrap().item().unwrap()
}

fn with_places(config: &LmConfig, places: impl Fn(usize) -> [Place; 2]) -> LmConfig {
    let placed = |(n, block): (usize, &BlockConfig)| {
        let [attention_place, feed_forward_place] = places(n + 1);
        BlockConfig { attention_place, feed_forward_place, ..*block }
    };
    LmConfig { blocks: config.blocks.iter().enumerate().map(placed).collect(), ..config.clone() }
}

#[test]
fn a_factor_of_the_input_is_one_of_the_gain() {
    let scaled = SHAPE.decoder(Placement::LayerNormScaling);
    let apart = difference(&scaled, &SHAPE.decoder(Placement::Pre), |name, value| {
        match name.split('.').collect::<Vec<_>>()[..] {
            ["blocks", block, "attention_norm" | "feed_forward_norm", _] => {
                value.mul_scalar((block.parse::<f64>().unwrap() + 1.0).sqrt().recip()).unwrap()
            }
            _ => value,
        }
    });
    assert!(apart < 1e-5, "{apart}");
}

#[test]
fn a_residual_that_goes_on_from_a_norm_is_one_behind_the_part_before() {
    let hybrid = SHAPE.decoder(Placement::Hybrid);
    let moved = with_places(&hybrid, |_| [Place::post(FEED_FORWARD), Place::NONE]);
    assert!(difference(&hybrid, &moved, |_, value| value) < 1e-5);
    // Without the norm it is another function.
    let without = with_places(&hybrid, |_| [Place::NONE, Place::NONE]);
    assert!(difference(&hybrid, &without, |_, value| value) > 1e-3);
}

#[test]
fn factors_of_one_change_nothing() {
    let post = SHAPE.decoder(Placement::Post);
    let one = |name| Place { keep: Factor::Constant(1.0), add: Factor::Constant(1.0), ..Place::post(name) };
    let deep = with_places(&post, |_| [one(ATTENTION), one(FEED_FORWARD)]);
    assert!(difference(&post, &deep, |_, value| value) < 1e-6);
    let mixed = SHAPE.decoder(Placement::Mix);
    let by_hand = with_places(&SHAPE.decoder(Placement::Pre), |layer| match layer {
        1 => [Place::post(ATTENTION), Place::post(FEED_FORWARD)],
        _ => [Place::pre(ATTENTION), Place::pre(FEED_FORWARD)],
    });
    assert!(difference(&mixed, &by_hand, |_, value| value) < 1e-6);
}

#[test]
fn a_part_that_adds_all_leaves_nothing_of_the_residual() {
    let base = SHAPE.decoder(Placement::Pre);
    let all = Factor::Learned(GainConfig::vector("step", 1.0));
    let place = |add| Place { keep: Factor::Rest, add, ..Place::NONE };
    let learned = with_places(&base, |_| [Place { add: all, ..place(Factor::One) }, place(Factor::One)]);
    let constant = with_places(&base, |_| [place(Factor::One), place(Factor::Constant(1.0))]);
    let gone = with_places(&base, |_| [Place { keep: Factor::Constant(0.0), ..Place::NONE }; 2]);
    let ones = |name: &str, value: Tensor| if name.ends_with("step") { value.ones_like().unwrap() } else { value };
    assert!(difference(&gone, &learned, ones) < 1e-5);
    assert!(difference(&gone, &constant, ones) < 1e-5);
    let wrong = with_places(&base, |_| [Place { add: Factor::Rest, ..Place::NONE }; 2]);
    let error = Lm::new(&wrong, &Device::new_cpu()).err().unwrap().to_string();
    assert!(error.contains("Rest"), "{error}");
}

#[test]
fn streams_start_as_they_should() {
    let device = Device::new_cpu();
    let ids = Tensor::from_vec(vec![1, 5, 3, 3, 0, 9], &[1, 6], &device).unwrap();
    let squares = |placement| {
        device.set_seed(1);
        let lm = Lm::new(&SHAPE.decoder(placement), &device).unwrap();
        mean_squares(&lm.trace(&ids).unwrap().1).unwrap()
    };
    let rezero = squares(Placement::ReZero);
    assert!(rezero.iter().all(|square| *square == rezero[0]));
    for placement in [Placement::Post, Placement::DeepNorm] {
        assert!(squares(placement).iter().all(|square| (square - 1.0).abs() < 1e-4), "{placement}");
    }
    let unit = 1.0 / SHAPE.hidden as f64;
    assert!(squares(Placement::Sphere).iter().all(|square| (square - unit).abs() < 1e-6));
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let device = Device::new_cpu();
    let refused = |change: &dyn Fn(&mut BlockConfig), words: &[&str]| {
        let mut config = SHAPE.decoder(Placement::Pre);
        config.blocks.iter_mut().for_each(change);
        let error = Lm::new(&config, &device).err().unwrap().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    let gain = GainConfig::vector("gain", 1.0);
    refused(&|block| block.feed_forward.between.gains = Some([gain; 2]), &["gate", "up"]);
    refused(
        &|block| {
            block.attention.query_key_gain = Some(gain);
            block.attention.key_heads = 1;
        },
        &["2 heads", "1"],
    );
    let norm = HeadNorm { norm: NormConfig::l2(), query: "q", key: "k", value: None, together: true, turned: true };
    refused(&|block| block.attention.norm = Some(norm), &["positions"]);
}

/// In f64 the loss changes along a random direction as its gradient says.
#[test]
fn gradients_are_those_of_differences() {
    let device = Device::new_cpu();
    let ids = Tensor::from_vec(vec![1, 5, 3, 3, 0, 9], &[1, 6], &device).unwrap();
    let labels = Tensor::from_vec(vec![5, 3, 3, 0, 9, 2], &[1, 6], &device).unwrap();
    for placement in Placement::ALL {
        device.set_seed(2);
        let lm = Lm::of_dtype(&SHAPE.decoder(placement), DType::F64, &device).unwrap();
        let params: Vec<_> = lm.named_parameters().into_iter().map(|(_, param)| param).collect();
        // Away from where vectors start: a factor of zero would hide what stands behind it.
        let noise = |param: &wgrad::nn::Param| Tensor::normal(0.0, 1.0, param.shape(), DType::F64, &device).unwrap();
        for param in &params {
            param.set(&param.tensor().detach().add(&noise(param).mul_scalar(0.1).unwrap()).unwrap()).unwrap();
        }
        let gradients = lm.loss(&ids, &labels).unwrap().backward().unwrap();
        let start: Vec<Tensor> = params.iter().map(|param| param.tensor().detach()).collect();
        let direction: Vec<Tensor> = params.iter().map(noise).collect();
        let along = |n: usize| params[n].gradient(&gradients).unwrap().mul(&direction[n]).unwrap();
        let slope: f64 = (0..params.len()).map(|n| along(n).sum_all().unwrap().item().unwrap()).sum();
        let loss_at = |step: f64| {
            for ((param, start), direction) in params.iter().zip(&start).zip(&direction) {
                param.set(&start.add(&direction.mul_scalar(step).unwrap()).unwrap()).unwrap();
            }
            lm.loss(&ids, &labels).unwrap().item().unwrap()
        };
        let step = 1e-5;
        let difference = (loss_at(step) - loss_at(-step)) / (2.0 * step);
        let off = (slope - difference).abs() / slope.abs().max(1e-2);
        assert!(off < 1e-5, "{placement}: gradient {slope}, difference {difference}");
    }
}
