//! WGSL of the user in attention: who sees whom, and what becomes of scores.

use wgrad::{
    AttentionOptions, BlockIndex, BlockLayout, DType, Device, KvCache, Mask, ScoreModifier, Tensor, reference,
};
use wgrad_tests::{Input, assert_close, each_device, expect_error, gpu, gradcheck, same_on_devices_within};

/// Later keys hidden; of the others every fifth, near ones, and in odd heads the first.
fn strided() -> Mask {
    let text = "
        const STRIDE = 5u;
        fn strided(k: u32) -> bool { return k % STRIDE == 0u; }
        fn visible(q: u32, k: u32, head: u32, batch: u32) -> bool {
            return k <= q && (strided(k) || q - k < 4u + batch || (k < 3u && head % 2u == 1u));
        }";
    Mask::wgsl_and_rust(text, |q, k, head, batch| {
        k <= q && (k % 5 == 0 || q - k < 4 + batch || (k < 3 && head % 2 == 1))
    })
    .unwrap()
}

fn modifier() -> ScoreModifier {
    let text = "
        fn score(s: f32, q: u32, k: u32, head: u32, batch: u32) -> f32 {
            return s * s / (1.0 + f32(head)) + 0.1 * f32(q) - 0.2 * f32(k) + f32(batch);
        }
        fn score_grad(s: f32, q: u32, k: u32, head: u32, batch: u32) -> f32 { return 2.0 * s / (1.0 + f32(head)); }";
    let by_head = |head: usize| 1.0 / (1.0 + head as f64);
    ScoreModifier::wgsl(text).unwrap().and_rust(
        move |s, q, k, head, batch| s * s * by_head(head) + 0.1 * q as f64 - 0.2 * k as f64 + batch as f64,
        move |s, _, _, head, _| 2.0 * s * by_head(head),
    )
}

fn inputs(length: usize, width: usize) -> Vec<Input> {
    let shape = [2, 2, length, width];
    vec![Input::normal(&shape, 1), Input::normal(&shape, 2), Input::normal(&shape, 3)]
}

fn options() -> AttentionOptions {
    AttentionOptions { mask: strided(), score: Some(modifier()), softcap: Some(3.0), ..Default::default() }
}

#[test]
fn gradients() {
    let inputs = inputs(9, 3);
    gradcheck("attention", &inputs, |x| x[0].attention(&x[1], &x[2], &options()));
    gradcheck("attention", &inputs, |x| {
        let options = AttentionOptions { softcap: None, ..options() };
        x[0].attention(&x[1], &x[2], &options)
    });
    let x: Vec<Tensor> = inputs.iter().map(|i| i.stored(&Device::cpu(), DType::F64).unwrap()).collect();
    let run = |out: Tensor| {
        let grads = out.square().unwrap().sum_all().unwrap().backward().unwrap();
        let mut all = out.to_f64_vec().unwrap();
        x.iter().for_each(|x| all.extend(grads.get(x).unwrap().to_f64_vec().unwrap()));
        all
    };
    let fused = run(x[0].attention(&x[1], &x[2], &options()).unwrap());
    let composed = run(reference::attention(&x[0], &x[1], &x[2], &options()).unwrap());
    assert_close("attention", &fused, &composed, 1e-10, 1e-10);
}

#[test]
fn devices_agree() {
    let inputs = inputs(70, 8);
    same_on_devices_within(32.0, "attention", &inputs, |x| x[0].attention(&x[1], &x[2], &options()));
}

/// The blocks are those that the function leaves, pair by pair, on all devices; and attention in them is that of all pairs.
#[test]
fn blocks_of_a_function() {
    let layout = BlockLayout { query_block: 32, key_block: 32, ..BlockLayout::new(130, 130) };
    let mask = || {
        let text =
            "fn visible(q: u32, k: u32, head: u32, batch: u32) -> bool { return q / 40u == k / 40u || k == 129u; }";
        Mask::wgsl_and_rust(text, |q, k, _, _| q / 40 == k / 40 || k == 129).unwrap()
    };
    let index = |device: &Device| BlockIndex::from_mask(&mask(), layout, device).unwrap();
    let lists = index(&Device::cpu()).by_query().unwrap();
    assert_eq!(lists.starts, [0, 3, 7, 11, 14, 16]);
    assert_eq!(lists.blocks, [0, 1, 4, 0, 1, 2, 4, 1, 2, 3, 4, 2, 3, 4, 3, 4]);
    if let Some(gpu) = gpu() {
        assert_eq!(index(gpu).by_query().unwrap(), lists);
        index(gpu).validate().unwrap();
    }
    let inputs = inputs(130, 8);
    same_on_devices_within(16.0, "sparse_attention", &inputs, |x| {
        x[0].sparse_attention(&x[1], &x[2], &index(x[0].device()), &Default::default())
    });
    let x: Vec<Tensor> = inputs.iter().map(|i| i.stored(&Device::cpu(), DType::F64).unwrap()).collect();
    let dense = AttentionOptions { mask: mask(), ..Default::default() };
    let got = x[0].sparse_attention(&x[1], &x[2], &index(&Device::cpu()), &Default::default()).unwrap();
    let want = x[0].attention(&x[1], &x[2], &dense).unwrap();
    assert_close("blocks", &got.to_f64_vec().unwrap(), &want.to_f64_vec().unwrap(), 1e-12, 1e-12);
}

/// A function speaks of positions, also where the queries are the last tokens of a cache.
#[test]
fn decoding() {
    each_device(|device| {
        let [q, k, v] = [1, 2, 3].map(|seed| Input::normal(&[1, 2, 40, 8], seed).stored(device, DType::F32).unwrap());
        let mut cache = KvCache::new(1, 2, 8, 8, DType::F32, device).unwrap();
        cache.append(&k, &v).unwrap();
        let options = AttentionOptions { mask: strided(), ..Default::default() };
        let whole = q.attention(&k, &v, &options).unwrap().narrow(2, 37, 3).unwrap().to_f64_vec().unwrap();
        let last = q.narrow(2, 37, 3).unwrap().decode(&cache, &options).unwrap().to_f64_vec().unwrap();
        assert_close("decode", &last, &whole, 1e-5, 1e-5);
        let options = AttentionOptions { score: Some(modifier()), ..Default::default() };
        expect_error(q.decode(&cache, &options), &["decode", "score modifier"]);
    });
}

#[test]
fn bad_texts_are_refused() {
    let mask = |text: &str| Mask::wgsl(text);
    let head = "fn visible(q: u32, k: u32, head: u32, batch: u32) -> bool";
    expect_error(mask(&format!("\n{head} {{\n  return q <= ;\n}}")), &["Mask::wgsl", "line 3, column 15"]);
    expect_error(mask(&format!("{head} {{ return q; }}")), &["Mask::wgsl", "line 1, column "]);
    expect_error(mask(&format!("{head} {{ return q < keys; }}")), &["line 1", "keys"]);
    expect_error(mask("fn seen(q: u32) -> bool { return true; }"), &["lacks `fn visible("]);
    expect_error(mask(""), &["lacks `fn visible("]);
    expect_error(
        mask("fn visible(q: i32, k: u32, head: u32, batch: u32) -> bool { return true; }"),
        &["the text has `fn visible(q: i32, k: u32, head: u32, batch: u32) -> bool`", "expected `fn visible(q: u32"],
    );
    expect_error(
        mask("fn visible(q: u32, k: u32, head: u32, batch: u32) -> f32 { return 1.0; }"),
        &["-> f32`, expected", "-> bool`"],
    );
    let taken = format!("fn products(q: u32) -> u32 {{ return q; }} {head} {{ return products(q) < k; }}");
    expect_error(mask(&taken), &["the name `products`"]);
    expect_error(mask(&format!("var<private> n: u32; {head} {{ return true; }}")), &["variables"]);
    let score = "fn score(s: f32, q: u32, k: u32, head: u32, batch: u32) -> f32 { return s; }";
    expect_error(ScoreModifier::wgsl(score), &["ScoreModifier::wgsl", "lacks `fn score_grad("]);

    let x = inputs(9, 3)[0].stored(&Device::cpu(), DType::F32).unwrap();
    let run = |options: AttentionOptions| x.attention(&x, &x, &options);
    let only = mask(&format!("{head} {{ return k <= q; }}")).unwrap();
    let options = AttentionOptions { mask: only.clone(), ..Default::default() };
    expect_error(run(options), &["attention", "the mask is WGSL", "Mask::wgsl_and_rust"]);
    let options = AttentionOptions { mask: only.and(strided()), ..Default::default() };
    expect_error(run(options), &["2 functions in WGSL"]);
    let grad = score.replace("score", "score_grad");
    let modifier = ScoreModifier::wgsl(&format!("{score}\n{grad}")).unwrap();
    let options = AttentionOptions { score: Some(modifier), ..Default::default() };
    expect_error(run(options), &["attention", "the score modifier is WGSL", "and_rust"]);
    expect_error(run(AttentionOptions { mask: strided().at(-2), ..Default::default() }), &["position -2"]);
}
