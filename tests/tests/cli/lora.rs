//! `wgrad finetune --lora`, with a model of the fixtures.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use wgrad::Device;
use wgrad::io::Weights;

use super::{fail, path, run, succeed};

fn weights(folder: &Path) -> BTreeMap<String, Vec<u32>> {
    let weights = Weights::open(folder).unwrap();
    let names: Vec<String> = weights.names().map(str::to_string).collect();
    let bits = |name: &String| -> Vec<u32> {
        let values = weights.tensor(name, &Device::cpu()).unwrap().to_vec::<f32>().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    };
    names.iter().map(|name| (name.clone(), bits(name))).collect()
}

#[test]
fn additions_learn_and_are_merged_into_their_matrices_alone() {
    let folder = tempfile::tempdir().unwrap();
    let model = format!("{}/fixtures/models/gpt2", env!("CARGO_MANIFEST_DIR"));
    let text = path(&folder, "text.txt");
    fs::write(&text, "7 8 9 10 11 12 ".repeat(200)).unwrap();
    let out = path(&folder, "tuned");
    let train = ["finetune", &model, "--text", &text, "--steps", "40", "--length", "16", "--lr", "3e-2"];
    let with = |more: &[&'static str]| [&train[..], &["--out", &out], more].concat();
    let printed = succeed(&with(&["--lora", "4", "--lora-dropout", "0.1"]));
    let losses: Vec<f64> =
        printed.split_whitespace().filter_map(|word| word.trim_end_matches(';').parse().ok()).collect();
    assert!(losses.len() == 2 && losses[1] < 0.9 * losses[0], "{printed}");
    let (before, after) = (weights(Path::new(&model)), weights(Path::new(&out)));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, bits) in &before {
        // GPT-2 has one matrix for queries, keys and values.
        assert_eq!(*bits != after[name], name.ends_with("c_attn.weight"), "{name}");
    }
    let written = succeed(&["generate", &out, "7 8 9 10", "--most", "2"]);
    assert_eq!(written.split_whitespace().count(), 2, "{written}");

    fs::remove_dir_all(&out).unwrap();
    fail(&with(&["--lora", "4", "--lora-targets", "dense"]), &["dense", "c_attn"]);
    fail(&with(&["--lora", "99"]), &["rank", "99", "c_attn.weight"]);
    fail(&with(&["--lora", "4", "--lora-alpha", "0"]), &["alpha"]);
    for usage in [&["--lora", "0"][..], &["--lora-alpha", "2"], &["--lora", "4", "--lora-targets", "a,,b"]] {
        assert_eq!(run(&with(usage)).status.code(), Some(2), "{usage:?}");
    }
    assert!(!Path::new(&out).exists());
}
