//! Attention by a list of keys for each query, against dense attention under the same mask.

use proptest::prelude::*;
use wgrad::{AttentionOptions, BlockIndex, BlockLayout, DType, Device, KeyIndex, Mask, Tensor, reference};
use wgrad_tests::{
    Input, Random, assert_close, each_device, expect_error, fresh_gpu, gpu, gradcheck, portable_gpu,
    same_on_devices_within,
};

use crate::mask::{Case, same};

/// Lists of at most `k` keys, some of them shorter, for the sizes of a case.
fn lists(case: &Case, device: &Device) -> KeyIndex {
    let mut random = Random::new(case.seed ^ 21);
    let batch = [1, case.batch][random.below(2)];
    let heads = [1, case.key_heads, case.heads][random.below(3)];
    let k = 1 + random.below(case.keys.min(9));
    let mut lists = Vec::new();
    for _ in 0..batch * heads * case.queries {
        let mut keys: Vec<u32> = (0..case.keys as u32).collect();
        random.shuffle(&mut keys);
        keys.truncate(random.below(k + 1));
        keys.sort_unstable();
        keys.resize(k, u32::MAX);
        lists.extend(keys);
    }
    let lists = Tensor::from_vec(lists, &[batch, heads, case.queries, k], device).unwrap();
    KeyIndex::new(&lists, case.keys).unwrap()
}

fn check(seed: u64, device: &Device) {
    let case = Case::draw(seed, false);
    let index = lists(&case, device);
    // A bias that all heads share may sum hundreds of what rounding leaves of each pair.
    same(&case, device, 1e-5, &|x| x[0].sparse_attention(&x[1], &x[2], &index, &case.options(x)?), &|x| {
        reference::sparse_attention(&x[0], &x[1], &x[2], &index, &case.options(x)?)
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn gradients(seed in any::<u64>()) {
        let case = Case::draw(seed, true);
        let index = lists(&case, &Device::cpu());
        gradcheck("sparse_attention", &case.inputs(), |x| {
            x[0].sparse_attention(&x[1], &x[2], &index, &case.options(x)?)
        });
    }

    #[test]
    fn lists_are_dense_under_the_same_mask(seed in any::<u64>()) {
        check(seed, &Device::cpu());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2))]
    #[test]
    fn lists_are_dense_under_the_same_mask_on_gpus(seed in any::<u64>()) {
        for device in [gpu(), portable_gpu()].into_iter().flatten() {
            check(seed, device);
        }
    }
}

/// Chosen by score under a mask, with shared lists for the heads of a group, in all dtypes.
#[test]
fn devices_agree() {
    let shape = |heads: usize| [2, heads, 50, 20];
    let inputs = [Input::normal(&shape(4), 1), Input::normal(&shape(2), 2), Input::normal(&shape(2), 3)];
    let scores = Input::normal(&[2, 2, 50, 50], 4);
    same_on_devices_within(16.0, "sparse_attention", &inputs, |x| {
        let scores = scores.stored(x[0].device(), DType::F32)?;
        let index = KeyIndex::from_scores(&scores, 6, &Mask::causal(0))?;
        x[0].sparse_attention(&x[1], &x[2], &index, &AttentionOptions { softcap: Some(4.0), ..Default::default() })
    });
}

#[test]
fn the_best_keys() {
    each_device(|device| {
        let scores = [[1., 5., 2., 2.], [3., 3., 3., 9.], [0., -1., -2., 7.]].concat();
        let scores: Vec<f32> = scores;
        let scores = Tensor::from_slice(&scores, &[1, 1, 3, 4], device).unwrap();
        let of =
            |k: usize, mask: Mask| KeyIndex::from_scores(&scores, k, &mask).unwrap().lists().to_vec::<u32>().unwrap();
        assert_eq!(of(2, Mask::all()), [1, 2, 0, 3, 0, 3]);
        // Query 0 sees key 0 alone, and so on.
        assert_eq!(of(2, Mask::causal(0)), [0, u32::MAX, 0, 1, 0, 1]);
        assert_eq!(
            of(9, Mask::causal(-1))[..8],
            [u32::MAX, u32::MAX, u32::MAX, u32::MAX, 0, u32::MAX, u32::MAX, u32::MAX]
        );
    });
}

/// A graph as lists, under which attention is that of dense attention under the adjacency matrix.
#[test]
fn edges_are_an_adjacency_matrix() {
    let (batch, queries, keys) = (2, 37, 41);
    let mut random = Random::new(8);
    let mut edges: Vec<[usize; 3]> =
        (0..150).map(|_| [random.below(batch), random.below(queries), random.below(keys)]).collect();
    edges.extend_from_within(..20);
    let mut seen = vec![false; batch * queries * keys];
    edges.iter().for_each(|&[b, i, j]| seen[(b * queries + i) * keys + j] = true);
    let inputs = [(queries, 1), (keys, 2), (keys, 3)].map(|(n, seed)| Input::normal(&[batch, 2, n, 8], seed));
    each_device(|device| {
        let x = inputs.each_ref().map(|input| input.stored(device, DType::F32).unwrap());
        let index = KeyIndex::from_edges(&edges, [batch, queries, keys], device).unwrap();
        let got = x[0].sparse_attention(&x[1], &x[2], &index, &Default::default()).unwrap();
        let seen = Tensor::from_slice(&seen, &[batch, 1, queries, keys], device).unwrap();
        let options = AttentionOptions { mask: Mask::dense(&seen), ..Default::default() };
        let want = reference::attention(&x[0], &x[1], &x[2], &options).unwrap().to_f64_vec().unwrap();
        assert_close("graph attention", &got.to_f64_vec().unwrap(), &want, 1e-5, 1e-5);
        // A graph without edges sees nothing.
        let none = KeyIndex::from_edges(&[], [batch, queries, keys], device).unwrap();
        let none = x[0].sparse_attention(&x[1], &x[2], &none, &Default::default()).unwrap();
        assert!(none.to_f64_vec().unwrap().iter().all(|&x| x == 0.0));
    });
    let bad = KeyIndex::from_edges(&[[0, 1, 41]], [batch, queries, keys], &Device::cpu());
    expect_error(bad, &["KeyIndex::from_edges", "41"]);
}

/// Of as many keys a query, memory grows with the number of queries.
#[test]
fn memory_is_linear_in_the_length() {
    let Some(device) = fresh_gpu() else { return };
    let peak = |length: usize| {
        let x = [1, 2, 3].map(|seed| Input::normal(&[1, 2, length, 16], seed).stored(&device, DType::F32).unwrap());
        let lists: Vec<u32> = (0..length as u32).flat_map(|i| [i / 3, i / 3 + 1, i / 3 + 2]).collect();
        let lists = Tensor::from_vec(lists, &[1, 1, length, 3], &device).unwrap();
        let index = KeyIndex::new(&lists, length).unwrap();
        let out = x[0].sparse_attention(&x[1], &x[2], &index, &Default::default()).unwrap();
        out.sum_all().unwrap().backward().unwrap();
        device.sync().unwrap();
        device.memory().peak_bytes
    };
    let (short, long) = (peak(256), peak(1024));
    assert!(long <= 5 * short, "{device}: {short} bytes for 256, {long} for 1024");
}

/// All keys in each list is attention; a query without keys gives zeros; another run gives the same bits.
#[test]
fn all_keys_and_none() {
    each_device(|device| {
        let x: Vec<Tensor> =
            [1, 2, 3].iter().map(|&s| Input::normal(&[1, 2, 40, 8], s).stored(device, DType::F32).unwrap()).collect();
        let all: Vec<u32> = (0..40 * 40).map(|n| n % 40).collect();
        let all = KeyIndex::new(&Tensor::from_vec(all, &[1, 1, 40, 40], device).unwrap(), 40).unwrap();
        let run = |index: &KeyIndex| {
            let out = x[0].sparse_attention(&x[1], &x[2], index, &Default::default()).unwrap();
            let grads = out.square().unwrap().sum_all().unwrap().backward().unwrap();
            let grads = x.iter().map(|x| grads.get(x).unwrap().to_f64_vec().unwrap());
            [out.to_f64_vec().unwrap()].into_iter().chain(grads).collect::<Vec<_>>()
        };
        let out = x[0].attention(&x[1], &x[2], &Default::default()).unwrap();
        assert_close("all keys", &run(&all)[0], &out.to_f64_vec().unwrap(), 1e-5, 1e-5);
        assert_eq!(run(&all), run(&all), "{device}");
        let none = Tensor::full(f64::from(u32::MAX), &[1, 1, 40, 3], DType::U32, device).unwrap();
        assert!(run(&KeyIndex::new(&none, 40).unwrap()).iter().flatten().all(|&x| x == 0.0), "{device}");
    });
}

/// Lists as a mask of dense attention, and the blocks that they touch.
#[test]
fn lists_as_a_mask() {
    let inputs = [1, 2, 3].map(|seed| Input::normal(&[2, 2, 70, 8], seed));
    let layout = BlockLayout { batch: 2, heads: 2, query_block: 32, key_block: 32, ..BlockLayout::new(70, 70) };
    // What is near, and every seventh key in one of the heads.
    let lists: Vec<u32> = (0..2 * 2 * 70)
        .flat_map(|row| {
            let (head, i) = (row / 70 % 2, row % 70);
            let mut list: Vec<u32> = (0..i + 1).filter(|j| i - j < 4 || (head == 1 && j % 7 == 0)).collect();
            list.resize(14, u32::MAX);
            list
        })
        .collect();
    let index =
        |device: &Device| KeyIndex::new(&Tensor::from_slice(&lists, &[2, 2, 70, 14], device).unwrap(), 70).unwrap();
    let touched = |device: &Device| BlockIndex::from_mask(&Mask::keys(&index(device)), layout, device).unwrap();
    let blocks = touched(&Device::cpu()).by_query().unwrap();
    // Of head 0, then of head 1.
    assert_eq!(blocks.starts[..7], [0, 1, 3, 5, 6, 8, 11]);
    assert_eq!(blocks.blocks[..11], [0, 0, 1, 1, 2, 0, 0, 1, 0, 1, 2]);
    if let Some(gpu) = gpu() {
        assert_eq!(touched(gpu).by_query().unwrap(), blocks);
    }
    same_on_devices_within(16.0, "sparse_attention", &inputs, |x| {
        x[0].sparse_attention(&x[1], &x[2], &touched(x[0].device()), &Default::default())
    });
    let x = inputs.each_ref().map(|i| i.stored(&Device::cpu(), DType::F64).unwrap());
    let by_lists = x[0].sparse_attention(&x[1], &x[2], &index(&Device::cpu()), &Default::default()).unwrap();
    let options = AttentionOptions { mask: Mask::keys(&index(&Device::cpu())), ..Default::default() };
    for other in [
        x[0].attention(&x[1], &x[2], &options).unwrap(),
        x[0].sparse_attention(&x[1], &x[2], &touched(&Device::cpu()), &Default::default()).unwrap(),
        reference::attention(&x[0], &x[1], &x[2], &options).unwrap(),
    ] {
        assert_close("lists", &other.to_f64_vec().unwrap(), &by_lists.to_f64_vec().unwrap(), 1e-12, 1e-12);
    }
}

/// Lists that sixteen neighbours share, but for two keys of every eighth.
fn shared(device: &Device) -> KeyIndex {
    let list = |row: usize| {
        let (matrix, i) = (row / 70, row % 70);
        let mut keys: Vec<u32> = (0..9).map(|n| ((n * 10 + i / 16 * 3 + matrix) % 90) as u32).collect();
        keys.extend([1, 88].into_iter().filter(|_| i % 8 == 0));
        keys.sort_unstable();
        keys.dedup();
        keys.resize(11, u32::MAX);
        keys
    };
    let lists: Vec<u32> = (0..2 * 70).flat_map(list).collect();
    KeyIndex::new(&Tensor::from_vec(lists, &[1, 2, 70, 11], device).unwrap(), 90).unwrap()
}

/// A tile of 32 queries over the union of its lists is each query over its own.
#[test]
fn unions_of_lists() {
    assert!(shared(&Device::cpu()).is_united());
    let all = [Input::normal(&[2, 4, 70, 12], 1), Input::normal(&[2, 2, 90, 12], 2), Input::normal(&[2, 2, 90, 20], 3)];
    let mask = Mask::window(40, 30).and(Mask::key_lengths(&[80, 90]));
    same_on_devices_within(16.0, "unions under a mask", &all, |x| {
        let options = AttentionOptions { mask: mask.clone(), ..Default::default() };
        x[0].sparse_attention(&x[1], &x[2], &shared(x[0].device()), &options)
    });
    // Dropout takes the weights that dense attention takes.
    let Some(gpu) = gpu() else { return };
    let x: Vec<Tensor> = all[..3].iter().map(|x| x.stored(gpu, DType::F32).unwrap()).collect();
    let index = shared(gpu);
    let options = AttentionOptions { dropout: 0.4, ..Default::default() };
    gpu.set_seed(5);
    let by_lists = x[0].sparse_attention(&x[1], &x[2], &index, &options).unwrap();
    gpu.set_seed(5);
    let dense = AttentionOptions { mask: Mask::keys(&index), ..options };
    let dense = x[0].attention(&x[1], &x[2], &dense).unwrap();
    assert_close("dropout", &by_lists.to_f64_vec().unwrap(), &dense.to_f64_vec().unwrap(), 1e-5, 1e-5);
}

/// One list for each block of queries, of which the last is not whole; and unions of lists that a GPU chose.
#[test]
fn lists_of_blocks() {
    each_device(|device| {
        let lists = Tensor::from_slice(&[0u32, 5, 9, 1, 2, u32::MAX, 3, 8, 11], &[1, 1, 3, 3], device).unwrap();
        let index = KeyIndex::of_blocks(&lists, 16, 40, 12).unwrap();
        assert!(index.is_united());
        assert_eq!(index.lists().shape(), [1, 1, 40, 3]);
        assert_eq!(index.lists().to_vec::<u32>().unwrap()[15 * 3..17 * 3], [0, 5, 9, 1, 2, u32::MAX]);
        let scores = Tensor::zeros(&[1, 1, 40, 12], DType::F32, device).unwrap();
        let chosen = KeyIndex::from_scores(&scores, 3, &Mask::all()).unwrap();
        assert!(!chosen.is_united() && chosen.united().unwrap().is_united());
        // Each has a key of its own.
        let apart = Tensor::arange(0, 64, DType::U32, device).unwrap().reshape(&[1, 1, 64, 1]).unwrap();
        assert!(!KeyIndex::new(&apart, 64).unwrap().is_united());
        expect_error(KeyIndex::of_blocks(&lists, 20, 40, 12), &["KeyIndex::of_blocks", "3 blocks", "40 queries", "20"]);
        expect_error(KeyIndex::of_blocks(&lists, 0, 40, 12), &["KeyIndex::of_blocks", "blocks of 0"]);
    });
}

#[test]
fn bad_lists_are_refused() {
    let cpu = Device::cpu();
    let of = |lists: &[u32], shape: &[usize]| KeyIndex::new(&Tensor::from_slice(lists, shape, &cpu).unwrap(), 5);
    expect_error(of(&[0, 5], &[1, 1, 1, 2]), &["KeyIndex::new", "index 5", "size 5"]);
    expect_error(of(&[0, 1, 3, 2], &[1, 1, 2, 2]), &["list 1", "key 3 before key 2", "not ascending"]);
    expect_error(of(&[2, 2], &[1, 1, 1, 2]), &["key 2 before key 2"]);
    expect_error(of(&[u32::MAX, 2], &[1, 1, 1, 2]), &["list 0", "key 2 behind padding"]);
    expect_error(of(&[0, 1], &[1, 1, 2]), &["[1, 1, 2]", "[batch, heads, queries, k]"]);
    expect_error(of(&[], &[1, 1, 2, 0]), &["nothing in them"]);
    let scores = Tensor::zeros(&[1, 1, 3, 4], DType::F32, &cpu).unwrap();
    expect_error(KeyIndex::from_scores(&scores, 0, &Mask::all()), &["KeyIndex::from_scores", "nothing in them"]);
    expect_error(KeyIndex::from_scores(&scores, 2, &Mask::key_lengths(&[5])), &["key lengths say 5", "4 keys"]);
    let index = of(&[0, 1, 2], &[1, 3, 1, 1]).unwrap();
    let x = |queries: usize, heads: usize| Tensor::zeros(&[2, heads, queries, 8], DType::F32, &cpu).unwrap();
    let run = |q: Tensor, k: Tensor| q.sparse_attention(&k, &k, &index, &Default::default());
    expect_error(run(x(2, 3), x(5, 3)), &["sparse_attention", "1 queries and 5 keys", "2 queries"]);
    expect_error(run(x(1, 4), x(5, 2)), &["3 heads", "4 query heads and 2 key heads"]);
}
