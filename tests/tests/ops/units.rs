//! Kernels for matrix units, with what the units compute emulated: the same results as without them, within what halves hold.

use wgrad::{
    AttentionOptions, BlockIndex, BlockLayout, DType, Device, Mask, MatmulFamily, Sparse24, Sparse24Form, Tensor,
    force_attention_units, force_sparse24,
};
use wgrad_tests::{Input, View, gpu_with_emulated_units};

use crate::attention_kinds::{EACH, KEYS, QUERIES, Terms, all_of, attend, every_kind, inputs, masks};
use crate::matmul::{by_families, integers};

/// The result and all gradients, in halves on both devices.
fn agrees(what: &str, inputs: &[Input], f: &dyn Fn(&[Tensor]) -> wgrad::Result<Tensor>) {
    let Some(gpu) = gpu_with_emulated_units() else { return };
    let got = force_attention_units(true, || all_of(inputs, gpu, DType::F16, f));
    let want = all_of(inputs, &Device::new_cpu(), DType::F16, f);
    for (at, (got, want)) in got.iter().zip(&want).enumerate() {
        let size = want.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        let apart = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart <= 0.01 * size, "{what}, result {at}: {apart} apart, of a size of {size}");
    }
    gpu.check_guards().unwrap();
}

/// Heads of a part of a fragment up to the widest, and values that go by chunks; edges on every side; sums that are scaled on the way, since large
/// scores grow by more than is let pass.
#[test]
fn attention_of_each_width() {
    let options = AttentionOptions { mask: Mask::causal(2), ..Default::default() };
    for (widths, queries, scale) in [([8, 8], 70, 1.0), ([33, 20], 129, 4.0)] {
        let fused = |x: &[Tensor]| x[0].mul_scalar(scale)?.attention(&x[1], &x[2], &options);
        agrees(&format!("{widths:?}"), &inputs([2, 1], [queries, 75], widths), &fused);
    }
    let values: Vec<Input> = inputs([2, 2], [40, 40], [16, 144]).into_iter().map(Input::constant).collect();
    agrees("wide values", &values, &|x| x[0].attention(&x[1], &x[2], &options));
}

#[test]
fn attention_under_each_mask() {
    let all = inputs([2, 2], [QUERIES, KEYS], [8, 8]);
    for (name, mask) in masks() {
        let options = AttentionOptions { mask: mask.and(every_kind()), ..Default::default() };
        agrees(name, &all, &|x| x[0].attention(&x[1], &x[2], &options));
    }
}

#[test]
fn attention_with_each_term() {
    for (which, dropout) in [(&EACH[3], 0.0), (&EACH[4], 0.3), (&EACH[6], 0.0)] {
        let terms = Terms::new(which, dropout);
        agrees(&format!("{which:?}"), &terms.inputs(), &|x| {
            x[0].device().set_seed(5);
            attend(x, "dense", &terms.options(x)?, false)
        });
    }
}

#[test]
fn attention_within_blocks() {
    let layout = BlockLayout { query_block: 64, key_block: 64, ..BlockLayout::new(261, 200) };
    agrees("blocks", &inputs([2, 1], [261, 200], [8, 12]), &|x| {
        let index = BlockIndex::from_mask(&Mask::global_window(0, 63, 63), layout, x[0].device())?;
        x[0].sparse_attention(&x[1], &x[2], &index, &Default::default())
    });
}

/// Edges, several steps and slices, operands that lie along k or across it in whole fours or not, packed ones, and what follows a product.
#[test]
fn products() {
    let Some(gpu) = gpu_with_emulated_units() else { return };
    let both = [MatmulFamily::Coop, MatmulFamily::CoopLarge];
    let swap = |x: Input| x.view(View::Permute(vec![0, 2, 1]));
    let matmul = |x: &[Tensor]| x[0].matmul(&x[1]);
    for (m, n, k) in [(67, 132, 46), (2, 3, 100)] {
        for flips in 0..4 {
            let a = if flips & 1 == 1 { swap(integers(&[2, k, m], 1)) } else { integers(&[2, m, k], 1) };
            let b = if flips & 2 == 2 { swap(integers(&[2, n, k], 2)) } else { integers(&[2, k, n], 2) };
            // What lies where is the same code in both.
            by_families(&both[..1 + usize::from(flips == 1)], gpu, DType::F16, &[a, b], &matmul);
        }
    }
    let layer = [integers(&[70, 32], 1), integers(&[36, 32], 2), integers(&[36], 3)];
    by_families(&both[..1], gpu, DType::F16, &layer, &|x| x[0].linear(&x[1], Some(&x[2])));
    by_families(&both, gpu, DType::F16, &layer, &|x| {
        let packed = Sparse24::magnitude(&x[1])?;
        force_sparse24(Sparse24Form::Tiled, || x[0].linear_sparse24(&packed, Some(&x[2])))
    });
}

/// The test before a device uses matrix units for attention passes, and attention of halves then runs on them.
#[test]
fn start_up_test() {
    let Some(gpu) = gpu_with_emulated_units() else { return };
    let x = [1, 2, 3].map(|seed| Input::normal(&[1, 1, 128, 64], seed).stored(gpu, DType::F16).unwrap());
    let run = || x[0].attention(&x[1], &x[2], &Default::default()).unwrap();
    // The test comes with the first.
    run();
    let rows = gpu.profile(run).unwrap().1.rows();
    assert!(rows.iter().any(|row| row.name == "attention/forward_units"), "{rows:?}");
}
