//! Attention to chosen blocks, against dense attention under the mask that says the same.

use proptest::prelude::*;
use wgrad::{AttentionOptions, DType, Device, Mask, Tensor};
use wgrad_tests::{Input, Random, assert_close, each_device, expect_error, fresh_gpu, gpu, gradcheck, portable_gpu};

/// Sizes and lists of an attention.
#[derive(Debug, Clone)]
struct Case {
    batch: usize,
    key_heads: usize,
    group: usize,
    length: usize,
    widths: [usize; 2],
    block: usize,
    /// Blocks of a query, beside its own.
    others: usize,
    seed: u64,
}

impl Case {
    fn draw(seed: u64, small: bool) -> Case {
        let mut random = Random::new(seed);
        let mut one_of = |choices: &[usize]| choices[random.below(choices.len())];
        Case {
            batch: one_of(&[1, 2]),
            key_heads: one_of(&[1, 2]),
            group: one_of(&[1, 2, 3]),
            length: if small { one_of(&[1, 2, 5, 9]) } else { one_of(&[1, 31, 33, 64, 101, 150]) },
            widths: if small { [one_of(&[1, 3]), one_of(&[2, 4])] } else { [one_of(&[4, 7, 64]), one_of(&[8, 33])] },
            block: if small { one_of(&[1, 2, 3]) } else { one_of(&[1, 4, 7, 32, 40, 200]) },
            others: one_of(&[0, 1, 3]),
            seed,
        }
    }

    fn inputs(&self) -> [Input; 3] {
        let &Case { batch, key_heads, group, length, widths, seed, .. } = self;
        let input = |heads: usize, width: usize, more: u64| {
            Input::normal(&[batch, length, heads, width], seed ^ more)
                .view(wgrad_tests::View::Permute(vec![0, 2, 1, 3]))
        };
        [input(key_heads * group, widths[0], 1), input(key_heads, widths[0], 2), input(key_heads, widths[1], 3)]
    }

    /// Lists with blocks of any place, the query's own and later ones among them, and numbers of none; and the mask of those before and the own.
    fn choice(&self, device: &Device) -> (Tensor, Mask) {
        let &Case { batch, key_heads, group, length, block, others, seed, .. } = self;
        let (mut random, blocks) = (Random::new(seed ^ 5), length.div_ceil(block));
        let (mut lists, mut seen) = (Vec::new(), vec![false; batch * key_heads * length * blocks]);
        for (row, seen) in seen.chunks_mut(blocks).enumerate() {
            let own = row % length / block;
            let mut all: Vec<usize> = (0..blocks + others).collect();
            random.shuffle(&mut all);
            lists.extend(all[..others].iter().map(|&b| if b < blocks { b as u32 } else { u32::MAX }));
            all[..others].iter().filter(|&&b| b < own).for_each(|&b| seen[b] = true);
            seen[own] = true;
        }
        let lists = Tensor::from_vec(lists, &[batch, key_heads, length, others], device).unwrap();
        let seen = Tensor::from_vec(seen, &[batch, key_heads, length, blocks], device).unwrap();
        let seen = seen.repeat_interleave(group, 1).unwrap();
        (lists, Mask::blocks(&seen, 1, block).and(Mask::causal(0)))
    }

    fn check(&self, device: &Device) {
        let inputs = self.inputs();
        let leaves = inputs.each_ref().map(|input| input.stored(device, DType::F32).unwrap());
        let operands = || [0, 1, 2].map(|at| inputs[at].operand(&leaves[at]).unwrap());
        let (lists, mask) = self.choice(device);
        let all = |y: Tensor| {
            let loss = y.mul(&y.add_scalar(0.7).unwrap()).unwrap().sum_all().unwrap();
            let grads = loss.backward().unwrap();
            let of_leaves = leaves.iter().map(|leaf| grads.get(leaf).unwrap().to_f64_vec().unwrap());
            [y.to_f64_vec().unwrap()].into_iter().chain(of_leaves).collect::<Vec<_>>()
        };
        let x = operands();
        let got = all(x[0].chosen_attention(&x[1], &x[2], &lists, self.block, Some(0.4)).unwrap());
        let options = AttentionOptions { mask, scale: Some(0.4), ..Default::default() };
        let x = operands();
        let want = all(x[0].attention(&x[1], &x[2], &options).unwrap());
        for (at, (got, want)) in got.iter().zip(&want).enumerate() {
            let largest = want.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
            assert_close(&format!("{self:?} on {device}, result {at}"), got, want, 3e-5 * largest, 1e-4);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn gradients(seed in any::<u64>()) {
        let case = Case::draw(seed, true);
        gradcheck("chosen_attention", &case.inputs(), |x| {
            let (lists, _) = case.choice(x[0].device());
            x[0].chosen_attention(&x[1], &x[2], &lists, case.block, None)
        });
    }

    #[test]
    fn chosen_blocks_are_their_mask(seed in any::<u64>()) {
        Case::draw(seed, false).check(&Device::cpu());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]
    #[test]
    fn chosen_blocks_are_their_mask_on_gpus(seed in any::<u64>()) {
        if let Some(device) = if seed % 2 == 0 { gpu() } else { portable_gpu() } {
            Case::draw(seed, false).check(device);
        }
    }
}

/// Of as many blocks for each query, memory grows with the length; halves are those of dense attention.
#[test]
fn memory_is_linear_in_the_length() {
    let case = |length: usize| Case { length, ..Case::draw(3, false) };
    let case = |length: usize| Case {
        batch: 1,
        key_heads: 1,
        group: 2,
        widths: [16, 16],
        block: 16,
        others: 2,
        ..case(length)
    };
    each_device(|device| {
        let [q, k, v] = case(90).inputs().map(|x| x.stored(device, DType::BF16).unwrap().transpose(1, 2).unwrap());
        let (lists, mask) = case(90).choice(device);
        let got = q.chosen_attention(&k, &v, &lists, 16, None).unwrap();
        let want = q.attention(&k, &v, &AttentionOptions { mask, ..Default::default() }).unwrap();
        assert_close("halves", &got.to_f64_vec().unwrap(), &want.to_f64_vec().unwrap(), 2e-2, 2e-2);
    });
    let Some(device) = fresh_gpu() else { return };
    let peak = |length: usize| {
        let x = case(length).inputs().map(|x| x.stored(&device, DType::F32).unwrap().transpose(1, 2).unwrap());
        let (lists, _) = case(length).choice(&device);
        let out = x[0].chosen_attention(&x[1], &x[2], &lists, 16, None).unwrap();
        out.sum_all().unwrap().backward().unwrap();
        device.sync().unwrap();
        device.memory().peak_bytes
    };
    let (short, long) = (peak(256), peak(1024));
    assert!(long <= 5 * short, "{device}: {short} bytes for 256, {long} for 1024");
}

#[test]
fn bad_choices_are_refused() {
    let cpu = Device::cpu();
    let x = |heads: usize, length: usize| Tensor::zeros(&[1, heads, length, 4], DType::F32, &cpu).unwrap();
    let lists = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &cpu).unwrap();
    let run =
        |keys: usize, lists: Tensor, block| x(2, 6).chosen_attention(&x(1, keys), &x(1, keys), &lists, block, None);
    let fine = || lists(&[1, 1, 6, 2], DType::U32);
    assert!(run(6, fine(), 2).is_ok());
    expect_error(run(5, fine(), 2), &["chosen_attention", "6 queries and 5 keys"]);
    expect_error(run(6, fine(), 0), &["chosen_attention", "blocks of 0"]);
    expect_error(run(6, lists(&[1, 2, 6, 2], DType::U32), 2), &["chosen_attention", "[1, 2, 6, 2]", "[1, 1, 6"]);
    expect_error(run(6, lists(&[1, 1, 6, 2], DType::I32), 2), &["chosen_attention", "u32", "i32"]);
}
