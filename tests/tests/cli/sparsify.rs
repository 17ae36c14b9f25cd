//! `wgrad sparsify`: every method on a causal and on a masked model, and bad input.

use wgrad::io::Weights;
use wgrad::{DType, Device};
use wgrad_models::weights::{Matrix, Pattern};
use wgrad_models::zoo;

use super::*;

/// The matrices of a saved model's blocks, and the largest number of weights that are not 0 in a group of four of each.
fn most_of_four(folder: &str) -> Vec<usize> {
    let model = zoo::load(Path::new(folder), DType::F32, &Device::cpu()).unwrap();
    let matrices = Matrix::of_blocks(model.module());
    matrices.iter().map(|(_, matrix)| Pattern::TWO_OF_FOUR.most(&matrix.rows().unwrap().detach()).unwrap()).collect()
}

fn perplexities(arguments: &[&str]) -> [f64; 2] {
    let value: Value = serde_json::from_str(&succeed(&[arguments, &["--json"]].concat())).unwrap();
    ["perplexity_before", "perplexity_after"].map(|name| value[name].as_f64().unwrap())
}

#[test]
fn causal_models_become_sparse_by_every_method() {
    let folder = tempfile::tempdir().unwrap();
    let gpt2 = format!("{}/fixtures/models/gpt2", env!("CARGO_MANIFEST_DIR"));
    let (text, dense) = (path(&folder, "text.txt"), path(&folder, "dense"));
    // What comes next depends on the five tokens before, so that it takes more than a table of pairs.
    let mut random = Random::new(5);
    let ids: String =
        (0..400).map(|_| ["7 8 9 10 11 12 ", "7 9 9 20 21 30 ", "40 8 9 50 7 7 "][random.below(3)]).collect();
    fs::write(&text, ids).unwrap();
    let sizes = ["--steps", "150", "--length", "16", "--batch", "8", "--lr", "1e-2"];
    succeed(&[&["finetune", &gpt2, "--text", &text, "--out", &dense], &sizes[..]].concat());
    let sparsify = |method: &str, more: &[&str]| {
        let out = path(&folder, &[method, more.get(1).copied().unwrap_or("")].concat().replace('/', "-"));
        let arguments = ["sparsify", &dense, "--method", method, "--text", &text, "-o", &out, "--length", "16"];
        let found = perplexities(&[&arguments[..], more].concat());
        assert_eq!(most_of_four(&out), [2; 8], "{method}");
        (found, out)
    };
    let ([before, magnitude], out) = sparsify("magnitude", &[]);
    let [again, after] = [&dense, &out].map(|model| {
        let score = succeed(&["score", model, &text, "--length", "16", "--json"]);
        serde_json::from_str::<Value>(&score).unwrap()["perplexity"].as_f64().unwrap()
    });
    assert!(again < after && (before / again - 1.0).abs() < 0.2, "{before} {again} {after}");
    let ([_, wanda], _) = sparsify("wanda", &[]);
    let ([_, sparse_gpt], _) = sparsify("sparsegpt", &[]);
    let ([_, learned], out) = sparsify("maskllm", &["--steps", "100"]);
    let best = magnitude.min(wanda).min(sparse_gpt);
    assert!(learned < best, "{before} {learned} {magnitude} {wanda} {sparse_gpt}");
    // Learned masks leave the weights as they were, and the head out.
    let open = |folder: &str| Weights::open(Path::new(folder)).unwrap();
    let values = |folder: &str, name: &str| open(folder).tensor(name, &Device::cpu()).unwrap().to_f64_vec().unwrap();
    let name = "transformer.h.0.mlp.c_fc.weight";
    assert!(values(&dense, name).iter().zip(values(&out, name)).all(|(d, s)| s == 0.0 || s == *d));
    let word = "transformer.wte.weight";
    assert_eq!(values(&dense, word), values(&out, word));
    assert_eq!(succeed(&["generate", &out, "7 8 9 10", "--most", "2"]).trim(), "11 12");
    let ([_, more], _) = sparsify("maskllm", &["--prior", &out, "--steps", "40"]);
    assert!(more < best, "{more}");

    let refuse = |arguments: &[&str], words: &[&str]| {
        let all = [&["sparsify", &dense, "--text", &text, "--length", "16", "-o", &path(&folder, "no")], arguments];
        fail(&all.concat(), words);
        assert!(!folder.path().join("no").exists());
    };
    refuse(&["--method", "magnitude", "--pattern", "3:5"], &["c_attn", "32 inputs", "5"]);
    refuse(&["--method", "maskllm", "--pattern", "1:4"], &["1:4", "2:4"]);
    refuse(&["--method", "magnitude", "--pattern", "four"], &["four"]);
    refuse(&["--method", "maskllm", "--prior", "nowhere"], &["nowhere", "sparsegpt"]);
    refuse(&["--method", "maskllm", "--prior", &dense], &["not 2:4 sparse"]);
    refuse(&["--method", "pruning"], &["pruning"]);
    fail(&["sparsify", &dense, "--method", "wanda", "--text", &text, "-o", &out], &["already holds"]);
    let absent = path(&folder, "absent.txt");
    fail(&["sparsify", &dense, "--method", "wanda", "--text", &absent, "-o", &path(&folder, "x")], &["absent.txt"]);
    let short = path(&folder, "short.txt");
    fs::write(&short, "7 8 9").unwrap();
    fail(&["sparsify", &dense, "--method", "wanda", "--text", &short, "-o", &path(&folder, "x")], &["too few"]);
    let t5 = format!("{}/fixtures/models/t5", env!("CARGO_MANIFEST_DIR"));
    fail(&["sparsify", &t5, "--method", "wanda", "--text", &text, "-o", &path(&folder, "x")], &["causal and masked"]);
}

#[test]
fn masked_models_become_sparse() {
    let folder = folder_with_text();
    let (text, run, out) = (path(&folder, "text.txt"), path(&folder, "run"), path(&folder, "sparse"));
    succeed(&small(&text, &run, "300"));
    let arguments = ["sparsify", &run, "--method", "maskllm", "--steps", "60", "--text", &text, "-o", &out];
    let [before, after] = perplexities(&[&arguments[..], &["--length", "24"]].concat());
    assert!(before > 1.0 && after < 3.0 * before, "{before} {after}");
    assert!(most_of_four(&out).iter().all(|&most| most == 2));
    // Packed and with zeros it says the same, and packed it takes less room.
    let sentence = "On monday the cat eats [MASK] and sleeps in the house.";
    let said = |more: &[&str], out: &str| {
        let arguments = ["sparsify", &run, "--method", "magnitude", "--text", &text, "-o", out, "--length", "24"];
        succeed(&[&arguments[..], more].concat());
        let size = fs::metadata(Path::new(out).join("model.safetensors")).unwrap().len();
        (succeed(&["fill-mask", "--model", out, sentence]), size)
    };
    let (packed, zeros) = (said(&[], &path(&folder, "packed")), said(&["--dense"], &path(&folder, "zeros")));
    assert_eq!(packed.0, zeros.0);
    assert!(packed.1 < zeros.1, "{} {}", packed.1, zeros.1);
    let tree = succeed(&["inspect", &path(&folder, "packed")]);
    assert!(tree.contains("2:4 in"), "{tree}");
}
