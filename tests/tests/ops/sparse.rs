//! Block-sparse attention against dense attention under the same mask, and the lists of blocks themselves.

use proptest::prelude::*;
use wgrad::{AttentionOptions, BlockIndex, BlockLayout, BlockLists, DType, Device, Mask, Result, Tensor, reference};
use wgrad_tests::{
    Input, Random, each_device, expect_error, fresh_gpu, gpu, gradcheck, portable_gpu, same_on_devices_within,
};

use crate::mask::{Case, same};

/// Lengths over several blocks for a case of [`crate::mask`], whose mask is tested outside of the index, and a mask inside of it.
fn draw(seed: u64, small: bool) -> (Case, BlockLayout) {
    let mut random = Random::new(seed ^ 77);
    let mut one_of = |choices: &[usize]| choices[random.below(choices.len())];
    let mut case = Case::draw(seed, small);
    let lengths: &[usize] = if small { &[1, 33, 40] } else { &[1, 31, 33, 64, 100, 129, 200] };
    (case.queries, case.keys) = (one_of(lengths), one_of(lengths));
    let layout = BlockLayout {
        batch: one_of(&[1, case.batch]),
        heads: one_of(&[1, case.key_heads, case.heads]),
        query_block: one_of(&[32, 64, 96]),
        key_block: one_of(&[32, 64, 128]),
        ..BlockLayout::new(case.queries, case.keys)
    };
    (case, layout)
}

/// Some blocks at random, some of them under a mask.
fn index(case: &Case, layout: BlockLayout, device: &Device) -> Result<BlockIndex> {
    let mut random = Random::new(case.seed ^ 5);
    let mut one_of = |choices: &[usize]| choices[random.below(choices.len())];
    let mut inner = case.clone();
    (inner.seed, inner.terms) = (case.seed ^ 3, vec![one_of(&[0, 1, 2, 10])]);
    let mask = if one_of(&[0, 1]) == 0 { Mask::all() } else { inner.mask(device)? };
    let (rows, columns) = (layout.queries.div_ceil(layout.query_block), layout.keys.div_ceil(layout.key_block));
    let density = one_of(&[0, 1, 2, 3]);
    let chosen = (0..layout.batch * layout.heads * rows * columns).map(|_| one_of(&[0, 1, 2]) < density).collect();
    let chosen = Tensor::from_vec(chosen, &[layout.batch, layout.heads, rows, columns], device)?;
    let blocks = Mask::blocks(&chosen, layout.query_block, layout.key_block).and(mask.clone());
    let index = BlockIndex::from_mask(&blocks, layout, device)?;
    // No mask says anything of the heads of keys: there the lists do.
    if layout.heads == case.heads {
        Ok(index)
    } else {
        BlockIndex::from_lists(index.by_query()?, &mask, layout, device)
    }
}

fn check(seed: u64, device: &Device) {
    let (case, layout) = draw(seed, false);
    let index = index(&case, layout, device).unwrap();
    index.validate().unwrap();
    same(&case, device, 3e-6, &|x| x[0].sparse_attention(&x[1], &x[2], &index, &case.options(x)?), &|x| {
        reference::sparse_attention(&x[0], &x[1], &x[2], &index, &case.options(x)?)
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn gradients(seed in any::<u64>()) {
        let (case, layout) = draw(seed, true);
        let index = index(&case, layout, &Device::cpu()).unwrap();
        gradcheck("sparse_attention", &case.inputs(), |x| {
            x[0].sparse_attention(&x[1], &x[2], &index, &case.options(x)?)
        });
    }

    #[test]
    fn sparse_is_dense_under_the_same_mask(seed in any::<u64>()) {
        check(seed, &Device::cpu());
    }

    #[test]
    fn lists_are_the_same_on_all_devices(seed in any::<u64>()) {
        let Some(gpu) = gpu() else { return Ok(()) };
        let (case, layout) = draw(seed, false);
        let (here, there) = (index(&case, layout, &Device::cpu()).unwrap(), index(&case, layout, gpu).unwrap());
        prop_assert_eq!(here.by_query().unwrap(), there.by_query().unwrap());
        prop_assert_eq!(here.by_key().unwrap(), there.by_key().unwrap());
        let lists = here.by_query().unwrap();
        let (matrices, columns) = (layout.batch * layout.heads, layout.keys.div_ceil(layout.key_block));
        let rows = layout.queries.div_ceil(layout.query_block);
        prop_assert_eq!(&lists.transposed(matrices, columns).transposed(matrices, rows), &lists);
        there.validate().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2))]
    #[test]
    fn sparse_is_dense_under_the_same_mask_on_gpus(seed in any::<u64>()) {
        for device in [gpu(), portable_gpu()].into_iter().flatten() {
            check(seed, device);
        }
    }
}

fn inputs(length: usize) -> Vec<Input> {
    [1, 2, 3].map(|seed| Input::normal(&[2, 2, length, 16], seed)).to_vec()
}

#[test]
fn devices_agree() {
    let layout = BlockLayout { query_block: 32, key_block: 32, ..BlockLayout::new(130, 130) };
    same_on_devices_within(16.0, "sparse_attention", &inputs(130), |x| {
        let index = BlockIndex::from_mask(&Mask::global_window(3, 20, 20), layout, x[0].device())?;
        let mask = Mask::key_lengths(&[100, 130]);
        x[0].sparse_attention(&x[1], &x[2], &index, &AttentionOptions { mask, ..Default::default() })
    });
}

/// A row of blocks without entries gives zeros and no gradient; that a full block is full changes no bit; nor does another run.
#[test]
fn empty_rows_and_full_blocks() {
    each_device(|device| {
        let layout = BlockLayout::new(192, 192);
        let lists = |full: bool| BlockLists {
            starts: vec![0, 2, 2, 4],
            blocks: vec![0, 2, 1, 2],
            full: vec![full, false, full, full],
        };
        let run = |full: bool| {
            let index = BlockIndex::from_lists(lists(full), &Mask::all(), layout, device).unwrap();
            let x: Vec<Tensor> = inputs(192).iter().map(|i| i.stored(device, DType::F32).unwrap()).collect();
            let out = x[0].sparse_attention(&x[1], &x[2], &index, &Default::default()).unwrap();
            let grads = out.square().unwrap().sum_all().unwrap().backward().unwrap();
            let of = |t: &Tensor| t.to_vec::<f32>().unwrap();
            [of(&out), of(grads.get(&x[0]).unwrap()), of(grads.get(&x[1]).unwrap()), of(grads.get(&x[2]).unwrap())]
        };
        let (full, partial) = (run(true), run(false));
        assert_eq!(full, run(true), "{device}: another run");
        assert_eq!(full, partial, "{device}: full against partial");
        for (what, rows) in full.iter().take(2).enumerate() {
            let middle = rows.chunks(16).skip(64).take(64).flatten();
            assert!(middle.clone().all(|&x| x == 0.0), "{device}, result {what}: a row without blocks");
        }
        assert!(full.iter().flatten().all(|x| x.is_finite()));
    });
}

#[test]
fn the_arrays_of_flex_attention() {
    let cpu = Device::cpu();
    let u32s = |values: &[u32], shape: &[usize]| Tensor::from_slice(values, shape, &cpu).unwrap();
    let layout = BlockLayout { query_block: 32, key_block: 32, ..BlockLayout::new(96, 96) };
    let (counts, blocks) = (u32s(&[1, 1, 1], &[1, 1, 3]), u32s(&[0, 7, 1, 0, 2, 0], &[1, 1, 3, 2]));
    let (full_counts, full_blocks) = (u32s(&[0, 1, 2], &[1, 1, 3]), u32s(&[0, 0, 0, 9, 1, 0], &[1, 1, 3, 2]));
    let of =
        |mask: Mask, full: [&Tensor; 2]| BlockIndex::from_flex([&counts, &blocks], Some(full), &mask, layout, &cpu);
    let index = of(Mask::causal(0), [&full_counts, &full_blocks]).unwrap();
    let lists = index.by_query().unwrap();
    assert_eq!(lists.starts, [0, 1, 3, 6]);
    assert_eq!(lists.blocks, [0, 0, 1, 0, 1, 2]);
    assert_eq!(lists.full, [false, true, false, true, true, false]);
    // What the mask alone makes.
    let made = BlockIndex::from_mask(&Mask::causal(0), layout, &cpu).unwrap();
    assert_eq!((made.by_query().unwrap(), made.density().unwrap()), (lists, 6.0 / 9.0));
    expect_error(of(Mask::causal(0), [&counts, &blocks]), &["from_flex", "row 0 lists block 0 before block 0"]);
    expect_error(of(Mask::causal(-40), [&full_counts, &full_blocks]), &["block 1, 0", "full", "hides"]);
    expect_error(of(Mask::all(), [&u32s(&[3, 0, 0], &[1, 1, 3]), &blocks]), &["row 0 has 3 blocks", "room for 2"]);
    expect_error(of(Mask::all(), [&u32s(&[3, 0], &[1, 1, 2]), &blocks]), &["numbers of blocks", "[1, 1, 2]"]);
}

#[test]
fn blocks_by_score() {
    each_device(|device| {
        let layout = BlockLayout { query_block: 32, key_block: 32, ..BlockLayout::new(128, 128) };
        let scores: Vec<f32> = [[5., 1., 9., 9.], [3., 3., 9., 9.], [1., 2., 3., 9.], [0., 7., 7., 7.]].concat();
        let scores = Tensor::from_slice(&scores, &[1, 1, 4, 4], device).unwrap();
        let forced = Tensor::from_slice(&[true, false, false, false], &[4], device).unwrap();
        let of = |k: usize, forced: Option<&Tensor>| {
            let index = BlockIndex::from_scores(&scores, k, forced, &Mask::causal(0), layout).unwrap();
            index.validate().unwrap();
            index.by_query().unwrap()
        };
        let lists = of(2, None);
        // Causal: the last block of a row is partial. Of the equal ones in the last row the first two.
        assert_eq!((lists.starts, lists.blocks), (vec![0, 1, 3, 5, 7], vec![0, 0, 1, 1, 2, 1, 2]));
        assert_eq!(lists.full, [false, true, false, true, false, true, true]);
        assert_eq!(of(2, Some(&forced)).blocks, [0, 0, 1, 0, 2, 0, 1]);
        assert_eq!(of(9, None).starts, [0, 1, 3, 6, 10]);
        let bad = |k: usize, scores: &Tensor| BlockIndex::from_scores(scores, k, None, &Mask::all(), layout);
        expect_error(bad(0, &scores), &["from_scores", "0 blocks"]);
        expect_error(bad(1, &scores.narrow(2, 0, 3).unwrap()), &["scores", "[1, 1, 3, 4]", "[1, 1, 4, 4]"]);
    });
}

#[test]
fn memory_is_linear_in_the_length() {
    let Some(device) = fresh_gpu() else { return };
    let peak = |length: usize| {
        let leaf = |seed| Input::normal(&[1, 1, length, 16], seed).stored(&device, DType::F32).unwrap();
        let (q, k, v) = (leaf(1), leaf(2), leaf(3));
        let layout = BlockLayout::new(length, length);
        let index = BlockIndex::from_mask(&Mask::global_window(4, 60, 0), layout, &device).unwrap();
        q.sparse_attention(&k, &v, &index, &Default::default()).unwrap().sum_all().unwrap().backward().unwrap();
        device.sync().unwrap();
        device.memory().peak_bytes
    };
    let (short, long) = (peak(1024), peak(4096));
    assert!(long <= 5 * short, "{device}: {short} bytes for 1024, {long} for 4096");
}

/// Steps with the same index make nothing new on the device.
#[test]
fn steps_allocate_nothing() {
    let Some(device) = fresh_gpu() else { return };
    let layout = BlockLayout { query_block: 32, key_block: 32, ..BlockLayout::new(64, 64) };
    let index = BlockIndex::from_mask(&Mask::window(8, 8), layout, &device).unwrap();
    let options = AttentionOptions { mask: Mask::causal(0), ..Default::default() };
    let x: Vec<Tensor> = inputs(64).iter().map(|i| i.stored(&device, DType::F32).unwrap()).collect();
    let seen: Vec<_> = (0..6)
        .map(|_| {
            let out = x[0].sparse_attention(&x[1], &x[2], &index, &options).unwrap();
            out.sum_all().unwrap().backward().unwrap();
            let memory = device.memory();
            (memory.allocations, memory.bind_groups_created, memory.pipelines)
        })
        .collect();
    assert!(seen[2..].iter().all(|counts| *counts == seen[2]), "{device}: {seen:?}");
}

#[test]
fn bad_indices_are_refused() {
    let cpu = Device::cpu();
    let layout = BlockLayout::new(100, 128);
    let of = |starts: &[u32], blocks: &[u32], layout: BlockLayout| {
        let lists = BlockLists { starts: starts.to_vec(), blocks: blocks.to_vec(), full: vec![false; blocks.len()] };
        BlockIndex::from_lists(lists, &Mask::all(), layout, &cpu)
    };
    expect_error(of(&[0, 2, 3], &[1, 0, 1], layout), &["from_lists", "row 0", "block 1 before block 0"]);
    expect_error(of(&[0, 2, 3], &[0, 2, 1], layout), &["index 2", "size 2"]);
    expect_error(of(&[0, 2], &[0, 1], layout), &["2 starts", "expected 3 starts"]);
    expect_error(of(&[0, 2, 1], &[0], layout), &["starts do not rise"]);
    expect_error(of(&[0, 1, 2], &[0, 1], BlockLayout { key_block: 0, ..layout }), &["key blocks of 0"]);
    expect_error(of(&[0, 1, 2], &[0, 1], BlockLayout { query_block: 48, ..layout }), &["query blocks of 48", "32"]);
    expect_error(of(&[0], &[], BlockLayout { keys: 0, ..layout }), &["without blocks"]);
    let lengths = Mask::key_lengths(&[129]);
    expect_error(BlockIndex::from_mask(&lengths, layout, &cpu), &["from_mask", "key lengths say 129", "128 keys"]);

    let index = of(&[0, 1, 2], &[0, 1], layout).unwrap();
    let x = |queries: usize, heads: usize| Tensor::zeros(&[2, heads, queries, 8], DType::F32, &cpu).unwrap();
    let run = |q: Tensor, k: Tensor, index: &BlockIndex| q.sparse_attention(&k, &k, index, &Default::default());
    expect_error(run(x(90, 4), x(128, 2), &index), &["sparse_attention", "100 queries", "90 queries"]);
    let heads = BlockIndex::from_mask(&Mask::all(), BlockLayout { heads: 3, ..layout }, &cpu).unwrap();
    expect_error(run(x(100, 4), x(128, 2), &heads), &["3 heads", "4 query heads and 2 key heads"]);
    let batch = BlockIndex::from_mask(&Mask::all(), BlockLayout { batch: 3, ..layout }, &cpu).unwrap();
    expect_error(run(x(100, 4), x(128, 2), &batch), &["batch 3", "batch of 2"]);
}
