//! Profiles: their rows name what ran, how often, and over how many bytes.

use serde_json::Value;
use wgrad::nn::{Build, Linear, Module};
use wgrad::optim::{Adam, Group, Optimizer, Rule};
use wgrad::{AttentionOptions, Conv, DType, Device, KeyIndex, KvCache, Mask, Profile, ProfileRow, Tensor};
use wgrad_tests::{expect_error, fresh_gpu, portable_gpu};

/// The CPU device, which shows the calling thread alone, and a GPU on which no other test runs.
fn devices() -> Vec<Device> {
    [Some(Device::cpu()), fresh_gpu()].into_iter().flatten().collect()
}

/// Without what the guards of the device under test need.
fn rows(profile: &Profile) -> Vec<ProfileRow> {
    profile.rows().into_iter().filter(|row| !row.name.starts_with("util/fill")).collect()
}

fn row(profile: &Profile, part: &str) -> ProfileRow {
    let rows = rows(profile);
    rows.iter()
        .find(|row| row.name.starts_with(part) && !row.name.contains("backward"))
        .unwrap_or_else(|| panic!("no {part} in\n{profile}"))
        .clone()
}

#[test]
fn rows_count_runs_bytes_and_operations() {
    for device in devices() {
        let x = Tensor::ones(&[300, 200], DType::F32, &device).unwrap();
        let w = Tensor::ones(&[200, 100], DType::F32, &device).unwrap().requires_grad();
        let (loss, profile) = device
            .profile(|| {
                let y = x.matmul(&w)?.softmax(-1)?;
                let loss = y.square()?.sum_all()?;
                loss.backward()?;
                loss.item()
            })
            .unwrap();
        assert!((loss.unwrap() - 3.0).abs() < 1e-3);
        let product = row(&profile, "matmul");
        assert_eq!((product.calls, product.operations), (1, 2 * 300 * 200 * 100));
        let bytes = 4 * (300 * 200 + 200 * 100 + 300 * 100);
        // A GPU kernel without bias binds an operand in its place.
        assert!((bytes..=bytes + 4 * 200 * 100).contains(&product.bytes), "{product:?}");
        let back =
            profile.rows().into_iter().find(|row| row.name.starts_with("matmul") && row.name.contains("backward"));
        assert_eq!(back.map(|row| (row.calls, row.operations)), Some((1, 2 * 300 * 200 * 100)), "\n{profile}");
        assert_eq!(row(&profile, "softmax").calls, 1);
        let total: std::time::Duration = profile.rows().iter().map(|row| row.time).sum();
        assert_eq!(total, profile.time());
        assert!(!total.is_zero() && total <= profile.wall(), "\n{profile}");
        assert!(profile.rows().windows(2).all(|pair| pair[0].time >= pair[1].time));
        let table = profile.to_string();
        assert!(profile.rows().iter().all(|row| table.contains(&row.name)), "{table}");
        // Nothing is counted outside.
        x.add(&x).unwrap();
        let ((), empty) = device.profile(|| ()).unwrap();
        assert!(rows(&empty).is_empty(), "\n{empty}");
    }
}

/// Pairs that the host knows to be hidden do not count.
#[test]
fn attention_and_convolution_count_operations() {
    for device in devices() {
        let rand = |shape: &[usize]| Tensor::ones(shape, DType::F32, &device).unwrap().requires_grad();
        let [batch, heads, length, width, values] = [2, 2, 40, 8, 12];
        let (q, k) = (rand(&[batch, heads, length, width]), rand(&[batch, 1, length, width]));
        let v = rand(&[batch, 1, length, values]);
        let lists = Tensor::from_vec((0..length as u32).collect(), &[1, 1, length, 1], &device).unwrap();
        let index = KeyIndex::new(&lists, length).unwrap();
        let causal = length * (length + 1) / 2;
        for (mask, index, pairs) in [(Mask::causal(0), None, causal), (Mask::all(), Some(&index), length)] {
            let options = AttentionOptions { mask, ..Default::default() };
            let (done, profile) = device
                .profile(|| {
                    let out = match index {
                        Some(index) => q.sparse_attention(&k, &v, index, &options)?,
                        None => q.attention(&k, &v, &options)?,
                    };
                    let forward = out.sum_all()?;
                    forward.backward().map(drop)
                })
                .unwrap();
            done.unwrap();
            let each = (2 * batch * heads * pairs) as u64;
            let rows: Vec<_> = rows(&profile).into_iter().filter(|row| row.operations > 0).collect();
            let total: u64 = rows.iter().map(|row| row.operations).sum();
            let forward =
                row(&profile, if device.is_gpu() || index.is_none() { "attention" } else { "sparse_attention" });
            assert_eq!(forward.operations, each * (width + values) as u64, "{profile}");
            // The CPU computes scores and those of d_out once, the GPU for each of its two kernels.
            let (of_width, of_values) = if device.is_gpu() { (1 + 4, 1 + 3) } else { (1 + 3, 1 + 2) };
            assert_eq!(total, each * (of_width * width + of_values * values) as u64, "{profile}");
        }
        let mut cache = KvCache::new(batch, 1, width, values, DType::F32, &device).unwrap();
        cache.append(&k.detach(), &v.detach()).unwrap();
        let step = q.detach().narrow(2, 0, 1).unwrap();
        let (out, profile) = device.profile(|| step.decode(&cache, &Default::default())).unwrap();
        out.unwrap();
        let decode = row(&profile, if device.is_gpu() { "attention/decode" } else { "decode" });
        assert_eq!(decode.operations, (2 * batch * heads * length * (width + values)) as u64, "{profile}");

        // Depthwise: without a product of matrices.
        let (x, weight) = (rand(&[2, 8, 9, 9]), rand(&[8, 1, 3, 3]));
        let options = Conv { groups: 8, padding: [1, 1], ..Default::default() };
        let (out, profile) = device.profile(|| x.conv2d(&weight, None, &options)).unwrap();
        out.unwrap();
        assert_eq!(row(&profile, "conv").operations, 2 * 2 * 8 * 81 * 9, "{profile}");
    }
}

#[test]
fn a_training_step_shows_its_optimizer_and_its_copies() {
    // A GPU copies small gradients together, and reads that of a large matrix where it is.
    for (device, [inputs, outputs, copied]) in
        devices().into_iter().flat_map(|d| [(d.clone(), [64, 32, 64 * 32 + 32]), (d, [512, 512, 512])])
    {
        let layer = Linear::new(inputs, outputs, true, &Build::new(&device)).unwrap();
        let rule = Rule::AdamW(Adam::default());
        let mut optimizer = Optimizer::new(rule, 1e-3, Group::of(&layer)).unwrap();
        let x = Tensor::ones(&[16, inputs], DType::F32, &device).unwrap();
        let mut step = || {
            let loss = layer.forward(&x)?.square()?.mean_all()?;
            optimizer.step(&loss.backward()?).map(drop)
        };
        let (done, profile) = device.profile(&mut step).unwrap();
        done.unwrap();
        let update = row(&profile, if device.is_gpu() { "optim/adam" } else { "Optimizer" });
        let all = inputs * outputs + outputs;
        // Gradient, value and two moments of weights and biases; the last three are written too.
        assert!(update.bytes >= 7 * 4 * all as u64, "{update:?}");
        if device.is_gpu() {
            assert_eq!(update.calls, 2);
            assert_eq!(row(&profile, "copy").bytes, 2 * 4 * copied as u64);
        }
        assert_eq!(layer.parameter_count(), all);
    }
}

#[test]
fn rates_give_fractions_of_the_limit() {
    for device in devices() {
        let rates = device.rates().unwrap();
        // From a slow software driver to a few of the fastest GPUs.
        assert!((1e7..1e14).contains(&rates.bytes_per_s), "{rates}");
        assert!((1e7..1e16).contains(&rates.operations_per_s), "{rates}");
        assert_eq!(device.rates().unwrap(), rates, "measured once");
        let x = Tensor::ones(&[256, 256], DType::F32, &device).unwrap();
        let (y, profile) = device.profile(|| x.matmul(&x)).unwrap();
        y.unwrap();
        let fraction = row(&profile, "matmul").limit_fraction.unwrap();
        assert!(fraction > 1e-4 && fraction < 20.0, "{fraction}");
        assert!(profile.to_string().contains("GFLOP/s"));
    }
}

#[test]
fn a_trace_holds_every_run() {
    let folder = std::env::temp_dir().join(format!("wgrad-trace-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for device in devices() {
        let x = Tensor::ones(&[100], DType::F32, &device).unwrap();
        let (_, profile) = device.profile(|| (0..300).try_fold(x.clone(), |y, _| y.add_scalar(1.0))).unwrap();
        let path = folder.join("trace.json");
        profile.save_trace(&path).unwrap();
        let trace: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let runs: Vec<_> = events.iter().filter(|event| event["ph"] == "X" && event["name"] != "util/fill").collect();
        assert_eq!(runs.len(), 300, "several batches of the stream");
        let at = |event: &Value| (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap());
        assert!(runs.windows(2).all(|pair| at(pair[0]).0 <= at(pair[1]).0), "in order");
        assert!(runs.iter().all(|run| at(run).1 >= 0.0 && run["args"]["bytes"] == 800));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "no temporary file is left");
        expect_error(profile.save_trace(folder.join("absent/trace.json")), &["absent"]);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn misuse_is_an_error_and_leaves_the_device_usable() {
    for device in devices() {
        let (inner, _) = device.profile(|| device.profile(|| ()).map(drop)).unwrap();
        expect_error(inner, &["profile", "already"]);
        let panicked =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| device.profile(|| panic!("on purpose"))));
        assert!(panicked.is_err());
        let x = Tensor::ones(&[3], DType::F32, &device).unwrap();
        let (y, profile) = device.profile(|| x.add_scalar(1.0)?.to_vec::<f32>()).unwrap();
        assert_eq!((y.unwrap(), rows(&profile).len()), (vec![2.0; 3], 1), "\n{profile}");
    }
    if let Some(device) = portable_gpu() {
        expect_error(device.profile(|| ()).map(drop), &["profile", "timestamp"]);
        assert_eq!(Device::sync(device).map_err(|e| e.to_string()), Ok(()));
    }
}
