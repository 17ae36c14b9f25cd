//! Model folders beyond the fixtures' own: saved again, under other names, in other dtypes and pieces, and damaged.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use wgrad::io::{Weights, save};
use wgrad::nn::Module;
use wgrad::{DType, Device, Tensor};
use wgrad_models::front::embeddings::TextInput;
use wgrad_models::generate::{Choice, Settings, generate};
use wgrad_models::zoo::{self, Cache, Config, Model, Task, TextModel};
use wgrad_tests::Random;

use crate::fixture::own_folder;

/// Folders of all models of the fixtures that this crate can load.
fn models() -> Vec<PathBuf> {
    let all = fs::read_dir(own_folder().join("models")).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> = all.filter(|path| crate::models::is_known(path)).collect();
    all.sort();
    assert!(all.len() >= 20, "{} models", all.len());
    all
}

fn model(name: &str) -> PathBuf {
    own_folder().join("models").join(name)
}

fn config(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path.join("config.json")).unwrap()).unwrap()
}

fn tensors(path: &Path) -> Vec<(String, Tensor)> {
    let weights = Weights::open(path).unwrap();
    weights.names().map(|name| (name.to_string(), weights.tensor(name, &Device::cpu()).unwrap())).collect()
}

fn written(config: &Value, tensors: &[(String, Tensor)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    save(folder.path().join("model.safetensors"), tensors).unwrap();
    folder
}

fn expect_error<T>(result: wgrad_models::Result<T>, words: &[&str]) {
    let Err(error) = result else { panic!("expected an error with {words:?}") };
    let sentence = error.to_string();
    assert!(words.iter().all(|word| sentence.contains(word)), "{words:?} are missing in {sentence:?}");
}

fn load(path: &Path) -> Model {
    zoo::load(path, DType::F32, &Device::cpu()).unwrap()
}

pub fn ids(rows: usize, length: usize, below: usize, seed: u64) -> Tensor {
    let mut random = Random::new(seed);
    // No padding ids, which are small.
    let ids: Vec<u32> = (0..rows * length).map(|_| 6 + random.below(below - 6) as u32).collect();
    Tensor::from_vec(ids, &[rows, length], &Device::cpu()).unwrap()
}

/// Logits of some text, or hidden states where there is no head.
fn answer(model: &dyn TextModel) -> Vec<f64> {
    let hidden = model.encode(&TextInput::new(&ids(2, 8, model.about().vocab, 1))).unwrap();
    let answer = if model.about().task == Task::Encoder { hidden } else { model.logits(&hidden).unwrap() };
    answer.to_f64_vec().unwrap()
}

fn close(got: &[f64], want: &[f64], tolerance: f64, what: &str) {
    let far = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(got.len() == want.len() && far <= tolerance, "{what}: {far:e} apart");
}

#[test]
fn saving_writes_what_was_read() {
    for path in models() {
        let model = load(&path);
        let again = tempfile::tempdir().unwrap();
        model.save(again.path()).unwrap();
        let (mut old, new) = (tensors(&path), tensors(again.path()));
        // What no model reads stays behind.
        let unread = ["num_batches_tracked", "pos_conv_embed", "inv_freq", "n_points_scale"];
        old.retain(|(name, _)| !unread.iter().any(|part| name.contains(part)));
        let names = |all: &[(String, Tensor)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&new), names(&old), "{}", path.display());
        for ((name, old), (_, new)) in old.iter().zip(&new) {
            assert_eq!(new.to_f64_vec().unwrap(), old.to_f64_vec().unwrap(), "{}: {name}", path.display());
        }
        assert_eq!(config(again.path()), config(&path));
    }
}

#[test]
fn prefixes_may_be_absent_and_norms_named_as_of_old() {
    let cases =
        [("bert", "bert."), ("roberta", "roberta."), ("gpt2", "transformer."), ("opt", "model."), ("mpnet", "mpnet.")];
    for (name, prefix) in cases {
        let path = model(name);
        let want = answer(load(&path).text().unwrap());
        let old = |name: String| match name.contains("LayerNorm") {
            true => name.replace(".weight", ".gamma").replace(".bias", ".beta"),
            false => name,
        };
        let bare = tensors(&path).into_iter().map(|(name, x)| (old(name.replacen(prefix, "", 1)), x));
        let folder = written(&config(&path), &bare.collect::<Vec<_>>());
        let model = load(folder.path());
        close(&answer(model.text().unwrap()), &want, 0.0, name);
        // The prefix stays away.
        assert!(model.module().named_parameters().iter().all(|(name, _)| !name.starts_with(prefix)));
    }
}

#[test]
fn an_encoder_alone_is_a_model_too() {
    let path = model("bert");
    let mut config = config(&path);
    config["architectures"] = json!(["BertModel"]);
    let full = load(&path);
    let input = ids(1, 5, 100, 3);
    let want = full.text().unwrap().encode(&TextInput::new(&input)).unwrap().to_f64_vec().unwrap();
    let mut bare: Vec<(String, Tensor)> =
        tensors(&path).into_iter().filter_map(|(name, x)| Some((name.strip_prefix("bert.")?.to_string(), x))).collect();
    let pooler = |name: &str, shape: &[usize]| {
        (format!("pooler.dense.{name}"), Tensor::ones(shape, DType::F32, &Device::cpu()).unwrap())
    };
    bare.extend([pooler("weight", &[32, 32]), pooler("bias", &[32])]);
    let folder = written(&config, &bare);
    let Model::Transformer(encoder) = load(folder.path()) else { panic!("no encoder") };
    assert_eq!(encoder.about().task, Task::Encoder);
    let hidden = encoder.encode(&TextInput::new(&input)).unwrap();
    close(&hidden.to_f64_vec().unwrap(), &want, 0.0, "states");
    assert_eq!(encoder.pooled(&hidden).unwrap().shape(), [1, 32]);
    assert!(encoder.named_parameters().iter().any(|(name, _)| name == "pooler.dense.weight"));
    assert!(encoder.logits(&hidden).is_err());
}

#[test]
fn older_spellings_of_configurations() {
    let same = |name: &str, change: &dyn Fn(&mut Value)| {
        let path = model(name);
        let mut config = config(&path);
        change(&mut config);
        let folder = written(&config, &tensors(&path));
        close(&answer(load(folder.path()).text().unwrap()), &answer(load(&path).text().unwrap()), 0.0, name);
    };
    fn remove(config: &mut Value, name: &str) -> Value {
        config.as_object_mut().unwrap().remove(name).unwrap()
    }
    same("llama", &|c| c["rope_theta"] = remove(c, "rope_parameters")["rope_theta"].clone());
    same("gpt_neox", &|c| {
        let rope = remove(c, "rope_parameters");
        c["rotary_pct"] = rope["partial_rotary_factor"].clone();
        c["rotary_emb_base"] = rope["rope_theta"].clone();
    });
    same("modernbert", &|c| {
        remove(c, "rope_parameters");
        remove(c, "layer_types");
        c["global_rope_theta"] = json!(160_000.0);
        c["local_rope_theta"] = json!(10_000.0);
    });
    same("gemma2", &|c| {
        remove(c, "layer_types");
    });
    same("falcon", &|c| {
        c["n_head"] = remove(c, "num_attention_heads");
        c["n_layer"] = remove(c, "num_hidden_layers");
        remove(c, "ffn_hidden_size");
    });
    same("deberta_v2", &|c| c["pos_att_type"] = json!("p2c|c2p"));
}

#[test]
fn halves_and_shards() {
    let path = model("llama");
    let want = answer(load(&path).text().unwrap());
    for (dtype, tolerance) in [(DType::F16, 2e-2), (DType::BF16, 0.16)] {
        let narrow: Vec<(String, Tensor)> =
            tensors(&path).into_iter().map(|(name, x)| (name, x.cast(dtype).unwrap())).collect();
        let folder = written(&config(&path), &narrow);
        close(&answer(load(folder.path()).text().unwrap()), &want, tolerance, "widened");
        let model = zoo::load(folder.path(), dtype, &Device::cpu()).unwrap();
        close(&answer(model.text().unwrap()), &want, 3.0 * tolerance, "in halves");
    }
    let folder = tempfile::tempdir().unwrap();
    fs::copy(path.join("config.json"), folder.path().join("config.json")).unwrap();
    let mut map = serde_json::Map::new();
    let all = tensors(&path);
    for (number, part) in all.chunks(7).enumerate() {
        let name = format!("model-{number}.safetensors");
        save(folder.path().join(&name), part).unwrap();
        map.extend(part.iter().map(|(tensor, _)| (tensor.clone(), json!(name))));
    }
    let index = json!({ "metadata": {}, "weight_map": map }).to_string();
    fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    close(&answer(load(folder.path()).text().unwrap()), &want, 0.0, "in shards");
}

#[test]
fn what_does_not_fit_is_named() {
    let path = model("llama");
    let all = tensors(&path);
    let try_load = |config: &Value, tensors: &[(String, Tensor)]| {
        let folder = written(config, tensors);
        zoo::load(folder.path(), DType::F32, &Device::cpu()).map(drop)
    };
    let name = "model.layers.1.mlp.up_proj.weight";
    let without: Vec<_> = all.iter().filter(|(n, _)| n != name).cloned().collect();
    expect_error(try_load(&config(&path), &without), &[name, "does not have"]);
    let surplus = [&all[..], &[("model.extra.weight".to_string(), all[0].1.clone())]].concat();
    expect_error(try_load(&config(&path), &surplus), &["model.extra.weight", "no place"]);
    let misshapen: Vec<_> = all
        .iter()
        .map(|(n, x)| (n.clone(), if n == name { x.narrow(0, 0, 5).unwrap().contiguous().unwrap() } else { x.clone() }))
        .collect();
    expect_error(try_load(&config(&path), &misshapen), &[name, "[5, 32]", "[64, 32]"]);
    let changed = |name: &str, value: Value| {
        let mut config = config(&path);
        config[name] = value;
        config
    };
    let refused = |name: &str, value: Value, words: &[&str]| expect_error(try_load(&changed(name, value), &all), words);
    refused("model_type", json!("rwkv"), &["rwkv", "not supported"]);
    refused("architectures", json!(["LlamaForTokenClassification"]), &["LlamaForTokenClassification"]);
    refused("hidden_act", json!("sine"), &["sine"]);
    refused("num_attention_heads", json!(0), &["0"]);
    refused("num_key_value_heads", json!(3), &["3 key heads"]);
    refused("hidden_size", json!("wide"), &["hidden_size", "wide"]);
    refused("num_hidden_layers", json!(3), &["model.layers.2"]);
    refused("rope_parameters", json!({ "rope_type": "longrope" }), &["longrope"]);
}

/// Step by step with kept keys and values, a decoder gives what it gives for the whole text.
#[test]
fn kept_keys_and_values_change_nothing() {
    for path in models() {
        let loaded = load(&path);
        let Ok(model) = loaded.text() else { continue };
        let text = ids(2, 11, model.about().vocab, 5);
        let steps = |run: &dyn Fn(&TextInput, Option<&mut Cache>) -> Tensor| {
            let whole = run(&TextInput::new(&text), None);
            let mut cache = Cache::default();
            let mut at = 0;
            for length in [4, 1, 1, 3, 1, 1] {
                let part = text.narrow(1, at, length).unwrap().contiguous().unwrap();
                let states = run(&TextInput::new(&part), Some(&mut cache));
                let want = whole.narrow(1, at, length).unwrap().to_f64_vec().unwrap();
                close(&states.to_f64_vec().unwrap(), &want, 1e-4, &path.display().to_string());
                at += length;
                assert_eq!(cache.length(), at);
            }
        };
        match &loaded {
            Model::T5(t5) => {
                let encoded = t5.encoded(&TextInput::new(&ids(2, 7, 100, 9)), None).unwrap();
                steps(&|input, cache| t5.decode(input, &encoded, cache, None).unwrap());
            }
            _ if model.about().task == Task::CausalLm => steps(&|input, cache| model.run(input, cache, None).unwrap()),
            _ => {}
        }
    }
}

#[test]
fn texts_go_on() {
    let device = Device::cpu();
    for name in ["gpt2", "llama", "gemma2", "doge", "t5"] {
        let model = load(&model(name));
        let write = |choice: Choice| {
            let mut seen = Vec::new();
            let settings = Settings { choice, most: 9, ends: vec![] };
            let text = generate(&model, &[7, 20, 31], &settings, &device, &mut |token| {
                seen.push(token);
                Ok(true)
            });
            let text = text.unwrap();
            assert_eq!(seen, text);
            assert_eq!(text.len(), 9, "{name}");
            text
        };
        let greedy = write(Choice::Greedy);
        let draw = |top_k, top_p, seed| write(Choice::Draw { temperature: 1.0, top_k, top_p, seed });
        assert_eq!(draw(1, 1.0, 4), greedy, "{name}");
        assert_eq!(draw(0, 1e-9, 4), greedy, "{name}");
        assert_eq!(draw(0, 1.0, 4), draw(0, 1.0, 4), "{name}");
        assert_ne!(draw(0, 1.0, 4), draw(0, 1.0, 5), "{name}");
        assert_eq!(write(Choice::Beams { width: 1, length_penalty: 1.0 }), greedy, "{name}");
        // More beams find a text at least as likely.
        let beams = write(Choice::Beams { width: 6, length_penalty: 1.0 });
        let (of_beams, of_greedy) = (likelihood(&model, &beams), likelihood(&model, &greedy));
        assert!(of_beams >= of_greedy - 1e-4, "{name}: {of_beams} and {of_greedy}");
        let stop = Settings { choice: Choice::Greedy, most: 9, ends: vec![greedy[3]] };
        let first = greedy.iter().position(|&token| token == greedy[3]).unwrap();
        assert_eq!(generate(&model, &[7, 20, 31], &stop, &device, &mut |_| Ok(true)).unwrap(), greedy[..first]);
    }
    let refuse = |name: &str, prompt: &[u32]| {
        let settings = Settings { choice: Choice::Greedy, most: 3, ends: vec![] };
        generate(&load(&model(name)), prompt, &settings, &device, &mut |_| Ok(true))
    };
    expect_error(refuse("bert", &[1]), &["does not write"]);
    expect_error(refuse("llama", &[]), &["prompt"]);
    assert!(refuse("llama", &[4_000_000]).is_err());
}

/// Logarithm of the probability of `text` after the prompt of the test above.
fn likelihood(model: &Model, text: &[u32]) -> f64 {
    let device = Device::cpu();
    let row = |ids: &[u32]| Tensor::from_slice(ids, &[1, ids.len()], &device).unwrap();
    let (hidden, before) = match model {
        Model::T5(t5) => {
            let encoded = t5.encoded(&TextInput::new(&row(&[7, 20, 31])), None).unwrap();
            let ids = row(&[&[t5.start()], text].concat());
            (t5.decode(&TextInput::new(&ids), &encoded, None, None).unwrap(), 0)
        }
        _ => {
            let ids = row(&[&[7, 20, 31], text].concat());
            (model.text().unwrap().encode(&TextInput::new(&ids)).unwrap(), 2)
        }
    };
    let scores = model.text().unwrap().logits(&hidden).unwrap().log_softmax(-1).unwrap();
    let rows = scores.narrow(1, before, text.len()).unwrap();
    rows.gather(-1, &row(text).unsqueeze(-1).unwrap()).unwrap().sum_all().unwrap().item().unwrap()
}

/// Texts packed into a row see themselves alone, and padding changes nothing.
#[test]
fn packed_and_padded_texts_agree() {
    for name in ["bert", "modernbert", "llama", "gpt_neox", "gemma2"] {
        let loaded = load(&model(name));
        let model = loaded.text().unwrap();
        let run = |input: &TextInput| model.encode(input).unwrap();
        let texts = [ids(1, 9, 100, 1), ids(1, 4, 100, 2)];
        let alone: Vec<f64> = texts.iter().flat_map(|ids| run(&TextInput::new(ids)).to_f64_vec().unwrap()).collect();
        let packed = Tensor::concat(&[&texts[0], &texts[1]], 1).unwrap();
        let numbers = |f: &dyn Fn(u32) -> u32| {
            Tensor::from_vec((0..13).map(f).collect::<Vec<u32>>(), &[1, 13], &Device::cpu()).unwrap()
        };
        let (segments, positions) = (numbers(&|i| u32::from(i >= 9)), numbers(&|i| if i >= 9 { i - 9 } else { i }));
        let input = TextInput { segments: Some(&segments), positions: Some(&positions), ..TextInput::new(&packed) };
        close(&run(&input).to_f64_vec().unwrap(), &alone, 2e-5, name);
        let filler = ids(1, 5, 100, 3);
        let short = Tensor::concat(&[&texts[1], &filler], 1).unwrap();
        let padded = Tensor::concat(&[&texts[0], &short], 0).unwrap();
        let input = TextInput { lengths: Some(&[9, 4]), ..TextInput::new(&padded) };
        let states = run(&input);
        let row = |row: usize, length| states.narrow(0, row, 1).unwrap().narrow(1, 0, length).unwrap();
        let kept = [row(0, 9), row(1, 4)].iter().flat_map(|x| x.to_f64_vec().unwrap()).collect::<Vec<_>>();
        close(&kept, &alone, 2e-5, name);
    }
}

/// MosaicBERT has no fixture: its bias falls with the distance both ways at the slopes of ALiBi, and it knows no positions beside.
#[test]
fn mosaicbert_by_its_structure() {
    let config = Config::new(json!({
        "model_type": "bert", "alibi_starting_size": 16, "vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 3, "intermediate_size": 20, "max_position_embeddings": 8,
    }));
    let model = zoo::new(&config.unwrap(), DType::F32, &Device::cpu()).unwrap();
    model.module().train(false);
    let names: Vec<String> = model.module().named_parameters().into_iter().map(|(name, _)| name).collect();
    for part in ["attention.self.Wqkv.bias", "mlp.gated_layers.weight", "mlp.wo.bias", "mlp.layernorm.weight"] {
        assert!(names.contains(&format!("bert.encoder.layer.1.{part}")), "{part} is not in {names:?}");
    }
    assert!(
        names.iter().all(|name| !name.contains("position") && name != "bert.encoder.layer.0.mlp.gated_layers.bias")
    );
    let model = model.text().unwrap();
    let text = ids(1, 12, 40, 8);
    // Longer than any table, and read backwards the same, since distances count both ways.
    let states = model.encode(&TextInput::new(&text)).unwrap();
    let back = model.encode(&TextInput::new(&text.flip(&[1]).unwrap().contiguous().unwrap())).unwrap();
    close(&back.flip(&[1]).unwrap().to_f64_vec().unwrap(), &states.to_f64_vec().unwrap(), 2e-5, "backwards");
}
