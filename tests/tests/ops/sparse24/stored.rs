//! Packed matrices as values of parameters and in files.

use wgrad::io::{Weights, to_bytes};
use wgrad::nn::{Build, Linear, Module, Param, Visitor};
use wgrad::optim::{Group, Optimizer, Rule, Sgd};
use wgrad::{DType, Device, Sparse24, Tensor};
use wgrad_models::weights::{self, Form};
use wgrad_tests::{assert_close, assert_equal, each_device, expect_error, fresh_gpu};

struct Two {
    first: Linear,
    second: weights::Linear,
}

impl Two {
    fn new(device: &Device) -> Two {
        device.set_seed(1);
        let build = Build::new(device);
        let second = weights::Linear::new(24, 5, false, Form::Rows, &build).unwrap();
        Two { first: Linear::new(40, 24, true, &build).unwrap(), second }
    }

    fn run(&self, x: &Tensor) -> Vec<f64> {
        self.second.forward(&self.first.forward(x).unwrap().gelu().unwrap()).unwrap().to_f64_vec().unwrap()
    }

    fn matrices(&self) -> Vec<Param> {
        self.named_parameters().into_iter().map(|(_, p)| p).filter(|p| p.shape().len() == 2).collect()
    }
}

impl Module for Two {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("first", &self.first);
        v.module("second", &self.second);
    }
}

#[test]
fn layers_run_and_store_what_is_packed() {
    each_device(|device| {
        let model = Two::new(device);
        let zero = Tensor::scalar(0.0, DType::F32, device).unwrap();
        for param in model.matrices() {
            let mask = param.leaf().detach().abs().unwrap().n_of_m_mask(2, 4).unwrap();
            param.set(&Tensor::where_cond(&mask, &param.leaf().detach(), &zero).unwrap()).unwrap();
        }
        let inputs = [1, 3, 50].map(|n| Tensor::normal(0.0, 1.0, &[n, 40], DType::F32, device).unwrap());
        let dense: Vec<Vec<f64>> = inputs.iter().map(|x| model.run(x)).collect();
        let values: Vec<Vec<f32>> = model.matrices().iter().map(|p| p.tensor().to_vec().unwrap()).collect();
        for param in model.matrices() {
            assert!(param.packed().is_none());
            param.set_packed(&Sparse24::from_dense(&param.leaf()).unwrap()).unwrap();
            assert!(param.packed().is_some() && param.is_packed() && param.is_trainable());
        }
        let check = |model: &Two| {
            for (x, want) in inputs.iter().zip(&dense) {
                assert_close("packed", &model.run(x), want, 1e-5, 1e-5);
            }
            for (param, want) in model.matrices().iter().zip(&values) {
                assert_equal("expanded", &param.tensor().to_vec::<f32>().unwrap(), want);
                assert_equal("expanded", &param.leaf().to_vec::<f32>().unwrap(), want);
            }
        };
        check(&model);

        let names: Vec<String> = model.named_tensors().into_iter().map(|(name, _)| name).collect();
        let expected =
            ["first.weight.values", "first.weight.meta", "first.bias", "second.weight.values", "second.weight.meta"];
        assert_equal("names", &names, &expected.map(String::from));
        let weights = Weights::from_bytes("packed", to_bytes(&model.named_tensors()).unwrap()).unwrap();
        let again = Two::new(device);
        again.load(&weights).unwrap();
        assert!(again.matrices().iter().all(|param| param.packed().is_some()));
        check(&again);

        // What is shown, and what is set, comes before what is packed.
        let [first, ..] = &again.matrices()[..] else { panic!("no matrix") };
        first.show(Some(Tensor::zeros(first.shape(), DType::F32, device).unwrap())).unwrap();
        assert!(first.packed().is_none() && first.tensor().to_f64_vec().unwrap().iter().all(|&v| v == 0.0));
        first.show(None).unwrap();
        assert!(first.packed().is_some());
        first.set(&Tensor::ones(first.shape(), DType::F32, device).unwrap()).unwrap();
        assert!(first.packed().is_none() && first.tensor().to_f64_vec().unwrap().iter().all(|&v| v == 1.0));
    });
}

/// Matrices of which the first dimension is that of the inputs, as one and as several per head, and one with the heads on the inputs' side.
#[test]
fn parameters_of_any_form() {
    each_device(|device| {
        for (shape, columns, matrix) in
            [(&[40, 24][..], true, [24, 40]), (&[40, 3, 8], true, [24, 40]), (&[24, 5, 8], false, [24, 40])]
        {
            let value = Tensor::normal(0.0, 1.0, shape, DType::F32, device).unwrap();
            let param = Param::new(&value).unwrap();
            if columns {
                param.set_columns();
            }
            assert_eq!(param.matrix_shape(), matrix);
            let rows = param.as_matrix(&value).unwrap();
            let same = param.of_matrix(&rows).unwrap();
            assert_eq!((rows.shape(), same.shape()), (&matrix[..], shape));
            assert_eq!(same.to_f64_vec().unwrap(), value.to_f64_vec().unwrap());
            let packed = Sparse24::magnitude(&rows).unwrap();
            param.set_packed(&packed).unwrap();
            // Expanded it is what of the value was kept, in its place.
            let shown = param.tensor();
            assert_eq!(shown.shape(), shape);
            let (shown, value) = (shown.to_f64_vec().unwrap(), value.to_f64_vec().unwrap());
            assert_eq!(shown.iter().filter(|&&v| v != 0.0).count(), value.len() / 2);
            assert!(shown.iter().zip(&value).all(|(s, v)| *s == 0.0 || s == v));
            expect_error(
                param.set_packed(&Sparse24::magnitude(&rows.transpose(0, 1).unwrap()).unwrap()),
                &["[40, 24]"],
            );
        }
    });
}

/// Training moves the kept values as it would those of the dense matrix under the mask, and their places stay.
#[test]
fn kept_values_are_trained() {
    each_device(|device| {
        let (model, dense) = (Two::new(device), Two::new(device));
        for (param, dense) in model.matrices().iter().zip(dense.matrices()) {
            param.set_packed(&Sparse24::magnitude(&param.leaf()).unwrap()).unwrap();
            dense.set(&param.leaf()).unwrap();
        }
        let groups = Group::of(&model);
        let names: Vec<&str> = groups.iter().flat_map(|g| &g.params).map(|(name, _)| name.as_str()).collect();
        assert_equal("names", &names, &["first.weight.values", "second.weight.values", "first.bias"]);
        let rule = Rule::Sgd(Sgd::default());
        let mut optimizer = Optimizer::new(rule, 0.05, groups).unwrap();
        let x = Tensor::normal(0.0, 1.0, &[30, 40], DType::F32, device).unwrap();
        let loss = |model: &Two| {
            let y = model.second.forward(&model.first.forward(&x).unwrap().gelu().unwrap()).unwrap();
            y.add_scalar(-1.0).unwrap().square().unwrap().mean_all().unwrap()
        };
        let gradients = loss(&dense).backward().unwrap();
        let masks: Vec<Tensor> = dense.matrices().iter().map(|param| param.leaf().detach()).collect();
        let before = loss(&model).item().unwrap();
        optimizer.step(&loss(&model).backward().unwrap()).unwrap();
        for ((param, old), dense) in model.matrices().iter().zip(&masks).zip(dense.matrices()) {
            let kept = old.ne(&old.zeros_like().unwrap()).unwrap().cast(DType::F32).unwrap();
            let moved = dense.gradient(&gradients).unwrap().mul(&kept).unwrap().mul_scalar(-0.05).unwrap();
            let want = old.add(&moved).unwrap().to_f64_vec().unwrap();
            assert_close("a step", &param.leaf().to_f64_vec().unwrap(), &want, 1e-5, 1e-5);
        }
        // Who loads values into it keeps what the optimizer knows.
        let weights = Weights::from_bytes("packed", to_bytes(&model.named_tensors()).unwrap()).unwrap();
        model.load(&weights).unwrap();
        for _ in 0..20 {
            optimizer.step(&loss(&model).backward().unwrap()).unwrap();
        }
        let after = loss(&model).item().unwrap();
        assert!(after < 0.8 * before, "{before} {after}");
        let [first, ..] = &model.matrices()[..] else { panic!("no matrix") };
        first.set_trainable(false);
        let gradients = loss(&model).backward().unwrap();
        assert!(first.packed_values().unwrap().gradient(&gradients).is_none());
        // With the transpose beside it nothing moves.
        let both = first.leaf().abs().unwrap().transposable_mask().unwrap();
        first.set_packed(&Sparse24::from_mask(&first.leaf(), &both).unwrap().with_transpose().unwrap()).unwrap();
        assert!(first.packed().unwrap().transposed().is_some() && first.packed_values().is_none());
        assert!(Group::of(&model).iter().flat_map(|g| &g.params).all(|(name, _)| !name.starts_with("first.weight")));
    });
}

#[test]
fn memory_of_parameters() {
    let Some(device) = fresh_gpu() else { return };
    let dense = 256 * 512 * 4;
    let before = device.memory().live_bytes;
    let param = Param::new(&Tensor::normal(0.0, 1.0, &[256, 512], DType::F32, &device).unwrap()).unwrap();
    let with_dense = device.memory().live_bytes - before;
    param.set_packed(&Sparse24::magnitude(&param.leaf()).unwrap()).unwrap();
    // The values, the positions, and one number that stands for nothing; the pool rounds all of them up.
    let with_packed = device.memory().live_bytes - before;
    assert!(with_dense >= dense && with_packed < with_dense * 18 / 32, "{with_dense}, {with_packed}");
}

#[test]
fn damaged_files() {
    let device = Device::cpu();
    let model = Two::new(&device);
    let packed = Sparse24::magnitude(&model.first.weight.leaf()).unwrap();
    let file = |change: &dyn Fn(&mut Vec<(String, Tensor)>)| {
        let mut tensors = model.named_tensors();
        tensors.retain(|(name, _)| name != "first.weight");
        tensors.extend(packed.to_tensors("first.weight"));
        change(&mut tensors);
        Weights::from_bytes("some.safetensors", to_bytes(&tensors).unwrap()).unwrap()
    };
    let set = |tensors: &mut Vec<(String, Tensor)>, name: &str, value: Tensor| {
        tensors.iter_mut().filter(|(known, _)| known == name).for_each(|(_, tensor)| *tensor = value.clone());
    };
    let loaded = |weights: Weights| Two::new(&device).load(&weights);
    loaded(file(&|_| ())).unwrap();
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &device).unwrap();
    let lost = file(&|tensors| tensors.retain(|(name, _)| name != "first.weight.meta"));
    expect_error(loaded(lost), &["some.safetensors", "`first.weight`", "`first.weight.values`"]);
    let wrong = file(&|tensors| set(tensors, "first.weight.meta", zeros(&[24, 2], DType::U32)));
    expect_error(loaded(wrong), &["some.safetensors", "first.weight", "row 0, group 0", "0x0"]);
    let narrow = file(&|tensors| set(tensors, "first.weight.meta", zeros(&[24, 1], DType::U32)));
    expect_error(loaded(narrow), &["some.safetensors", "first.weight.meta", "[24, 1]", "[24, 2]"]);
    let short = file(&|tensors| set(tensors, "first.weight.values", zeros(&[24, 16], DType::F32)));
    expect_error(loaded(short), &["some.safetensors", "first.weight.values", "[24, 16]", "[24, 32]"]);
    let param = &model.first.weight;
    expect_error(param.set_packed(&packed.cast(DType::F16).unwrap()), &["Param::set_packed", "f16"]);
    let other = Sparse24::magnitude(&zeros(&[24, 39], DType::F32)).unwrap();
    expect_error(param.set_packed(&other), &["Param::set_packed", "[24, 39]", "[24, 40]"]);
    let vector = Param::new(&zeros(&[24], DType::F32)).unwrap();
    let column = Sparse24::magnitude(&zeros(&[24, 1], DType::F32)).unwrap();
    expect_error(vector.set_packed(&column), &["Param::set_packed", "[24, 1]", "[24]"]);
}
