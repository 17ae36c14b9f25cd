//! Attention with the keys in the order in which they go out of sight, against dense attention under the same mask.

use proptest::prelude::*;
use wgrad::{AttentionOptions, Buckets, DType, Device, Disentangled, Mask, Result, Tensor};
use wgrad_tests::{Input, Random, assert_close, each_device, expect_error, fresh_gpu, gpu, gradcheck, portable_gpu};

use crate::mask::{Case, same};

/// A case whose mask has only terms that are intervals, and whose scores do not go by distance.
fn case(seed: u64, small: bool) -> Case {
    let mut case = Case::draw(seed, small);
    case.relative = false;
    case.terms.retain(|term| [0, 1, 2, 3, 4, 5, 7].contains(term));
    case
}

fn check(seed: u64, device: &Device) {
    let case = case(seed, false);
    same(&case, device, 1e-5, &|x| x[0].interval_attention(&x[1], &x[2], &case.options(x)?), &|x| {
        x[0].attention(&x[1], &x[2], &case.options(x)?)
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn gradients(seed in any::<u64>()) {
        let case = case(seed, true);
        gradcheck("interval_attention", &case.inputs(), |x| {
            x[0].interval_attention(&x[1], &x[2], &case.options(x)?)
        });
    }

    #[test]
    fn order_does_not_matter(seed in any::<u64>()) {
        check(seed, &Device::cpu());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]
    #[test]
    fn order_does_not_matter_on_gpus(seed in any::<u64>()) {
        if let Some(device) = if seed % 2 == 0 { gpu() } else { portable_gpu() } {
            check(seed, device);
        }
    }
}

/// The result and the gradients of its squares with respect to `x`.
fn all_of(x: &[Tensor], attention: impl Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Vec<f64>> {
    let y = attention(x).unwrap();
    let gradients = y.mul(&y).unwrap().sum_all().unwrap().backward().unwrap();
    let all = [&y].into_iter().chain(x.iter().map(|x| gradients.get(x).unwrap()));
    all.map(|x| x.to_f64_vec().unwrap()).collect()
}

/// Dynamic masks: states that are a bias too, of which some are equal; padding on either side, queries that continue a sequence, groups of heads;
/// of one key to more than there are.
#[test]
fn dynamic_masks() {
    each_device(|device| {
        for (keep, length, before, real) in [
            (1, 75, 0, None),
            (9, 75, 0, Some([0..75, 20..75])),
            (9, 64, 0, Some([0..40, 3..64])),
            (16, 130, 31, None),
            (200, 75, 0, None),
        ] {
            let (heads, key_heads, queries) = (4, 2, length - before);
            let at = |shape: &[usize], seed| Input::normal(shape, seed).stored(device, DType::F32).unwrap();
            let mut random = Random::new(keep as u64);
            let states: Vec<f32> = (0..2 * key_heads * length).map(|_| random.below(length / 2) as f32 / 9.0).collect();
            let x = [
                at(&[2, heads, queries, 12], 1),
                at(&[2, key_heads, length, 12], 2),
                at(&[2, key_heads, length, 8], 3),
                Tensor::from_vec(states, &[2, key_heads, length], device).unwrap().requires_grad(),
            ];
            let real = real.map(|rows| {
                let real = rows.iter().flat_map(|row| (0..length).map(|at| row.contains(&at))).collect::<Vec<bool>>();
                Tensor::from_vec(real, &[2, length], device).unwrap()
            });
            let options = |x: &[Tensor]| {
                let mut states = x[3].detach();
                let mut mask = Mask::causal(before as i64);
                if let Some(real) = &real {
                    states = states.masked_fill(&real.unsqueeze(1)?.logical_not()?, -1e4)?;
                    mask = mask.and(Mask::dense(&real.unsqueeze(1)?.unsqueeze(1)?));
                }
                let starts = Tensor::arange(0, length as i64, DType::I32, device)?.reshape(&[1, 1, -1])?;
                let ends = states.kept_until(keep)?.repeat_interleave(heads / key_heads, 1)?;
                let mask = mask.and(Mask::intervals(&starts, &ends, None).at(before as i64));
                assert!(mask.is_intervals());
                let bias = Some(x[3].repeat_interleave(heads / key_heads, 1)?.unsqueeze(2)?);
                Ok(AttentionOptions { mask, bias, ..Default::default() })
            };
            let got = all_of(&x, |x| x[0].interval_attention(&x[1], &x[2], &options(x)?));
            let want = all_of(&x, |x| x[0].attention(&x[1], &x[2], &options(x)?));
            for (at, (got, want)) in got.iter().zip(&want).enumerate() {
                assert_close(&format!("{keep} of {length} on {device}, result {at}"), got, want, 2e-5, 1e-4);
            }
        }
    });
}

/// Of as many keys kept, memory grows with the length.
#[test]
fn memory_is_linear_in_the_length() {
    let Some(device) = fresh_gpu() else { return };
    let peak = |length: usize| {
        let x = [1, 2, 3].map(|seed| Input::normal(&[1, 2, length, 16], seed).stored(&device, DType::F32).unwrap());
        let states = Input::normal(&[1, 2, length], 4).constant().stored(&device, DType::F32).unwrap();
        let starts = Tensor::arange(0, length as i64, DType::I32, &device).unwrap().reshape(&[1, 1, -1]).unwrap();
        let mask = Mask::intervals(&starts, &states.kept_until(16).unwrap(), None);
        let options = AttentionOptions { mask, ..Default::default() };
        let out = x[0].interval_attention(&x[1], &x[2], &options).unwrap();
        out.sum_all().unwrap().backward().unwrap();
        device.sync().unwrap();
        device.memory().peak_bytes
    };
    let (short, long) = (peak(256), peak(1024));
    assert!(long <= 5 * short, "{device}: {short} bytes for 256, {long} for 1024");
}

#[test]
fn what_goes_by_place_is_refused() {
    let x = Tensor::zeros(&[1, 2, 5, 4], DType::F32, &Device::cpu()).unwrap();
    let run = |options: AttentionOptions| x.interval_attention(&x, &x, &options);
    let relative_bias = Some(Tensor::zeros(&[2, 9], DType::F32, x.device()).unwrap());
    let places = ["interval_attention", "places of keys"];
    expect_error(run(AttentionOptions { relative_bias, ..Default::default() }), &places);
    let disentangled = Some(Disentangled { c2p: None, p2c: None, buckets: Buckets::new(5, 5, 1, |_| 0).unwrap() });
    expect_error(run(AttentionOptions { disentangled, ..Default::default() }), &places);
    let ids = Tensor::zeros(&[1, 5], DType::U32, x.device()).unwrap();
    let rows = Tensor::ones(&[5, 5], DType::Bool, x.device()).unwrap();
    for mask in [Mask::segments(&ids, &ids), Mask::dense(&rows), Mask::global_window(1, 1, 1)] {
        assert!(!mask.is_intervals());
        expect_error(run(AttentionOptions { mask, ..Default::default() }), &["interval_attention", "intervals"]);
    }
    expect_error(run(AttentionOptions { mask: Mask::key_lengths(&[6]), ..Default::default() }), &["key lengths say 6"]);
}
