//! Pre-LN folders converted to RMS norms stay the same function, also after they were saved and read again.

use wgrad::nn::Init;
use wgrad::{DType, Device, no_grad};
use wgrad_models::front::embeddings::TextInput;
use wgrad_models::surgery::Without;
use wgrad_models::zoo::{self, Model, pre_ln};

use crate::fixture::own_folder;
use crate::zoo::ids;

fn load(name: &str) -> Model {
    zoo::load(&own_folder().join("models").join(name), DType::F32, &Device::cpu()).unwrap()
}

fn logits(model: &Model) -> Vec<f64> {
    let text = model.text().unwrap();
    let ids = ids(2, 9, text.about().vocab, 3);
    no_grad(|| text.logits(&text.encode(&TextInput::new(&ids)).unwrap()).unwrap().to_f64_vec().unwrap())
}

#[test]
fn converted_folders_are_the_same_function() {
    for name in ["gpt2", "gpt_neox", "opt"] {
        for way in [Without::Mean, Without::LastElement] {
            let old = load(name);
            // As if trained: gains of one and biases of zero would hide where they go.
            let drawing = Device::cpu().with_seed(4);
            for (of, param) in old.module().named_parameters() {
                if let [width] = *param.shape() {
                    let mean = if of.contains("norm.weight") || of.contains("ln_") && of.ends_with("weight") {
                        1.0
                    } else {
                        0.0
                    };
                    param
                        .set(
                            &Init::Normal { mean, std: 0.3 }
                                .tensor(&[width], DType::F32, &drawing)
                                .unwrap()
                                .to_device(&Device::cpu())
                                .unwrap(),
                        )
                        .unwrap();
                }
            }
            let want = logits(&old);
            let size = want.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
            let new = pre_ln::convert(&old, way).unwrap_or_else(|e| panic!("{name}: {e}"));
            let folder = tempfile::tempdir().unwrap();
            new.save(folder.path()).unwrap();
            let read = zoo::load(folder.path(), DType::F32, &Device::cpu()).unwrap();
            for model in [&new, &read] {
                let got = logits(model);
                let apart = want.iter().zip(&got).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
                assert!(got.len() == want.len() && apart <= 1e-5 * size, "{name}, {way:?}: {apart} of {size}");
            }
            let norms = read
                .module()
                .named_parameters()
                .into_iter()
                .filter(|(name, _)| name.contains("norm") || name.contains("ln_"));
            assert_eq!(norms.count(), 0, "{name}");
            let refused = pre_ln::convert(&read, way).err().unwrap().to_string();
            assert!(refused.contains("layer norm"), "{refused}");
        }
    }
}

#[test]
fn other_models_are_refused() {
    for name in ["bert", "llama", "t5", "falcon", "vit"] {
        let error = pre_ln::convert(&load(name), Without::Mean)
            .err()
            .unwrap_or_else(|| panic!("{name} was converted"))
            .to_string();
        assert!(error.contains("layer norm"), "{name}: {error}");
    }
}
