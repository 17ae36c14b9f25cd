//! Optimizers against plain Rust, on every device.

use wgrad::autograd::backward;
use wgrad::nn::Param;
use wgrad::optim::{Adam, Decay, Group, Lion, LossScaler, Optimizer, Rule, Schedule, Sgd, clip_grad_norm};
use wgrad::{DType, Device, Gradients, Tensor};
use wgrad_models::weights::{Pattern, SrSte, View};
use wgrad_tests::{Random, assert_close, assert_equal, each_device, expect_error};

const SHAPES: [&[usize]; 4] = [&[5, 3], &[7], &[33], &[2, 3, 4]];

fn tensor(values: &[f64], shape: &[usize], dtype: DType, device: &Device) -> Tensor {
    Tensor::from_slice(values, shape, &Device::cpu()).unwrap().cast(dtype).unwrap().to_device(device).unwrap()
}

fn normal(random: &mut Random, n: usize) -> Vec<f64> {
    // Values that every float dtype holds exactly, so that all start from the same numbers.
    (0..n).map(|_| (random.normal() * 16.0).round() / 16.0).collect()
}

fn params(seed: u64, dtype: DType, device: &Device) -> (Vec<Vec<f64>>, Vec<Param>) {
    let mut random = Random::new(seed);
    let values: Vec<Vec<f64>> = SHAPES.iter().map(|s| normal(&mut random, s.iter().product())).collect();
    let params = values.iter().zip(SHAPES).map(|(v, s)| Param::new(&tensor(v, s, dtype, device)).unwrap());
    let params = params.collect();
    (values, params)
}

/// Gradients with these values, for the parameters that have any.
fn gradients(params: &[Param], values: &[Option<Vec<f64>>]) -> Gradients {
    let tensors: Vec<Tensor> = params.iter().map(Param::tensor).collect();
    let roots: Vec<_> = tensors
        .iter()
        .zip(values)
        .filter_map(|(t, v)| Some((t, tensor(v.as_ref()?, t.shape(), t.dtype(), t.device()))))
        .collect();
    backward(&roots, &[], false).unwrap()
}

fn named(params: &[Param]) -> Vec<(String, Param)> {
    params.iter().enumerate().map(|(i, p)| (format!("p{i}"), p.clone())).collect()
}

fn values(param: &Param) -> Vec<f64> {
    param.tensor().to_f64_vec().unwrap()
}

/// One parameter's update, written down from the papers.
#[derive(Default, Clone)]
struct Reference {
    first: Vec<f64>,
    second: Vec<f64>,
    steps: i32,
}

impl Reference {
    fn step(&mut self, rule: Rule, lr: f64, decay: f64, p: &mut [f64], gradient: &[f64]) {
        self.first.resize(p.len(), 0.0);
        self.second.resize(p.len(), 0.0);
        self.steps += 1;
        let t = self.steps;
        for i in 0..p.len() {
            let (m, v, mut g) = (&mut self.first[i], &mut self.second[i], gradient[i]);
            match rule {
                Rule::AdamW(a) | Rule::Adam(a) => {
                    if matches!(rule, Rule::AdamW(_)) {
                        p[i] -= lr * decay * p[i];
                    } else {
                        g += decay * p[i];
                    }
                    *m = a.beta1 * *m + (1.0 - a.beta1) * g;
                    *v = a.beta2 * *v + (1.0 - a.beta2) * g * g;
                    let (mean, square) = (*m / (1.0 - a.beta1.powi(t)), *v / (1.0 - a.beta2.powi(t)));
                    p[i] -= lr * mean / (square.sqrt() + a.eps);
                }
                Rule::Sgd(s) => {
                    g += decay * p[i];
                    *m = s.momentum * *m + g;
                    p[i] -= lr * if s.nesterov { g + s.momentum * *m } else { *m };
                }
                Rule::Lion(l) => {
                    let c = l.beta1 * *m + (1.0 - l.beta1) * g;
                    p[i] -= lr * (if c == 0.0 { 0.0 } else { c.signum() } + decay * p[i]);
                    *m = l.beta2 * *m + (1.0 - l.beta2) * g;
                }
            }
        }
    }
}

fn rules() -> [Rule; 6] {
    let sgd = |momentum, nesterov| Rule::Sgd(Sgd { momentum, nesterov, weight_decay: 0.02 });
    [
        Rule::AdamW(Adam { weight_decay: 0.1, ..Adam::default() }),
        Rule::Adam(Adam { weight_decay: 0.05, beta1: 0.8, beta2: 0.95, eps: 1e-6 }),
        sgd(0.0, false),
        sgd(0.9, false),
        sgd(0.8, true),
        Rule::Lion(Lion { weight_decay: 0.1, ..Lion::default() }),
    ]
}

/// Five steps of two groups, with and without clipping; one parameter has no gradient in the second step and one never has.
fn follows(rule: Rule, dtype: DType, device: &Device, max_norm: Option<f64>) {
    let (mut want, params) = params(3, dtype, device);
    let all = named(&params);
    let groups =
        vec![Group::new(all[..2].to_vec()), Group::new(all[2..].to_vec()).with_weight_decay(0.0).with_lr_scale(0.5)];
    let mut optimizer = Optimizer::new(rule, 0.05, groups).unwrap();
    if let Some(max_norm) = max_norm {
        optimizer = optimizer.with_max_norm(max_norm).unwrap();
    }
    let mut states = vec![Reference::default(); 4];
    let mut random = Random::new(11);
    for step in 0..5 {
        let grads: Vec<Option<Vec<f64>>> =
            (0..4).map(|i| (i != 1 && !(step == 1 && i == 2)).then(|| normal(&mut random, want[i].len()))).collect();
        let report = optimizer.step(&gradients(&params, &grads)).unwrap();
        let norm = grads.iter().flatten().flatten().map(|g| g * g).sum::<f64>().sqrt();
        let factor = max_norm.map_or(1.0, |max| (max / (norm + 1e-6)).min(1.0));
        assert_eq!(report.grad_norm.is_some(), max_norm.is_some());
        if let Some(found) = report.grad_norm {
            assert_close("grad_norm", &[found.item().unwrap()], &[norm], 0.0, 1e-6);
        }
        let decays = [0.0, 0.0].map(|_: f64| match rule {
            Rule::AdamW(a) | Rule::Adam(a) => a.weight_decay,
            Rule::Sgd(s) => s.weight_decay,
            Rule::Lion(l) => l.weight_decay,
        });
        for (i, g) in grads.iter().enumerate() {
            let Some(g) = g else { continue };
            let g: Vec<f64> = g.iter().map(|g| g * factor).collect();
            let (lr, decay) = if i < 2 { (0.05, decays[i]) } else { (0.025, 0.0) };
            states[i].step(rule, lr, decay, &mut want[i], &g);
        }
    }
    for (i, param) in params.iter().enumerate() {
        let (atol, rtol) = match dtype {
            DType::F64 => (1e-12, 1e-12),
            DType::F16 => (1e-6, 1.01 / 2048.0),
            DType::BF16 => (1e-6, 1.01 / 256.0),
            _ => (2e-6, 2e-6),
        };
        assert_close(&format!("{rule:?} {dtype} p{i} on {device}"), &values(param), &want[i], atol, rtol);
    }
}

#[test]
fn rules_follow_their_papers() {
    each_device(|device| {
        for rule in rules() {
            for max_norm in [None, Some(1.0), Some(1e4)] {
                follows(rule, DType::F32, device, max_norm);
            }
            follows(rule, DType::F16, device, Some(1.0));
            follows(rule, DType::BF16, device, None);
            if !device.is_gpu() {
                follows(rule, DType::F64, device, Some(1.0));
            }
        }
    });
}

/// What SR-STE adds to the gradient, in plain Rust.
fn unseen(values: &[f64], decay: f64) -> Vec<f64> {
    let four = |four: &[f64]| {
        let mut order = [0, 1, 2, 3];
        // Stable: of equal ones the first stays in front.
        order.sort_by(|&a, &b| four[b].abs().total_cmp(&four[a].abs()));
        let mut out = [0.0; 4];
        order[2..].iter().for_each(|&i| out[i] = decay * four[i]);
        out
    };
    values.chunks(4).flat_map(four).collect()
}

#[test]
fn unseen_weights_decay() {
    const SHAPES: [&[usize]; 4] = [&[3, 8], &[4], &[0, 4], &[2, 3, 12]];
    each_device(|device| {
        for rule in rules().into_iter().filter(|rule| !matches!(rule, Rule::Lion(_))) {
            for max_norm in [None, Some(1.0)] {
                let mut random = Random::new(21);
                // No two of one size: which of two is seen would hang on the rounding.
                let mut random_values =
                    |n: usize| (0..n).map(|_| f64::from(random.normal() as f32)).collect::<Vec<_>>();
                let mut want: Vec<Vec<f64>> = SHAPES.iter().map(|s| random_values(s.iter().product())).collect();
                let new = |(v, s): (&Vec<f64>, &&[usize])| Param::new(&tensor(v, s, DType::F32, device)).unwrap();
                let params: Vec<Param> = want.iter().zip(&SHAPES).map(new).collect();
                let all = named(&params);
                let groups = vec![Group::new(all[..3].to_vec()).with_sr_ste(0.3), Group::new(all[3..].to_vec())];
                let mut optimizer = Optimizer::new(rule, 0.05, groups).unwrap();
                if let Some(max_norm) = max_norm {
                    optimizer = optimizer.with_max_norm(max_norm).unwrap();
                }
                let mut states = vec![Reference::default(); 4];
                for _ in 0..3 {
                    let grads: Vec<Vec<f64>> = want.iter().map(|w| random_values(w.len())).collect();
                    let given: Vec<_> = grads.iter().cloned().map(Some).collect();
                    optimizer.step(&gradients(&params, &given)).unwrap();
                    let norm = grads.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
                    let factor = max_norm.map_or(1.0, |max| (max / (norm + 1e-6)).min(1.0));
                    for (i, g) in grads.iter().enumerate() {
                        let added = unseen(&want[i], if i < 3 { 0.3 } else { 0.0 });
                        let g: Vec<f64> = g.iter().zip(added).map(|(g, added)| g * factor + added).collect();
                        let decay = match rule {
                            Rule::AdamW(a) | Rule::Adam(a) => a.weight_decay,
                            Rule::Sgd(s) => s.weight_decay,
                            Rule::Lion(l) => l.weight_decay,
                        };
                        states[i].step(rule, 0.05, decay, &mut want[i], &g);
                    }
                }
                for (i, param) in params.iter().enumerate() {
                    assert_close(&format!("{rule:?} p{i} on {device}"), &values(param), &want[i], 4e-6, 4e-6);
                }
            }
        }
        // Of equal ones the first are seen.
        let param = Param::new(&tensor(&[0.5, -0.5, 0.5, 1.0], &[4], DType::F32, device)).unwrap();
        let group = Group::new(named(std::slice::from_ref(&param))).with_sr_ste(0.5);
        let mut optimizer = Optimizer::new(Rule::Sgd(Sgd::default()), 0.125, vec![group]).unwrap();
        optimizer.step(&gradients(std::slice::from_ref(&param), &[Some(vec![0.0; 4])])).unwrap();
        assert_equal("ties", &values(&param), &[0.5, -0.46875, 0.46875, 1.0]);
    });
}

/// The decay of the optimizer is the gradient of the view's penalty.
#[test]
fn unseen_weights_decay_as_under_the_view() {
    each_device(|device| {
        let mut random = Random::new(22);
        let start = normal(&mut random, 5 * 12);
        let [by_view, by_optimizer] = [0.3, 0.0].map(|of_view| {
            let param = Param::new(&tensor(&start, &[5, 12], DType::F32, device)).unwrap();
            let view = SrSte { pattern: Pattern::TWO_OF_FOUR, decay: of_view };
            let group = Group::new(named(std::slice::from_ref(&param))).with_sr_ste(0.3 - of_view);
            let mut optimizer = Optimizer::new(Rule::Sgd(Sgd::default()), 0.1, vec![group]).unwrap();
            for _ in 0..3 {
                let weight = param.tensor();
                let shown = view.matrix(&weight).unwrap();
                let mut loss = shown.square().unwrap().sum_all().unwrap();
                if let Some(penalty) = view.penalty(&weight, &shown).unwrap() {
                    loss = loss.add(&penalty).unwrap();
                }
                let gradients = loss.backward().unwrap();
                drop((weight, shown, loss));
                optimizer.step(&gradients).unwrap();
            }
            values(&param)
        });
        assert_close("decay", &by_optimizer, &by_view, 1e-6, 1e-6);
        assert!(by_view.iter().zip(&start).all(|(now, then)| now.abs() < then.abs() || *then == 0.0));
    });
}

#[test]
fn long_parameters_are_updated_whole() {
    // Longer than one task of the CPU, more than one workgroup and partial sum of the GPU.
    let n = 70_001;
    each_device(|device| {
        let mut random = Random::new(5);
        let (start, g): (Vec<f64>, Vec<f64>) = (0..n).map(|_| (random.normal(), random.normal())).unzip();
        let param = Param::new(&tensor(&start, &[n], DType::F32, device)).unwrap();
        let rule = Rule::AdamW(Adam::default());
        let mut optimizer = Optimizer::new(rule, 0.1, vec![Group::new(named(std::slice::from_ref(&param)))]).unwrap();
        optimizer = optimizer.with_max_norm(2.0).unwrap();
        let report = optimizer.step(&gradients(std::slice::from_ref(&param), &[Some(g.clone())])).unwrap();
        let norm = g.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert_close("grad_norm", &[report.grad_norm.unwrap().item().unwrap()], &[norm], 0.0, 1e-6);
        let mut want = start;
        let g: Vec<f64> = g.iter().map(|g| g * 2.0 / (norm + 1e-6)).collect();
        Reference::default().step(rule, 0.1, 0.01, &mut want, &g);
        assert_close("long", &values(&param), &want, 2e-6, 2e-6);
    });
}

/// Gradients of which a GPU makes no copy, among small ones, and one that begins within another tensor.
#[test]
fn large_gradients_are_read_where_they_are() {
    let large = (1 << 18) + 4;
    let sizes = [7, large, 33, large + 1, 1 << 18];
    each_device(|device| {
        // Without a norm to clip to they are; with one all are gathered.
        for (rule, max_norm) in [(rules()[0], None), (rules()[4], None), (rules()[5], None), (rules()[0], Some(3.0))] {
            let mut random = Random::new(6);
            let mut draw = |n: usize| -> Vec<f64> { (0..n).map(|_| f64::from(random.normal() as f32)).collect() };
            let mut want: Vec<Vec<f64>> = sizes.iter().map(|&n| draw(n)).collect();
            let params: Vec<Param> =
                want.iter().map(|v| Param::new(&tensor(v, &[v.len()], DType::F32, device)).unwrap()).collect();
            let mut optimizer =
                Optimizer::new(rule, 0.05, vec![Group::new(named(&params)).with_weight_decay(0.1)]).unwrap();
            if let Some(max_norm) = max_norm {
                optimizer = optimizer.with_max_norm(max_norm).unwrap();
            }
            let mut states = vec![Reference::default(); sizes.len()];
            for _ in 0..2 {
                let all: Vec<f64> = draw(sizes.iter().sum::<usize>() + 4);
                // The last gradient begins 4 elements into a tensor.
                let (small, long) = all.split_at(all.len() - sizes[4] - 4);
                let mut rest = small;
                let mut grads: Vec<Vec<f64>> = Vec::new();
                for &n in &sizes[..4] {
                    let (own, more) = rest.split_at(n);
                    grads.push(own.to_vec());
                    rest = more;
                }
                grads.push(long[4..].to_vec());
                let tensors: Vec<Tensor> = params.iter().map(Param::tensor).collect();
                let mut of: Vec<Tensor> =
                    grads[..4].iter().map(|g| tensor(g, &[g.len()], DType::F32, device)).collect();
                of.push(tensor(long, &[long.len()], DType::F32, device).narrow(0, 4, sizes[4]).unwrap());
                let gradients = backward(&tensors.iter().zip(of).collect::<Vec<_>>(), &[], false).unwrap();
                optimizer.step(&gradients).unwrap();
                let norm = grads.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
                for ((state, want), g) in states.iter_mut().zip(&mut want).zip(&grads) {
                    let g: Vec<f64> = g.iter().map(|g| g * max_norm.map_or(1.0, |max| max / (norm + 1e-6))).collect();
                    state.step(rule, 0.05, 0.1, want, &g);
                }
            }
            for (param, want) in params.iter().zip(&want) {
                assert_close(&format!("{rule:?} on {device}"), &values(param), want, 3e-6, 3e-6);
            }
        }
    });
}

#[test]
fn tensors_in_hand_never_change() {
    each_device(|device| {
        for dtype in [DType::F32, DType::BF16] {
            let (_, params) = params(4, dtype, device);
            let mut optimizer =
                Optimizer::new(Rule::AdamW(Adam::default()), 0.1, vec![Group::new(named(&params))]).unwrap();
            let grads: Vec<_> = params.iter().map(|p| Some(vec![1.0; p.elements()])).collect();
            for step in 0..3 {
                // In the last step nobody holds anything, so that both ways are gone.
                let held = (step < 2).then(|| (params[1].tensor(), optimizer.state_tensors()));
                let before = held.as_ref().map(|(t, s)| (t.to_f64_vec().unwrap(), s[0].1.to_f64_vec().unwrap()));
                let old = values(&params[1]);
                optimizer.step(&gradients(&params, &grads)).unwrap();
                if let (Some((t, s)), Some((was, state))) = (held, before) {
                    assert_equal("held parameter", &t.to_f64_vec().unwrap(), &was);
                    assert_equal("held state", &s[0].1.to_f64_vec().unwrap(), &state);
                }
                assert!(values(&params[1]).iter().zip(&old).all(|(new, old)| new < old));
            }
        }
    });
}

#[test]
fn steps_take_no_new_memory() {
    if wgrad_tests::gpu().is_none() {
        return;
    }
    // A device of its own: other tests use the memory of the shared one at the same time.
    let device = Device::software().unwrap();
    let n = 100_000;
    let param = Param::new(&Tensor::zeros(&[n], DType::F32, &device).unwrap()).unwrap();
    let gradients = gradients(std::slice::from_ref(&param), &[Some(vec![1.0; n])]);
    let optimizer =
        Optimizer::new(Rule::AdamW(Adam::default()), 0.1, vec![Group::new(named(std::slice::from_ref(&param)))]);
    let mut optimizer = optimizer.unwrap().with_max_norm(1.0).unwrap();
    optimizer.step(&gradients).unwrap();
    let peak = device.memory().peak_bytes;
    for _ in 0..5 {
        optimizer.step(&gradients).unwrap();
    }
    assert_eq!(device.memory().peak_bytes, peak);
    let held = param.tensor();
    optimizer.step(&gradients).unwrap();
    let live = device.memory().live_bytes;
    drop(held);
    assert!(live - device.memory().live_bytes >= 4 * n as u64, "the held tensor was not given a buffer of its own");
}

#[test]
fn values_set_from_outside_are_taken_in() {
    each_device(|device| {
        for dtype in [DType::F32, DType::F16] {
            let (_, params) = params(5, dtype, device);
            let rule = Rule::Sgd(Sgd::default());
            let mut optimizer = Optimizer::new(rule, 0.5, vec![Group::new(named(&params))]).unwrap();
            let grads: Vec<_> = params.iter().map(|p| Some(vec![1.0; p.elements()])).collect();
            optimizer.step(&gradients(&params, &grads)).unwrap();
            params[1].set(&tensor(&[8.0; 7], &[7], dtype, device)).unwrap();
            // One parameter's value for another: both stand in the same buffer.
            let other = params[3].tensor().reshape(&[24]).unwrap().narrow(0, 3, 15).unwrap();
            params[0].set(&other.reshape(&[5, 3]).unwrap()).unwrap();
            let start = values(&params[0]);
            let gradients = gradients(&params, &grads);
            optimizer.step(&gradients).unwrap();
            assert_equal("set", &values(&params[1]), &[7.5; 7]);
            let want: Vec<f64> = start.iter().map(|v| v - 0.5).collect();
            assert_close("set to a view of another", &values(&params[0]), &want, 1e-6, 1e-3);
        }
    });
}

#[test]
fn gradients_that_are_not_finite_change_nothing() {
    each_device(|device| {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for dtype in [DType::F32, DType::F16] {
                let (start, params) = params(6, dtype, device);
                let rule = Rule::AdamW(Adam::default());
                let mut optimizer = Optimizer::new(rule, 0.1, vec![Group::new(named(&params))]).unwrap();
                let mut scaler = LossScaler::new(4.0, 2).unwrap();
                let mut grads: Vec<_> = params.iter().map(|p| Some(vec![4.0; p.elements()])).collect();
                grads[2].as_mut().unwrap()[20] = bad;
                let report = optimizer.step_scaled(&gradients(&params, &grads), &mut scaler).unwrap();
                assert_eq!(report.skipped.unwrap().item().unwrap(), 1.0);
                assert_eq!(scaler.scale().unwrap(), 2.0);
                assert_equal("skipped", &values(&params[2]), &start[2]);

                // The step that failed does not count: the next one is the first.
                grads[2].as_mut().unwrap()[20] = 4.0;
                let report = optimizer.step_scaled(&gradients(&params, &grads), &mut scaler).unwrap();
                assert_eq!(report.skipped.unwrap().item().unwrap(), 0.0);
                let norm = 2.0 * (15.0f64 + 7.0 + 33.0 + 24.0).sqrt();
                assert_close("unscaled norm", &[report.grad_norm.unwrap().item().unwrap()], &[norm], 0.0, 1e-6);
                let mut want = start[2].clone();
                Reference::default().step(rule, 0.1, 0.01, &mut want, &[2.0; 33]);
                let rtol = if dtype == DType::F16 { 1.0 / 2048.0 } else { 2e-6 };
                assert_close("after", &values(&params[2]), &want, 2e-6, rtol);
                optimizer.step_scaled(&gradients(&params, &grads), &mut scaler).unwrap();
                assert_eq!(scaler.scale().unwrap(), 4.0);
            }
        }
        // Clipping alone guards as well, without waiting.
        let (start, params) = params(6, DType::F32, device);
        let optimizer = Optimizer::new(Rule::Lion(Lion::default()), 0.1, vec![Group::new(named(&params))]);
        let mut optimizer = optimizer.unwrap().with_max_norm(1.0).unwrap();
        let mut grads: Vec<_> = params.iter().map(|p| Some(vec![1.0; p.elements()])).collect();
        grads[3].as_mut().unwrap()[0] = f64::NAN;
        optimizer.step(&gradients(&params, &grads)).unwrap();
        assert_equal("clipped", &values(&params[0]), &start[0]);
    });
}

/// After steps that failed, and when another parameter joins, the bias of the means is that of the steps that counted.
#[test]
fn skipped_steps_do_not_count() {
    each_device(|device| {
        let rule = Rule::AdamW(Adam::default());
        let (start, params) = params(9, DType::F32, device);
        let mut optimizer = Optimizer::new(rule, 0.1, vec![Group::new(named(&params))]).unwrap();
        let mut scaler = LossScaler::new(1.0, 100).unwrap();
        let mut references = [Reference::default(), Reference::default()];
        let mut want = [start[0].clone(), start[1].clone()];
        let mut scale = 1.0;
        for (step, bad) in [true, true, false, true, false, false, true, false].into_iter().enumerate() {
            let value = if bad { f64::INFINITY } else { 0.5 - step as f64 };
            let both = step > 4;
            let mut grads = vec![None; 4];
            grads[0] = Some(vec![value; start[0].len()]);
            grads[1] = both.then(|| vec![1.0; start[1].len()]);
            optimizer.step_scaled(&gradients(&params, &grads), &mut scaler).unwrap();
            for i in (0..2).filter(|&i| !bad && grads[i].is_some()) {
                let unscaled: Vec<f64> = grads[i].as_ref().unwrap().iter().map(|g| g / scale).collect();
                references[i].step(rule, 0.1, 0.01, &mut want[i], &unscaled);
            }
            scale *= if bad { 0.5 } else { 1.0 };
            for i in 0..2 {
                assert_close("counted", &values(&params[i]), &want[i], 1e-5, 1e-5);
            }
        }
        let numbers = optimizer.state_numbers().unwrap();
        assert_eq!((&numbers["steps"]["p0"], &numbers["steps"]["p1"]), (&4.into(), &2.into()));
        assert_eq!(scaler.state().unwrap()["good_steps"], 1);
    });
}

#[test]
fn clipping_alone() {
    each_device(|device| {
        let x = tensor(&[3.0, 0.0, -4.0], &[3], DType::F32, device);
        let y = tensor(&[12.0], &[1, 1], DType::F32, device);
        let (norm, scaled) = clip_grad_norm(&[&x, &y], 1.3).unwrap();
        assert_close("norm", &[norm.item().unwrap()], &[13.0], 0.0, 1e-6);
        assert_close("clipped", &scaled[0].to_f64_vec().unwrap(), &[0.3, 0.0, -0.4], 1e-6, 1e-6);
        let (_, scaled) = clip_grad_norm(&[&x, &y], 20.0).unwrap();
        assert_equal("kept", &scaled[1].to_f64_vec().unwrap(), &[12.0]);
        expect_error(clip_grad_norm(&[], 1.0), &["clip_grad_norm", "no gradients"]);
        expect_error(clip_grad_norm(&[&x], -1.0), &["clip_grad_norm", "max_norm", "-1"]);
    });
}

#[test]
fn a_frozen_or_lone_parameter_stays() {
    let (start, params) = params(8, DType::F32, &Device::cpu());
    params[0].set_trainable(false);
    assert!(!params[0].tensor().is_tracked());
    let mut optimizer = Optimizer::new(Rule::Adam(Adam::default()), 0.1, vec![Group::new(named(&params))]).unwrap();
    optimizer.step(&gradients(&params[2..3], &[Some(vec![1.0; 33])])).unwrap();
    assert_equal("frozen", &values(&params[0]), &start[0]);
    assert_equal("without gradient", &values(&params[1]), &start[1]);
    assert_ne!(values(&params[2]), start[2]);
    optimizer.step(&Gradients::default()).unwrap();
}

#[test]
fn bad_settings_are_refused() {
    let (_, params) = params(9, DType::F32, &Device::cpu());
    let new = |rule, lr, params: &[Param]| Optimizer::new(rule, lr, vec![Group::new(named(params))]);
    let adam = Adam::default();
    expect_error(new(Rule::AdamW(Adam { beta1: 1.0, ..adam }), 0.1, &params), &["Optimizer::new", "beta1 is 1"]);
    expect_error(new(Rule::Adam(Adam { eps: -1.0, ..adam }), 0.1, &params), &["eps is -1"]);
    expect_error(new(Rule::Adam(adam), f64::NAN, &params), &["learning rate is NaN"]);
    expect_error(new(Rule::Adam(adam), 0.1, &[]), &["no parameters"]);
    let twice = [params[0].clone(), params[0].clone()];
    expect_error(new(Rule::Adam(adam), 0.1, &twice), &["p1", "twice"]);
    let nesterov = Rule::Sgd(Sgd { nesterov: true, ..Sgd::default() });
    expect_error(new(nesterov, 0.1, &params), &["nesterov", "momentum"]);
    let sr_ste = |rule, decay| Optimizer::new(rule, 0.1, vec![Group::new(named(&params)).with_sr_ste(decay)]);
    expect_error(sr_ste(Rule::Adam(adam), 0.1), &["p0", "[5, 3]", "SR-STE", "fours"]);
    expect_error(sr_ste(Rule::Adam(adam), -1.0), &["SR-STE", "-1"]);
    expect_error(sr_ste(Rule::Lion(Lion::default()), 0.1), &["Lion", "SR-STE"]);
    let int = Tensor::from_slice(&[1i32], &[1], &Device::cpu()).unwrap();
    expect_error(Param::new(&int), &["Param::new", "i32", "float"]);
    let wrong = Tensor::from_slice(&[1f32], &[1], &Device::cpu()).unwrap();
    expect_error(params[1].set(&wrong), &["Param::set", "[1]", "[7]"]);
    expect_error(LossScaler::new(3.0, 1), &["LossScaler::new", "power of two"]);
}

#[test]
fn schedules_have_their_corners() {
    let schedule = |decay| Schedule { peak: 2.0, warmup: 4, total: 24, floor: 0.1, decay };
    for decay in [Decay::Constant, Decay::Linear, Decay::Cosine, Decay::InverseSqrt] {
        assert_close("warm-up", &[schedule(decay).at(0), schedule(decay).at(3)], &[0.4, 1.6], 1e-12, 0.0);
        assert_eq!(schedule(decay).at(4), 2.0);
    }
    let at = |decay, step| schedule(decay).at(step);
    assert_close("half-way", &[at(Decay::Linear, 14), at(Decay::Cosine, 14)], &[1.1, 1.1], 1e-12, 0.0);
    assert_close("end", &[at(Decay::Linear, 24), at(Decay::Cosine, 1000)], &[0.2, 0.2], 1e-12, 0.0);
    assert_close("others", &[at(Decay::Constant, 99), at(Decay::InverseSqrt, 19)], &[2.0, 1.0], 1e-12, 0.0);
    let scaler = LossScaler::new(1024.0, 7).unwrap();
    let state = scaler.state().unwrap();
    assert_eq!(LossScaler::from_state(&state).unwrap().state().unwrap(), state);
}
