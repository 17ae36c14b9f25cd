//! Masks of groups of parameters.

use proptest::prelude::*;
use wgrad::{DType, Device, PatternOptions, Tensor, reference};
use wgrad_tests::{
    Input, Random, assert_close, assert_equal, each_device, expect_error, gradcheck, gradcheck_within, same_on_devices,
    same_on_devices_within, strategy,
};

use crate::random::at;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

/// The n best of each group by sorting it.
fn by_sorting(scores: &[f32], columns: usize, n: usize, m: usize) -> Vec<bool> {
    let mut mask = vec![false; scores.len()];
    for row in 0..scores.len() / columns.max(1) {
        for first in (0..columns).step_by(m) {
            let mut order: Vec<usize> = (first..columns.min(first + m)).map(|c| row * columns + c).collect();
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            order.into_iter().take(n).for_each(|place| mask[place] = true);
        }
    }
    mask
}

#[test]
fn the_first_of_equal_scores_is_kept() {
    each_device(|device| {
        let scores = [1.0, 1.0, 1.0, 1.0, -0.0, 0.0, -1.0, 0.0, f32::NAN, 3.0, f32::INFINITY, f32::NEG_INFINITY, 5.0];
        let x = Tensor::from_slice(&scores, &[1, 13], device).unwrap();
        let kept = |n, m| {
            let mask = x.n_of_m_mask(n, m).unwrap().to_vec::<bool>().unwrap();
            (0..13).filter(|&i| mask[i]).collect::<Vec<usize>>()
        };
        assert_equal("2:4", &kept(2, 4), &[0, 1, 4, 5, 8, 10, 12]);
        assert_equal("1:2", &kept(1, 2), &[0, 2, 4, 7, 8, 10, 12]);
        assert_equal("3:8, a group of five at the end", &kept(3, 8), &[0, 1, 2, 8, 10, 12]);
        assert_equal("none", &kept(0, 4), &[]);
        assert_equal("all", &kept(5, 5), &(0..13).collect::<Vec<_>>());
        let integers = Tensor::from_slice(&[-3i32, 7, 7, i32::MIN], &[4], device).unwrap();
        assert_equal(
            "i32",
            &integers.n_of_m_mask(2, 4).unwrap().to_vec::<bool>().unwrap(),
            &[false, true, true, false],
        );
        for shape in [&[0, 4][..], &[3, 0], &[0]] {
            let nothing = Tensor::zeros(shape, DType::F32, device).unwrap();
            assert_eq!(nothing.n_of_m_mask(2, 4).unwrap().shape(), shape);
        }
    });
}

proptest! {
    #![proptest_config(config(16))]

    #[test]
    fn as_by_sorting(shape in strategy::shape(1..=3), n in 0usize..6, more in 0usize..35, seed in any::<u64>()) {
        let m = (n + more).max(1);
        let mut input = strategy::view_of(&shape, &|shape, seed| Input::indices(9, shape, DType::F32, seed), seed);
        input.dtype = DType::F32;
        each_device(|device| {
            let x = input.operand(&input.stored(device, DType::F32).unwrap()).unwrap();
            let want = by_sorting(&x.to_vec::<f32>().unwrap(), shape[shape.len() - 1], n, m);
            assert_equal("n_of_m_mask", &x.n_of_m_mask(n, m).unwrap().to_vec::<bool>().unwrap(), &want);
        });
        same_on_devices("n_of_m_mask", &[input.constant()], |x| x[0].n_of_m_mask(n, m));
    }

    #[test]
    fn transposable(rows in 0usize..10, columns in 0usize..10, matrices in 1usize..3, seed in any::<u64>()) {
        let input = Input::uniform(0.0, 1.0, &[matrices, columns, rows], seed).view(wgrad_tests::View::Permute(vec![0, 2, 1]));
        each_device(|device| {
            let x = input.operand(&input.stored(device, DType::F32).unwrap()).unwrap();
            let scores = x.to_vec::<f32>().unwrap();
            let mask = x.transposable_mask().unwrap().to_vec::<bool>().unwrap();
            for matrix in 0..matrices {
                for (down, across) in (0..rows.div_ceil(4)).flat_map(|d| (0..columns.div_ceil(4)).map(move |a| (d, a))) {
                    let place = |r: usize, c: usize| (matrix * rows + 4 * down + r) * columns + 4 * across + c;
                    let inside = |r: usize, c: usize| 4 * down + r < rows && 4 * across + c < columns;
                    let kept = |r: usize, c: usize| inside(r, c) && mask[place(r, c)];
                    let score = |r: usize, c: usize| if inside(r, c) { scores[place(r, c)] } else { 0.0 };
                    let whole = inside(3, 3);
                    for line in 0..4 {
                        let [row, column] = [(0..4).filter(|&i| kept(line, i)).count(), (0..4).filter(|&i| kept(i, line)).count()];
                        assert!(if whole { row == 2 && column == 2 } else { row <= 2 && column <= 2 });
                    }
                    // No choice of 16 bits with two in each line scores more.
                    let lines = |bits: u32| (0..4).all(|i| {
                        (bits >> (4 * i) & 15).count_ones() == 2 && (bits >> i & 0x1111).count_ones() == 2
                    });
                    let sum = |on: &dyn Fn(usize, usize) -> bool| -> f32 {
                        (0..16).map(|i| if on(i / 4, i % 4) { score(i / 4, i % 4) } else { 0.0 }).sum()
                    };
                    let all = (0..1u32 << 16).filter(|&bits| lines(bits));
                    let best = all.map(|bits| sum(&|r, c| bits >> (4 * r + c) & 1 == 1)).fold(0.0, f32::max);
                    assert!(sum(&kept) >= best - 1e-5, "{} of {best}", sum(&kept));
                }
            }
        });
        same_on_devices("transposable_mask", &[input.constant()], |x| x[0].transposable_mask());
    }
}

/// Of Gaussian weights the best transposable masks keep 94.3 % of what masks of rows keep.
#[test]
fn transposable_masks_keep_nearly_as_much() {
    let cpu = Device::new_cpu();
    cpu.set_seed(3);
    let scores = Tensor::normal(0.0, 1.0, &[256, 256], DType::F32, &cpu).unwrap().abs().unwrap();
    let zero = Tensor::scalar(0.0, DType::F32, &cpu).unwrap();
    let kept = |mask: &Tensor| Tensor::where_cond(mask, &scores, &zero).unwrap().sum_all().unwrap().item().unwrap();
    let part = kept(&scores.transposable_mask().unwrap()) / kept(&scores.n_of_m_mask(2, 4).unwrap());
    assert!((part - 0.943).abs() < 0.003, "{part}");
}

fn options(noise: bool, hard: bool) -> PatternOptions {
    PatternOptions { scale: 1.3, temperature: 0.7, noise, hard }
}

/// Both results in one.
fn both(x: &[Tensor], options: &PatternOptions) -> wgrad::Result<Tensor> {
    let (masked, mask) = at(x[0].device(), 5, || x[0].six_pattern_weight(&x[1], options))?;
    masked.add(&mask.mul(&mask)?)
}

#[test]
fn six_patterns_by_hand() {
    each_device(|device| {
        let gates = Tensor::from_slice(&[0.1f32, 0.0, 0.0, 0.0, 0.0, -0.1], &[1, 1, 6], device).unwrap();
        let weight = Tensor::from_slice(&[1.0f32, -2.0, 3.0, 4.0], &[1, 4], device).unwrap();
        let soft = PatternOptions { scale: 10.0, temperature: 2.0, noise: false, hard: false };
        let (masked, mask) = gates.six_pattern_weight(&weight, &soft).unwrap();
        let want = [0.5833052, 0.5833052, 0.4166948, 0.4166948];
        assert_close("mask", &mask.to_f64_vec().unwrap(), &want, 1e-6, 1e-6);
        let want = [0.5833052, -1.1666104, 1.2500844, 1.6667792];
        assert_close("masked weight", &masked.to_f64_vec().unwrap(), &want, 1e-6, 1e-6);
        let hard = PatternOptions { hard: true, ..soft };
        let (masked, mask) = gates.six_pattern_weight(&weight, &hard).unwrap();
        assert_equal("hard mask", &mask.to_vec::<f32>().unwrap(), &[1.0, 1.0, 0.0, 0.0]);
        assert_equal("hard weight", &masked.to_vec::<f32>().unwrap(), &[1.0, -2.0, 0.0, 0.0]);
        // Far beyond what an exponential holds.
        let steep = PatternOptions { scale: 500.0, temperature: 0.05, noise: false, hard: false };
        let (_, mask) = gates.six_pattern_weight(&weight, &steep).unwrap();
        assert_close("steep", &mask.to_f64_vec().unwrap(), &[1.0, 1.0, 0.0, 0.0], 1e-6, 0.0);
        let none = Tensor::zeros(&[0, 2, 6], DType::F32, device).unwrap();
        let nothing = Tensor::zeros(&[0, 8], DType::F32, device).unwrap();
        assert_eq!(none.six_pattern_weight(&nothing, &soft).unwrap().0.shape(), [0, 8]);
    });
}

proptest! {
    #![proptest_config(config(8))]

    #[test]
    fn six_patterns(rows in 1usize..5, groups in 1usize..20, noise: bool, seed in any::<u64>()) {
        let gates = strategy::view_of(&[rows, groups, 6], &|shape, seed| Input::normal(shape, seed), seed);
        let weight = strategy::view_of(&[rows, 4 * groups], &|shape, seed| Input::normal(shape, seed), seed ^ 9);
        let inputs = [gates, weight];
        let soft = options(noise, false);
        gradcheck("six_pattern_weight", &inputs, |x| both(x, &soft));
        same_on_devices_within(4.0, "six_pattern_weight", &inputs, |x| both(x, &soft));
        // The same noise, the same mask; and the straight-through gradient of the composition.
        for hard in [false, true] {
            each_device(|device| {
                let leaves: Vec<Tensor> = inputs.iter().map(|i| i.stored(device, DType::F32).unwrap()).collect();
                let run = |fused: bool| {
                    let x: Vec<Tensor> = inputs.iter().zip(&leaves).map(|(i, leaf)| i.operand(leaf).unwrap()).collect();
                    let f = if fused { Tensor::six_pattern_weight } else { reference::six_pattern_weight };
                    let (masked, mask) = at(device, 5, || f(&x[0], &x[1], &options(noise, hard))).unwrap();
                    let gradients = masked.mul(&masked).unwrap().add(&mask).unwrap().sum_all().unwrap().backward().unwrap();
                    let made = [masked.detach(), mask.detach()].into_iter();
                    let all = made.chain(leaves.iter().map(|leaf| gradients.get(leaf).unwrap().clone()));
                    all.flat_map(|x| x.to_f64_vec().unwrap()).collect::<Vec<f64>>()
                };
                assert_close("against primitives", &run(true), &run(false), 2e-5, 2e-5);
            });
        }
    }
}

#[test]
fn a_gradient_of_the_mask_alone() {
    let inputs = [Input::normal(&[3, 2, 6], 1), Input::normal(&[3, 8], 2).constant()];
    let soft = options(false, false);
    gradcheck_within(2.0, "mask", &inputs, |x| Ok(x[0].six_pattern_weight(&x[1], &soft)?.1));
    same_on_devices("mask", &inputs, |x| Ok(x[0].six_pattern_weight(&x[1], &soft)?.1));
}

/// Cut into pieces by small bindings, with the noise of the whole.
#[test]
fn in_pieces() {
    let Some(small) = wgrad_tests::gpu_with_bindings_of(1 << 12) else { return };
    let mut random = Random::new(4);
    let mut normal = |n: usize| (0..n).map(|_| random.normal() as f32).collect::<Vec<f32>>();
    let (gates, weight) = (normal(7 * 75 * 6), normal(7 * 300));
    let run = |device: &Device| {
        let gates = Tensor::from_slice(&gates, &[7, 75, 6], device).unwrap();
        let weight = Tensor::from_slice(&weight, &[7, 300], device).unwrap();
        let (masked, mask) = at(device, 5, || gates.six_pattern_weight(&weight, &options(true, false))).unwrap();
        let narrow = weight.narrow(1, 0, 201).unwrap();
        let kept = [weight.n_of_m_mask(2, 4).unwrap(), narrow.transposable_mask().unwrap()];
        let kept = kept.iter().flat_map(|mask| mask.to_f64_vec().unwrap()).collect::<Vec<_>>();
        (masked.to_f64_vec().unwrap(), mask.to_f64_vec().unwrap(), kept)
    };
    let (got, want) = (run(&small), run(&Device::cpu()));
    assert_close("masked", &got.0, &want.0, 1e-5, 1e-5);
    assert_close("mask", &got.1, &want.1, 1e-5, 1e-5);
    assert_equal("kept", &got.2, &want.2);
}

#[test]
fn bad_input() {
    let cpu = Device::cpu();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &cpu).unwrap();
    let x = zeros(&[2, 8]);
    expect_error(x.n_of_m_mask(5, 4), &["n_of_m_mask", "5 of 4"]);
    expect_error(x.n_of_m_mask(0, 0), &["n_of_m_mask", "0 of 0", "1024"]);
    expect_error(x.n_of_m_mask(1, 1025), &["n_of_m_mask", "1 of 1025", "1024"]);
    expect_error(zeros(&[]).n_of_m_mask(2, 4), &["n_of_m_mask", "rank 0"]);
    expect_error(Tensor::zeros(&[4], DType::Bool, &cpu).unwrap().n_of_m_mask(2, 4), &["n_of_m_mask", "bool"]);
    expect_error(zeros(&[4]).transposable_mask(), &["transposable_mask", "[4]"]);
    expect_error(Tensor::zeros(&[4, 4], DType::U32, &cpu).unwrap().transposable_mask(), &["transposable_mask", "u32"]);
    let soft = PatternOptions::default();
    expect_error(zeros(&[2, 2, 5]).six_pattern_weight(&x, &soft), &["six_pattern_weight", "[2, 2, 5]", "[2, 8]"]);
    expect_error(zeros(&[2, 2, 6]).six_pattern_weight(&zeros(&[2, 9]), &soft), &["six_pattern_weight", "[2, 9]"]);
    for (scale, temperature) in [(1.0, 0.0), (1.0, -1.0), (1.0, f64::NAN), (f64::INFINITY, 1.0), (1e38, 1e-38)] {
        let wrong = PatternOptions { scale, temperature, ..soft };
        expect_error(zeros(&[2, 2, 6]).six_pattern_weight(&x, &wrong), &["six_pattern_weight", "temperature"]);
    }
}
