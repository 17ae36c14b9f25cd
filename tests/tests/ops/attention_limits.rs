//! Attention at its limits: rows that see nothing, scores far beyond what exp takes, and bits that must not change.

use wgrad::{AttentionOptions, BlockIndex, BlockLayout, DType, Device, KeyIndex, Mask, Result, SparseIndex, Tensor};
use wgrad_tests::{Input, each_device, gpu};

use crate::attention_kinds::{all_of, assert_all, inputs};

const LENGTH: usize = 40;

/// Blocks and lists in which the second block of queries has nothing. Neighbours share few keys, so that each query goes over its own list.
fn attend(x: &[Tensor], kind: &str, options: &AttentionOptions) -> Result<Tensor> {
    let device = x[0].device();
    let layout = BlockLayout { query_block: 32, key_block: 32, ..BlockLayout::new(LENGTH, LENGTH) };
    let first = Tensor::from_slice(&[true, true, false, false], &[1, 1, 2, 2], &Device::cpu())?;
    let blocks = BlockIndex::from_mask(&Mask::blocks(&first, 32, 32), layout, device)?;
    let lists = (0..LENGTH as u32)
        .flat_map(|i| [3, 5, 7].map(|n| if i < 32 { i * n % 13 + 13 * (n / 2 - 1) } else { u32::MAX }))
        .collect();
    let keys = KeyIndex::new(&Tensor::from_vec(lists, &[1, 1, LENGTH, 3], device)?, LENGTH)?;
    let index = match kind {
        "dense" => return x[0].attention(&x[1], &x[2], options),
        "blocks" => SparseIndex::Blocks(&blocks),
        _ => SparseIndex::Keys(&keys),
    };
    x[0].sparse_attention(&x[1], &x[2], index, options)
}

/// Of a row that sees nothing the result is zeros, and it gives no gradient, also not to the bias, though there are sinks and dropout.
#[test]
fn rows_that_see_nothing() {
    let extras = [Input::normal(&[2, LENGTH, LENGTH], 4), Input::normal(&[2], 5)];
    let all = [inputs([2, 1], [LENGTH, LENGTH], [8, 8]), extras.to_vec()].concat();
    each_device(|device| {
        // Kernels of lists of keys are soon compiled; the others are the same code for all rows.
        let kinds: &[&str] = if device.is_gpu() { &["keys"] } else { &["dense", "blocks", "keys"] };
        for &kind in kinds {
            let results = all_of(&all, device, DType::F32, &|x| {
                let (bias, sinks) = (Some(x[3].clone()), Some(x[4].clone()));
                // In each kind of list this hides the first four rows as well.
                let mask = Mask::causal(if kind == "dense" { -8 } else { -4 });
                let options = AttentionOptions { mask, bias, sinks, dropout: 0.2, ..Default::default() };
                attend(x, kind, &options)
            });
            let blind = |row: usize| row % LENGTH < 4 || (kind != "dense" && row % LENGTH >= 32);
            for (at, width) in [(0, 8), (1, 8), (4, LENGTH)] {
                let (blind, seeing): (Vec<_>, Vec<_>) =
                    results[at].chunks(width).enumerate().partition(|(row, _)| blind(*row));
                assert!(blind.iter().all(|(_, x)| x.iter().all(|&x| x == 0.0)), "{kind} on {device}, result {at}");
                assert!(seeing.iter().flat_map(|(_, x)| *x).any(|&x| x != 0.0), "{kind} on {device}, result {at}");
            }
            assert!(results.iter().flatten().all(|x| x.is_finite()), "{kind} on {device}");
        }
    });
}

/// In f32 as in f64, on the CPU device as on the GPU, there by lists of keys, whose kernels are soon compiled.
fn same_as_f64(what: &str, inputs: &[Input], f: &dyn Fn(&[Tensor], &str) -> Result<Tensor>) {
    // Of values that f32 holds.
    let rounded = |x: &Input| Input { values: x.values.iter().map(|&v| f64::from(v as f32)).collect(), ..x.clone() };
    let inputs: Vec<Input> = inputs.iter().map(rounded).collect();
    each_device(|device| {
        let kinds: &[&str] = if device.is_gpu() { &["keys"] } else { &["dense", "blocks", "keys"] };
        for kind in kinds {
            let want = all_of(&inputs, &Device::cpu(), DType::F64, &|x| f(x, kind));
            let got = all_of(&inputs, device, DType::F32, &|x| f(x, kind));
            // A score of 1,000 is known to 6e-5, and its weight no better.
            assert_all(&format!("{what} {kind} on {device}"), &got, &want, 1e-3);
        }
    });
}

#[test]
fn large_biases_and_sinks() {
    let scaled =
        |input: Input, by: f64| Input::of(&input.values.iter().map(|v| v * by).collect::<Vec<_>>(), &input.shape);
    for (bias, sink) in [(1e3, 0.0), (-1e3, 0.0), (1.0, 50.0), (1.0, -50.0)] {
        let mut extras = [scaled(Input::normal(&[2, LENGTH, LENGTH], 4), bias), Input::of(&[sink, -sink], &[2])];
        // Its own gradient on a GPU is a kernel more.
        extras[0].differentiable = false;
        let all = [inputs([2, 1], [LENGTH, LENGTH], [8, 8]), extras.to_vec()].concat();
        same_as_f64(&format!("bias {bias}, sinks {sink}"), &all, &|x, kind| {
            let (bias, sinks) = (Some(x[3].clone()), Some(x[4].clone()));
            attend(x, kind, &AttentionOptions { bias, sinks, ..Default::default() })
        });
    }
}

/// Scores of some 1,000, most of them where the cap is flat.
#[test]
fn scores_far_beyond_the_cap() {
    let all = inputs([2, 1], [LENGTH, LENGTH], [8, 8]);
    for scale in [0.5, 10.0, 300.0] {
        same_as_f64(&format!("scale {scale}"), &all, &|x, kind| {
            attend(x, kind, &AttentionOptions { scale: Some(scale), softcap: Some(30.0), ..Default::default() })
        });
    }
}

/// A mask that hides nothing changes no bit.
#[test]
fn a_mask_of_ones_is_no_mask() {
    let all = inputs([2, 1], [LENGTH, LENGTH], [8, 8]);
    each_device(|device| {
        let run = |mask: Mask| {
            let x = all.iter().map(|i| i.clone().constant().stored(device, DType::F32).unwrap()).collect::<Vec<_>>();
            attend(&x, "dense", &AttentionOptions { mask, ..Default::default() }).unwrap().to_f64_vec().unwrap()
        };
        let ones = Tensor::ones(&[1, 1, LENGTH, LENGTH], DType::Bool, device).unwrap();
        assert_eq!(run(Mask::dense(&ones)), run(Mask::all()), "{device}");
    });
}

/// Whatever comes later changes no bit of what was before, nor of its gradients.
#[test]
fn the_future_leaves_no_trace() {
    let all = inputs([2, 1], [LENGTH, LENGTH], [8, 8]);
    let now = 17;
    let changed = all.iter().cloned().map(|mut x| {
        x.values.iter_mut().enumerate().filter(|(n, _)| n / 8 % LENGTH >= now).for_each(|(_, v)| *v = 3.0 - *v);
        x
    });
    let changed: Vec<Input> = changed.collect();
    for device in [Some(&Device::cpu()), gpu()].into_iter().flatten() {
        let kinds: &[&str] = if device.is_gpu() { &["keys"] } else { &["dense", "blocks", "keys"] };
        for &kind in kinds {
            let run = |inputs: &[Input]| {
                all_of(inputs, device, DType::F32, &|x| {
                    let options = AttentionOptions { mask: Mask::causal(0), ..Default::default() };
                    attend(x, kind, &options)?.narrow(2, 0, now)
                })
            };
            let past = |all: Vec<Vec<f64>>| {
                let of =
                    |x: Vec<f64>| x.chunks(8 * LENGTH).flat_map(|head| head[..8 * now].to_vec()).collect::<Vec<_>>();
                let mut all = all.into_iter();
                let out = all.next();
                (out, all.map(of).collect::<Vec<_>>())
            };
            assert_eq!(past(run(&all)), past(run(&changed)), "{kind} on {device}");
        }
    }
}
