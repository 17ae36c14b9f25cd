//! `wgrad sparsify`: every method on a causal and on a masked model, and bad input.

use wgrad::io::Weights;
use wgrad::nn::{Module, Visitor};
use wgrad::rng::Philox;
use wgrad::{DType, Device, Sparse24, Tensor};
use wgrad_models::front::embeddings::TextInput;
use wgrad_models::rows::{Rows, Split};
use wgrad_models::sparsify::{Job, MaskLlm, Method, OneShot, Prior, one_shot};
use wgrad_models::weights::{Matrix, Pattern};
use wgrad_models::zoo::{self, Model, Task, TextModel};
use wgrad_tests::assert_close;

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
    // Learned masks leave the weights as they were, and the head out. GPT-2's matrices are packed by outputs, though it stores them by inputs.
    let open = |folder: &str| Weights::open(Path::new(folder)).unwrap();
    let values = |folder: &str, name: &str| match Sparse24::is_in(&open(folder), name) {
        true => {
            let packed = Sparse24::load(&open(folder), name, [128, 32], DType::F32, &Device::cpu()).unwrap();
            packed.to_dense().unwrap().transpose(0, 1).unwrap().to_f64_vec().unwrap()
        }
        false => open(folder).tensor(name, &Device::cpu()).unwrap().to_f64_vec().unwrap(),
    };
    let name = "transformer.h.0.mlp.c_fc.weight";
    assert!(Sparse24::is_in(&open(&out), name) && !Sparse24::is_in(&open(&dense), name));
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
    fail(&["sparsify", &dense, "--method", "wanda", "-o", &path(&folder, "x")], &["--text", "reads text"]);
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

fn fixture(name: &str) -> String {
    format!("{}/fixtures/models/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn open(folder: &str) -> Model {
    zoo::load(Path::new(folder), DType::F32, &Device::cpu()).unwrap()
}

/// What a model makes of a few tokens.
fn said(model: &dyn TextModel) -> Vec<f64> {
    let ids: Vec<u32> = (0..14).map(|i| 5 + i * 7 % 90).collect();
    let ids = Tensor::from_vec(ids, &[2, 7], &Device::cpu()).unwrap();
    let hidden = model.states(&TextInput::new(&ids), &ids.cast(DType::I32).unwrap()).unwrap();
    let out = if model.about().task == Task::Encoder { Ok(hidden) } else { model.logits(&hidden) };
    out.unwrap().to_f64_vec().unwrap()
}

/// All architectures of text in the fixtures.
const TEXT: &str = "bert deberta_v2 doge electra_discriminator electra_generator falcon funnel gemma2 glm4 gpt2 gpt_neox llama \
                    modernbert mpnet olmo2 opt roberta t5 t5_gated xlnet";

/// A new model of a fixture's architecture with feed-forward layers of 37, so that rows end within a group.
fn odd(name: &str, out: &str) -> String {
    let mut config = json(&Path::new(&fixture(name)).join("config.json"));
    let widths = ["intermediate_size", "ffn_hidden_size", "ffn_dim", "d_ff", "d_inner", "n_inner"];
    let width = widths.iter().find(|width| config.get(**width).is_some()).unwrap_or_else(|| panic!("{name}"));
    config[*width] = 37.into();
    fs::create_dir_all(out).unwrap();
    fs::write(Path::new(out).join("config.json"), config.to_string()).unwrap();
    let config = zoo::Config::read(Path::new(out)).unwrap();
    zoo::new(&config, DType::F32, &Device::cpu()).unwrap().save(Path::new(out)).unwrap();
    out.to_string()
}

/// A model of which nobody sees the blocks, so that all of it is run each time.
struct Hidden;

impl Module for Hidden {
    fn visit(&self, _: &mut Visitor<'_>) {}
}

/// Runs that compute two blocks each prune as runs of the whole model do.
#[test]
fn blocks_are_run_alone_as_in_the_whole_model() {
    let mut random = Random::new(4);
    let text: Vec<u32> = (0..100).map(|_| 5 + random.below(90) as u32).collect();
    let device = Device::cpu();
    for name in TEXT.split_whitespace() {
        for method in [OneShot::Wanda, OneShot::SparseGpt] {
            let pruned = |whole: bool| -> Vec<Vec<f32>> {
                let loaded = open(&fixture(name));
                let (model, matrices) = (loaded.text().unwrap(), Matrix::of_blocks(loaded.module()));
                let rows = match model.about().task {
                    Task::Encoder | Task::Detection => Rows::unlabelled(model, 8, &device),
                    _ => Rows::new(model, Some(4), 8, &device),
                };
                let rows = rows.unwrap();
                let mut run = || {
                    let mut rng = Philox::new(1, 2);
                    [[0, 30], [20, 60]]
                        .iter()
                        .try_for_each(|starts| rows.states(model, &text, starts, Some((&mut rng, 0))).map(drop))
                };
                let masks = match whole {
                    true => one_shot(&Hidden, &matrices, method, Pattern::TWO_OF_FOUR.into(), &mut run),
                    false => one_shot(model, &matrices, method, Pattern::TWO_OF_FOUR.into(), &mut run),
                };
                let weights = matrices.iter().map(|(_, matrix)| matrix.rows().unwrap().detach());
                masks.unwrap().into_iter().chain(weights).map(|x| x.to_vec().unwrap()).collect()
            };
            assert_eq!(pruned(false), pruned(true), "{name} {method:?}");
        }
    }
}

/// Each architecture of text by each method. Packed it says what it says with zeros, and so it does once written and read again.
#[test]
fn every_architecture_becomes_sparse() {
    let folder = tempfile::tempdir().unwrap();
    // An encoder without a head.
    let bare = path(&folder, "bare");
    fs::create_dir(&bare).unwrap();
    fs::copy(format!("{}/model.safetensors", fixture("bert")), format!("{bare}/model.safetensors")).unwrap();
    let config = fs::read_to_string(format!("{}/config.json", fixture("bert"))).unwrap();
    fs::write(format!("{bare}/config.json"), config.replace("BertForMaskedLM", "BertModel")).unwrap();
    let mut random = Random::new(1);
    let text: Vec<u32> = (0..400).map(|_| 5 + random.below(90) as u32).collect();
    let odd = |name: &str| odd(name, &path(&folder, &format!("odd-{name}")));
    let names = || TEXT.split_whitespace();
    for from in names().map(fixture).chain(names().map(odd)).chain([bare]) {
        let settings = MaskLlm::new(2);
        let methods = [OneShot::Magnitude, OneShot::Wanda, OneShot::SparseGpt].map(Method::OneShot);
        for method in methods.into_iter().chain([Method::MaskLlm(settings, Prior::None)]) {
            let loaded = open(&from);
            let model = loaded.text().unwrap();
            let learns = matches!(method, Method::MaskLlm(..));
            let job = Job {
                method,
                sparsity: Pattern::TWO_OF_FOUR.into(),
                batch: 2,
                length: 8,
                calibration: 3,
                seed: 0,
                look_every: None,
                pack: false,
            };
            let done = job.run(model, Split::last_tenth(&text), Some(4), &Device::cpu());
            if learns && matches!(model.about().task, Task::Encoder | Task::Detection) {
                assert!(done.unwrap_err().to_string().contains("predicts no text"), "{from}");
                continue;
            }
            let outcome = done.unwrap_or_else(|error| panic!("{from}: {error}"));
            assert!(outcome.change > 0.0 && outcome.change < 2.0, "{from}: {outcome:?}");
            let (zeros, matrices) = (said(model), Matrix::of_blocks(model));
            assert_eq!(outcome.matrices, matrices.len());
            if learns {
                continue;
            }
            for (_, matrix) in &matrices {
                matrix.param.set_packed(&Sparse24::from_dense(&matrix.rows().unwrap().detach()).unwrap()).unwrap();
            }
            let packed = said(model);
            assert_close(&from, &packed, &zeros, 1e-5, 1e-4);
            let out = path(&folder, "out");
            loaded.save(Path::new(&out)).unwrap();
            assert_eq!(said(open(&out).text().unwrap()), packed, "{from}");
        }
    }
}

/// Patterns other than 2:4 are written with zeros, halves stay halves, and all methods make a table and a picture.
#[test]
fn patterns_precisions_and_all_methods() {
    let folder = tempfile::tempdir().unwrap();
    let text = path(&folder, "text.txt");
    let mut random = Random::new(2);
    fs::write(&text, (0..600).map(|_| format!("{} ", 5 + random.below(90))).collect::<String>()).unwrap();
    let halves = path(&folder, "halves");
    open(&fixture("gpt2")).save_as(Path::new(&halves), DType::BF16).unwrap();
    let common = ["--text", &text, "--length", "16", "--calibration", "4"];
    let make = |from: &str, out: &str, more: &[&str]| {
        let out = path(&folder, out);
        (succeed(&[&["sparsify", from, "-o", &out], &common[..], more].concat()), out)
    };
    for (pattern, n, m) in [("1:2", 1, 2), ("1:4", 1, 4), ("2:8", 2, 8), ("4:8", 4, 8)] {
        let (_, out) = make(&halves, pattern, &["--method", "wanda", "--pattern", pattern]);
        for (name, matrix) in Matrix::of_blocks(open(&out).module()) {
            let rows: Vec<f64> = matrix.rows().unwrap().to_f64_vec().unwrap();
            let most = rows.chunks(m).map(|group| group.iter().filter(|&&w| w != 0.0).count()).max();
            assert_eq!(most, Some(n), "{pattern} {name}");
        }
        assert!(!succeed(&["generate", &out, "7 8 9 10", "--most", "2"]).is_empty());
    }
    let stored = |out: &str, name: &str| Weights::open(Path::new(out)).unwrap().stored(name).unwrap().0;
    let name = "transformer.h.1.attn.c_attn.weight.values";
    let (printed, out) = make(&halves, "packed", &["--method", "magnitude"]);
    assert!(printed.contains("perplexity"), "{printed}");
    assert_eq!(stored(&out, name), "BF16");
    assert_eq!(json(&Path::new(&out).join("config.json"))["dtype"], "bfloat16");
    let (_, out) = make(&halves, "wide", &["--method", "magnitude", "--precision", "f32"]);
    assert_eq!(stored(&out, name), "F32");
    assert_eq!(json(&Path::new(&out).join("config.json"))["dtype"], "float32");

    // A masked model without a tokenizer: which token hides one has to be said.
    let bert = fixture("bert");
    fail(&[&["sparsify", &bert, "-o", &path(&folder, "no"), "--method", "all"], &common[..]].concat(), &["[MASK]"]);
    let (printed, out) = make(&bert, "all", &["--method", "all", "--mask-id", "4", "--steps", "20"]);
    for word in ["dense", "magnitude", "wanda", "sparsegpt", "maskllm", "perplexity.svg"] {
        assert!(printed.contains(word), "{word} in {printed}");
    }
    let figures = json(&Path::new(&out).join("perplexity.json"));
    let after: Vec<f64> = figures.as_array().unwrap().iter().map(|f| f["perplexity_after"].as_f64().unwrap()).collect();
    assert!(after.len() == 4 && after.iter().all(|p| p.is_finite()), "{figures}");
    assert!(figures[3]["course"].as_array().unwrap().len() == 10, "{figures}");
    assert!(fs::read_to_string(Path::new(&out).join("perplexity.svg")).unwrap().contains("maskllm"));
    // Masks are learned for 2:4 alone.
    let (printed, _) = make(&bert, "quarter", &["--method", "all", "--pattern", "1:4", "--mask-id", "4"]);
    assert!(printed.contains("sparsegpt") && !printed.contains("maskllm"), "{printed}");
    let (printed, out) = make(&fixture("t5"), "t5", &["--method", "wanda"]);
    assert!(printed.contains("perplexity"), "{printed}");
    assert!(succeed(&["score", &out, &text, "--length", "16"]).contains("perplexity"));
    let (printed, _) = make(&fixture("electra_discriminator"), "detector", &["--method", "sparsegpt"]);
    assert!(printed.contains("hidden states changed by"), "{printed}");
}

/// Models of images, of sounds, and of images and texts, by their weights alone.
#[test]
fn models_without_text_become_sparse_by_magnitude() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["clip", "lxmert", "rt_detr_v2", "vit", "vit_mae", "wav2vec2_bert", "wav2vec2_conformer"] {
        let (from, out) = (fixture(name), path(&folder, name));
        let printed = succeed(&["sparsify", &from, "--method", "magnitude", "-o", &out]);
        assert!(printed.contains("2:4 sparse"), "{printed}");
        assert!(most_of_four(&out).iter().all(|&most| most == 2), "{name}");
    }
    let vit = fixture("vit");
    fail(&["sparsify", &vit, "--method", "wanda", "-o", &path(&folder, "no")], &["wanda", "magnitude alone"]);
}
