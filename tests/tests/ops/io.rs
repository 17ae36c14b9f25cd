//! Files: safetensors, and checkpoints of whole runs.

use std::fs;
use std::path::Path;

use half::{bf16, f16};
use serde_json::json;
use wgrad::autograd::backward;
use wgrad::io::{Checkpoint, Snapshot, Weights, save, to_bytes, write_atomic};
use wgrad::nn::{Build, Embedding, Linear, Module, Param, Visitor};
use wgrad::optim::{Adam, Group, Lion, Optimizer, Rule};
use wgrad::{DType, Device, Tensor};
use wgrad_tests::{Random, assert_equal, each_device, expect_error};

/// Two parts with three parameters, one of them tied.
struct Toy {
    table: Param,
    bias: Param,
    gain: Param,
}

impl Module for Toy {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("table.weight", &self.table);
        v.module("head", &Head(self));
    }
}

struct Head<'a>(&'a Toy);

impl Module for Head<'_> {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("weight", &self.0.table);
        v.param("bias", &self.0.bias);
        v.param("gain", &self.0.gain);
    }
}

fn toy(seed: u64, dtype: DType, device: &Device) -> Toy {
    let mut random = Random::new(seed);
    let mut param = |shape: &[usize]| {
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| random.normal()).collect();
        let tensor = Tensor::from_slice(&values, shape, &Device::cpu()).unwrap().cast(dtype).unwrap();
        Param::new(&tensor.to_device(device).unwrap()).unwrap()
    };
    Toy { table: param(&[5, 3]), bias: param(&[7]), gain: param(&[1]) }
}

fn values(toy: &Toy) -> Vec<Vec<f64>> {
    toy.named_parameters().iter().map(|(_, p)| p.tensor().to_f64_vec().unwrap()).collect()
}

/// A step whose gradients depend on the parameters and on the number of the step.
fn step(toy: &Toy, optimizer: &mut Optimizer, number: u64) {
    let tensors: Vec<Tensor> = toy.named_parameters().iter().map(|(_, p)| p.tensor()).collect();
    let mut random = Random::new(number);
    let seed = |t: &Tensor| {
        let noise: Vec<f64> = (0..t.elements()).map(|_| random.normal()).collect();
        let values: Vec<f64> = t.to_f64_vec().unwrap().iter().zip(noise).map(|(p, n)| 0.3 * p + n).collect();
        let seed = Tensor::from_slice(&values, t.shape(), &Device::cpu()).unwrap();
        seed.cast(t.dtype()).unwrap().to_device(t.device()).unwrap()
    };
    let seeds: Vec<Tensor> = tensors.iter().map(seed).collect();
    let roots: Vec<_> = tensors.iter().zip(seeds).collect();
    optimizer.step(&backward(&roots, &[], false).unwrap()).unwrap();
}

fn optimizer(toy: &Toy, rule: Rule) -> Optimizer {
    Optimizer::new(rule, 0.013, Group::of(toy)).unwrap().with_max_norm(1.0).unwrap()
}

#[test]
fn every_dtype_goes_through_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.safetensors");
    each_device(|device| {
        let tensors = vec![
            ("f32".to_string(), Tensor::from_slice(&[1.5f32, -0.0, f32::MIN_POSITIVE], &[3], device).unwrap()),
            ("f16".to_string(), Tensor::from_slice(&[f16::MAX, f16::NEG_INFINITY, f16::ONE], &[3, 1], device).unwrap()),
            ("bf16".to_string(), Tensor::from_slice(&[bf16::from_f32(3.0)], &[], device).unwrap()),
            ("i32".to_string(), Tensor::from_slice(&[i32::MIN, 7], &[2], device).unwrap()),
            ("u32".to_string(), Tensor::from_slice(&[u32::MAX], &[1], device).unwrap()),
            ("bool".to_string(), Tensor::from_slice(&[true, false, true], &[3], device).unwrap()),
            ("empty".to_string(), Tensor::from_slice::<f32>(&[], &[0, 4], device).unwrap()),
            ("view".to_string(), {
                let x = Tensor::from_slice(&[0f32, 1.0, 2.0, 3.0, 4.0, 5.0], &[2, 3], device).unwrap();
                x.transpose(0, 1).unwrap()
            }),
        ];
        save(&path, &tensors).unwrap();
        assert_eq!(fs::read(&path).unwrap(), to_bytes(&tensors).unwrap());
        let weights = Weights::open(&path).unwrap();
        assert_eq!(weights.names().collect::<Vec<_>>(), ["bf16", "bool", "empty", "f16", "f32", "i32", "u32", "view"]);
        for (name, tensor) in &tensors {
            let read = weights.tensor(name, device).unwrap();
            assert_eq!((read.shape(), read.dtype()), (tensor.shape(), tensor.dtype()), "{name}");
            assert_equal(name, &read.to_f64_vec().unwrap(), &tensor.to_f64_vec().unwrap());
        }
        let wide = weights.tensor_like("f16", &[3, 1], DType::F32, device).unwrap();
        assert_equal("widened", &wide.to_vec::<f32>().unwrap(), &[65504.0, f32::NEG_INFINITY, 1.0]);
        let narrow = weights.tensor_like("view", &[3, 2], DType::BF16, device).unwrap();
        assert_equal("narrowed", &narrow.to_f64_vec().unwrap(), &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    });
    // Another implementation of the format reads it too.
    let bytes = fs::read(&path).unwrap();
    let others = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(others.tensor("i32").unwrap().data(), [0, 0, 0, 128, 7, 0, 0, 0]);
    assert!(fs::read_dir(folder.path()).unwrap().count() == 1, "a temporary file was left behind");
}

fn raw(name: &str, dtype: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header =
        format!("{{\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[0,{}]}}}}", data.len());
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

#[test]
fn integers_of_64_bits_are_checked() {
    let cpu = Device::cpu();
    let bytes = |values: &[i64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let good = Weights::from_bytes("ids", raw("ids", "I64", "[2]", &bytes(&[-3, 70_000]))).unwrap();
    assert_equal("i64", &good.tensor("ids", &cpu).unwrap().to_vec::<i32>().unwrap(), &[-3, 70_000]);
    let bad = Weights::from_bytes("ids", raw("ids", "I64", "[1]", &bytes(&[1 << 40]))).unwrap();
    expect_error(bad.tensor("ids", &cpu), &["ids", "64-bit", "32 bits"]);
    let bad = Weights::from_bytes("odd", raw("x", "I16", "[1]", &[1, 0])).unwrap();
    expect_error(bad.tensor("x", &cpu), &["odd", "`x`", "I16", "not supported"]);
    expect_error(good.tensor("nothing", &cpu), &["ids", "no tensor `nothing`"]);
    expect_error(good.tensor_like("ids", &[2], DType::F32, &cpu), &["`ids`", "I64", "float"]);
}

#[test]
fn damaged_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let whole = to_bytes(&[("x".to_string(), Tensor::from_slice(&[1f32; 9], &[9], &Device::cpu()).unwrap())]).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        expect_error(Weights::open(&path).map(|_| ()), &["model.safetensors"]);
    }
    fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
    expect_error(Weights::open(&path).map(|_| ()), &["model.safetensors", "not a whole safetensors file"]);
    let mut garbled = whole.clone();
    garbled[9] = b'!';
    fs::write(&path, garbled).unwrap();
    expect_error(Weights::open(&path).map(|_| ()), &["model.safetensors"]);
    expect_error(Weights::open(folder.path().join("none")).map(|_| ()), &["none", "No such file"]);
    let empty = tempfile::tempdir().unwrap();
    expect_error(Weights::open(empty.path()).map(|_| ()), &["neither model.safetensors nor"]);
    let x = Tensor::from_slice(&[1f32], &[1], &Device::cpu()).unwrap();
    expect_error(to_bytes(&[("x".into(), x.clone()), ("x".into(), x)]), &["two tensors", "`x`"]);
    expect_error(write_atomic(folder.path().join("no/such/folder"), b"x"), &["no/such/folder"]);
}

#[test]
fn shards_are_one_model() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let source = toy(1, DType::F32, &Device::cpu());
    let tensors: Vec<_> = source.named_parameters().iter().map(|(n, p)| (n.clone(), p.tensor())).collect();
    save(at("model-00001-of-00002.safetensors"), &tensors[..1]).unwrap();
    save(at("model-00002-of-00002.safetensors"), &tensors[1..]).unwrap();
    let index =
        |map: serde_json::Value| fs::write(at("model.safetensors.index.json"), json!({"weight_map": map}).to_string());
    let whole = json!({
        "table.weight": "model-00001-of-00002.safetensors",
        "head.bias": "model-00002-of-00002.safetensors",
        "head.gain": "model-00002-of-00002.safetensors",
    });
    index(whole.clone()).unwrap();
    let target = toy(2, DType::F32, &Device::cpu());
    target.load(&Weights::open(folder.path()).unwrap()).unwrap();
    assert_eq!(values(&target), values(&source));

    for (key, file, words) in [
        ("head.gain", "model-00001-of-00002.safetensors", ["lacks `head.gain`", "model-00001"]),
        ("head.gain", "model-00003-of-00002.safetensors", ["model-00003", "No such file"]),
        ("head.gain", "../model-00001-of-00002.safetensors", ["plain file name", "`head.gain`"]),
    ] {
        let mut map = whole.clone();
        map[key] = json!(file);
        index(map).unwrap();
        expect_error(Weights::open(folder.path()).map(|_| ()), &words);
    }
    fs::write(at("model.safetensors.index.json"), "{}").unwrap();
    expect_error(Weights::open(folder.path()).map(|_| ()), &["index.json", "weight_map"]);
}

#[test]
fn a_load_that_does_not_fit_changes_nothing() {
    let cpu = Device::cpu();
    let source = toy(1, DType::F32, &cpu);
    assert_eq!((source.parameter_count(), source.named_parameters().len()), (23, 3));
    let named = |toy: &Toy| toy.named_parameters().iter().map(|(n, p)| (n.clone(), p.tensor())).collect::<Vec<_>>();
    let open = |tensors: &[(String, Tensor)]| Weights::from_bytes("m", to_bytes(tensors).unwrap()).unwrap();
    let target = toy(2, DType::F32, &cpu);
    let before = values(&target);

    let mut tensors = named(&source);
    tensors.remove(1);
    expect_error(target.load(&open(&tensors)), &["m:", "needs `head.bias`"]);
    tensors = named(&source);
    tensors.push(("pooler.weight".into(), tensors[0].1.clone()));
    expect_error(target.load(&open(&tensors)), &["m:", "no place for `pooler.weight`"]);
    tensors = named(&source);
    tensors[2].1 = Tensor::from_slice(&[1f32, 2.0], &[2], &cpu).unwrap();
    expect_error(target.load(&open(&tensors)), &["m:", "`head.gain`", "[2]", "[1]"]);
    assert_eq!(values(&target), before);

    tensors = named(&source);
    tensors.remove(1);
    tensors.push(("pooler.weight".into(), tensors[0].1.clone()));
    // A tied parameter under its other name.
    tensors[0].0 = "head.weight".into();
    let report = target.load_partial(&open(&tensors)).unwrap();
    assert_eq!((report.missing, report.surplus), (vec!["head.bias".to_string()], vec!["pooler.weight".to_string()]));
    let now = values(&target);
    assert_eq!((&now[0], &now[1]), (&values(&source)[0], &before[1]));
}

#[test]
fn a_resumed_run_goes_on_bit_for_bit() {
    each_device(|device| {
        for (rule, dtype) in [
            (Rule::AdamW(Adam::default()), DType::F32),
            (Rule::AdamW(Adam::default()), DType::BF16),
            (Rule::Lion(Lion::default()), DType::F16),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let straight = toy(1, dtype, device);
            let mut straight_optimizer = optimizer(&straight, rule);
            let first = toy(1, dtype, device);
            let mut first_optimizer = optimizer(&first, rule);
            for number in 0..6 {
                step(&straight, &mut straight_optimizer, number);
                if number < 3 {
                    step(&first, &mut first_optimizer, number);
                }
            }
            first_optimizer.set_learning_rate(0.1 + 0.2).unwrap();
            let snapshot = Snapshot {
                step: 3,
                module: &first,
                optimizer: &first_optimizer,
                extra: json!({"epoch": 0, "at": [1, 2]}),
                files: &[("config.json", b"{}")],
            };
            let saved = snapshot.save(folder.path(), 1).unwrap();
            assert_eq!(fs::read(saved.join("config.json")).unwrap(), b"{}");

            let second = toy(9, dtype, device);
            let mut second_optimizer = optimizer(&second, rule);
            let checkpoint = Checkpoint::latest(folder.path()).unwrap().unwrap();
            assert_eq!((checkpoint.folder(), checkpoint.step().unwrap()), (saved.as_path(), 3));
            assert_eq!(checkpoint.extra()["at"][1], 2);
            checkpoint.restore(&second, &mut second_optimizer).unwrap();
            assert_eq!(second_optimizer.learning_rate(), 0.1 + 0.2);
            assert_eq!(values(&second), values(&first));
            second_optimizer.set_learning_rate(0.013).unwrap();
            for number in 3..6 {
                step(&second, &mut second_optimizer, number);
            }
            let bits = |toy: &Toy| values(toy).concat().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_equal(&format!("{rule:?} {dtype} on {device}"), &bits(&second), &bits(&straight));
        }
    });
}

#[test]
fn random_numbers_resume_too() {
    each_device(|device| {
        let folder = tempfile::tempdir().unwrap();
        let model = toy(1, DType::F32, device);
        let mut optimizer = optimizer(&model, Rule::AdamW(Adam::default()));
        let state = wgrad::RngState { seed: u64::MAX - 1, draws: 12 };
        device.set_rng_state(state);
        let snapshot = Snapshot { step: 0, module: &model, optimizer: &optimizer, extra: json!(null), files: &[] };
        snapshot.save(folder.path(), 1).unwrap();
        device.set_seed(1);
        Checkpoint::latest(folder.path()).unwrap().unwrap().restore(&model, &mut optimizer).unwrap();
        assert_eq!(device.rng_state(), state);
    });
}

fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_last_whole_checkpoint_is_found_whatever_happened() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    assert!(Checkpoint::latest(&dir).unwrap().is_none());
    let model = toy(1, DType::F32, &Device::cpu());
    let optimizer = optimizer(&model, Rule::AdamW(Adam::default()));
    let save = |step, keep, files: &[(&str, &[u8])]| {
        let extra = json!(null);
        Snapshot { step, module: &model, optimizer: &optimizer, extra, files }.save(&dir, keep)
    };
    let latest = || Checkpoint::latest(&dir).unwrap().unwrap().step().unwrap();
    save(1, 1, &[]).unwrap();
    save(2, 1, &[]).unwrap();
    assert_eq!(entries(&dir), ["latest", "step-00000002"]);

    // A file that cannot be written in the middle of a save, as on a full disk: the last checkpoint stays.
    let long = "x".repeat(300);
    expect_error(save(3, 1, &[(&long, b"")]), &["step-00000003/xxx", "name too long"]);
    assert_eq!(entries(&dir), ["latest", "step-00000002"]);
    assert_eq!(latest(), 2);

    // Killed while writing: a temporary folder is left, ignored, and removed by the next save.
    fs::create_dir(dir.join(".tmp-1-1")).unwrap();
    fs::write(dir.join(".tmp-1-1/model.safetensors"), b"half").unwrap();
    assert_eq!(latest(), 2);
    // Killed between the renaming of the folder and that of the pointer.
    let pointer = fs::read(dir.join("latest")).unwrap();
    save(3, 2, &[]).unwrap();
    fs::write(dir.join("latest"), &pointer).unwrap();
    assert_eq!(entries(&dir), ["latest", "step-00000002", "step-00000003"]);
    assert_eq!(latest(), 2);
    // Without a pointer, or with one that leads nowhere, the newest whole one counts.
    fs::write(dir.join("latest"), "step-00000077\n").unwrap();
    assert_eq!(latest(), 3);
    fs::remove_file(dir.join("latest")).unwrap();
    fs::write(dir.join("step-00000003/optimizer.safetensors"), b"half").unwrap();
    assert_eq!(latest(), 2);

    // The same step once more gets a folder of its own, and counts as newer.
    let again = save(2, 1, &[]).unwrap();
    assert_eq!(again.file_name().unwrap(), "step-00000002.1");
    assert_eq!(entries(&dir), ["latest", "step-00000002.1"]);
    fs::write(dir.join("step-00000002.1/state.json"), b"{").unwrap();
    expect_error(Checkpoint::latest(&dir), &["state.json"]);
}

#[test]
fn a_checkpoint_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = toy(1, DType::F32, &Device::cpu());
    let adam = optimizer(&model, Rule::AdamW(Adam::default()));
    Snapshot { step: 1, module: &model, optimizer: &adam, extra: json!(null), files: &[] }
        .save(folder.path(), 1)
        .unwrap();
    let checkpoint = Checkpoint::latest(folder.path()).unwrap().unwrap();
    let mut lion = optimizer(&model, Rule::Lion(Lion::default()));
    expect_error(checkpoint.restore(&model, &mut lion), &["adamw", "lion"]);
    let some = vec![("head.bias".to_string(), model.bias.clone())];
    let mut fewer = Optimizer::new(Rule::AdamW(Adam::default()), 0.1, vec![Group::new(some)]).unwrap();
    expect_error(checkpoint.restore(&model, &mut fewer), &["optimizer.safetensors", "this optimizer lacks"]);
    let other = vec![("elsewhere".to_string(), model.bias.clone())];
    let mut other = Optimizer::new(Rule::AdamW(Adam::default()), 0.1, vec![Group::new(other)]).unwrap();
    expect_error(checkpoint.restore(&model, &mut other), &["no steps of parameter `elsewhere`"]);
}

#[test]
fn tensors_are_read_under_other_names() {
    let open = || {
        let toy = toy(3, DType::F16, &Device::cpu());
        let tensors: Vec<(String, Tensor)> =
            toy.named_parameters().into_iter().map(|(name, p)| (format!("old.{name}"), p.tensor())).collect();
        (toy, Weights::from_bytes("toy.safetensors", to_bytes(&tensors).unwrap()).unwrap())
    };
    let (toy, weights) = open();
    assert_eq!(weights.stored("old.table.weight").unwrap(), ("F16".to_string(), 30));
    expect_error(weights.stored("table.weight"), &["toy.safetensors", "table.weight"]);
    let renamed = weights.renamed(|name| name.strip_prefix("old.").map(str::to_string)).unwrap();
    let fresh = self::toy(4, DType::F16, &Device::cpu());
    fresh.load(&renamed).unwrap();
    assert_eq!(values(&fresh), values(&toy));
    // Without a name a tensor is not there, and one name cannot stand for two.
    let fewer = open().1.renamed(|name| (name != "old.head.bias").then(|| name.to_string())).unwrap();
    assert_eq!(fewer.names().collect::<Vec<_>>(), ["old.head.gain", "old.table.weight"]);
    let error = open().1.renamed(|_| Some("one".into())).map(drop);
    expect_error(error, &["old.head.bias", "old.head.gain", "`one`"]);
}

#[test]
fn blank_parameters_take_no_memory_until_they_are_loaded() {
    each_device(|device| {
        let build = Build::new(device).blank().unwrap();
        // Terabytes.
        let wide = Linear::new(1 << 20, 1 << 20, true, &build).unwrap();
        let table = Embedding::new(1 << 30, 1 << 10, Some(3), &build).unwrap();
        assert_eq!(wide.parameter_count() + table.parameter_count(), (1 << 40) + (1 << 20) + (1 << 40));
        let small = Linear::new(2, 3, true, &build).unwrap();
        let cpu = Device::cpu();
        let tensors = [("weight", [3, 2].as_slice()), ("bias", &[3])]
            .map(|(name, shape)| (name.to_string(), Tensor::ones(shape, DType::F32, &cpu).unwrap()));
        small.load(&Weights::from_bytes("small", to_bytes(&tensors).unwrap()).unwrap()).unwrap();
        let x = Tensor::ones(&[1, 2], DType::F32, device).unwrap();
        assert_eq!(small.forward(&x).unwrap().to_f64_vec().unwrap(), [3.0; 3]);
    });
}
