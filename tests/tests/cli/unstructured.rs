//! `wgrad sparsify --pattern unstructured`, and training what is packed.

use wgrad::io::Weights;
use wgrad::{DType, Device, Sparse24, SparseRows};

use super::*;

fn fixture(name: &str) -> String {
    format!("{}/fixtures/models/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Tokens of a small vocabulary, most of them in a pattern.
fn text(folder: &TempDir) -> String {
    let (out, mut random) = (path(folder, "text.txt"), Random::new(2));
    let ids: String = (0..300).map(|_| ["7 8 9 10 11 12 ", "7 9 9 20 21 30 "][random.below(2)]).collect();
    fs::write(&out, ids).unwrap();
    out
}

fn open(folder: &str) -> Weights {
    Weights::open(Path::new(folder)).unwrap()
}

/// What is listed by rows says what the same with zeros says, takes less room, and leaves out what it should.
#[test]
fn shares_of_weights_are_left_out_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let (text, gpt2) = (text(&folder), fixture("gpt2"));
    let name = "transformer.h.1.mlp.c_fc.weight";
    for method in ["magnitude", "wanda", "sparsegpt"] {
        let make = |out: &str, more: &[&str]| {
            let out = path(&folder, out);
            let arguments = ["sparsify", &gpt2, "--method", method, "--pattern", "unstructured", "-o", &out];
            let rest = ["--text", &text, "--length", "16", "--calibration", "4"];
            (succeed(&[&arguments, &rest[..], more].concat()), out)
        };
        let (printed, listed) = make(&format!("{method}-listed"), &[]);
        assert!(printed.contains("are 90 % sparse"), "{printed}");
        let (_, zeros) = make(&format!("{method}-zeros"), &["--dense"]);
        let score = |model: &str| {
            let score = succeed(&["score", model, &text, "--length", "16", "--json"]);
            serde_json::from_str::<Value>(&score).unwrap()["perplexity"].as_f64().unwrap()
        };
        let (a, b) = (score(&listed), score(&zeros));
        assert!((a / b - 1.0).abs() < 1e-4, "{method}: {a} {b}");
        let written = |model: &str| succeed(&["generate", model, "7 8 9 10", "--most", "4"]);
        assert_eq!(written(&listed), written(&zeros));
        let rows = SparseRows::load(&open(&listed), name, [128, 32], DType::F32, &Device::cpu()).unwrap();
        assert!((0.08..0.12).contains(&rows.density()), "{method}: {}", rows.density());
        assert!(!SparseRows::is_in(&open(&zeros), name));
        let size = |model: &str| fs::metadata(Path::new(model).join("model.safetensors")).unwrap().len();
        assert!(size(&listed) < size(&zeros));
        let tree = succeed(&["inspect", &listed]);
        assert!(tree.contains("listed by rows in"), "{tree}");
        // Half of the weights is too many to list.
        let (_, half) = make(&format!("{method}-half"), &["--share", "0.5"]);
        assert!(!SparseRows::is_in(&open(&half), name));
    }
    // Layers of it are trained beside, and what is listed stays.
    let (listed, out) = (path(&folder, "wanda-listed"), path(&folder, "tuned"));
    succeed(&["finetune", &listed, "--text", &text, "--out", &out, "--steps", "2", "--length", "16"]);
    let values = |folder: &str| open(folder).tensor(&format!("{name}.values"), &Device::cpu()).unwrap().to_f64_vec();
    assert_eq!(values(&listed).unwrap(), values(&out).unwrap());

    let refuse = |arguments: &[&str], words: &[&str]| {
        let all = [&["sparsify", &gpt2, "--text", &text, "--length", "16", "-o", &path(&folder, "no")], arguments];
        fail(&all.concat(), words);
    };
    refuse(&["--method", "magnitude", "--share", "0.9"], &["--share", "unstructured", "2:4"]);
    refuse(&["--method", "magnitude", "--pattern", "unstructured", "--share", "1"], &["share", "below 1"]);
    refuse(&["--method", "maskllm", "--pattern", "unstructured"], &["90 %", "2:4"]);
}

/// Fine-tuning moves the kept values of packed matrices, and neither their places nor the form of the file.
#[test]
fn packed_models_are_trained() {
    let folder = tempfile::tempdir().unwrap();
    let (text, gpt2) = (text(&folder), fixture("gpt2"));
    let (sparse, out) = (path(&folder, "sparse"), path(&folder, "tuned"));
    let sizes = ["--length", "16", "--batch", "8"];
    let sparsify = ["sparsify", &gpt2, "--method", "magnitude", "--text", &text, "-o", &sparse];
    succeed(&[&sparsify[..], &sizes].concat());
    let finetune = ["finetune", &sparse, "--text", &text, "--out", &out, "--steps", "60", "--lr", "1e-2"];
    let printed = succeed(&[&finetune[..], &sizes].concat());
    let losses: Vec<f64> =
        printed.split_whitespace().filter_map(|word| word.trim_end_matches(';').parse().ok()).collect();
    assert!(losses.len() == 2 && losses[1] < 0.6 * losses[0], "{printed}");
    let name = "transformer.h.0.mlp.c_fc.weight";
    let [before, after] = [&sparse, &out]
        .map(|folder| Sparse24::load(&open(folder), name, [128, 32], DType::F32, &Device::cpu()).unwrap());
    assert_eq!(before.meta().to_vec::<u32>().unwrap(), after.meta().to_vec::<u32>().unwrap());
    assert_ne!(before.values().to_vec::<f32>().unwrap(), after.values().to_vec::<f32>().unwrap());
    assert!(succeed(&["generate", &out, "7 8 9 10", "--most", "2"]).split_whitespace().count() == 2);
}
