//! The commands on pictures, with the models of the fixtures.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use wgrad::nn::Build;
use wgrad::{DType, Device, Tensor};
use wgrad_models::front::picture::Picture;
use wgrad_models::zoo::{self, Config, Vit};

use super::{fail, path, succeed};

/// A model of the fixtures with settings for pictures beside it.
fn model(folder: &TempDir, name: &str, settings: &Value) -> String {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models").join(name);
    let to = folder.path().join(name);
    fs::create_dir_all(&to).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
    fs::write(to.join("preprocessor_config.json"), settings.to_string()).unwrap();
    to.to_str().unwrap().to_string()
}

fn picture(folder: &TempDir, name: &str, [width, height]: [usize; 2]) -> (String, Picture) {
    let bytes = (0..width * height * 3).map(|n| (n * n * 7 % 251) as u8).collect();
    let picture = Picture::new(width, height, bytes).unwrap();
    let path = path(folder, name);
    picture.write(Path::new(&path)).unwrap();
    (path, picture)
}

fn labels(text: &str) -> Vec<(String, f64)> {
    let all: Value = serde_json::from_str(text).unwrap();
    let one = |one: &Value| (one["label"].as_str().unwrap().to_string(), one["probability"].as_f64().unwrap());
    all[0]["labels"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn pictures_are_classified() {
    let folder = tempfile::tempdir().unwrap();
    let vit = model(&folder, "vit", &json!({ "size": { "height": 16, "width": 16 } }));
    let (small, pixels) = picture(&folder, "small.png", [16, 16]);
    let (large, _) = picture(&folder, "large.png", [50, 31]);
    let got = labels(&succeed(&["classify-image", &vit, &small, "--json", "--top", "9"]));
    // The same by hand: bytes from -1 to 1, a plane for each colour.
    let device = Device::cpu();
    let planes = (0..3 * 256).map(|n| f32::from(pixels.bytes()[n % 256 * 3 + n / 256]) / 127.5 - 1.0).collect();
    let images = Tensor::from_vec(planes, &[1, 3, 16, 16], &device).unwrap();
    let loaded = Vit::load(&Config::read(Path::new(&vit)).unwrap(), Path::new(&vit), &Build::new(&device)).unwrap();
    let want = loaded.logits(&images, None).unwrap().softmax(1).unwrap().to_f64_vec().unwrap();
    assert_eq!(got.len(), want.len());
    for (label, probability) in &got {
        let class: usize = label.trim_start_matches("LABEL_").parse().unwrap();
        assert!((probability - want[class]).abs() < 1e-5, "{label}: {probability} and {}", want[class]);
    }
    assert!(got.windows(2).all(|pair| pair[0].1 >= pair[1].1), "{got:?}");
    let shown = succeed(&["classify-image", &vit, &small, &large, "--top", "2"]);
    assert_eq!(shown.lines().filter(|line| line.contains("LABEL_")).count(), 4, "{shown}");

    let settings =
        json!({ "image_processor_type": "CLIPImageProcessor", "size": { "shortest_edge": 16 }, "crop_size": 16 });
    let clip = model(&folder, "clip", &settings);
    let got = labels(&succeed(&["classify-image", &clip, &large, "--json", "--labels", "5 6 7 99", "8 9 99"]));
    assert!(got.len() == 2 && (got[0].1 + got[1].1 - 1.0).abs() < 1e-5 && got[0].1 >= got[1].1, "{got:?}");
    let other = labels(&succeed(&["classify-image", &clip, &large, "--json", "--labels", "8 9 99", "5 6 7 99"]));
    assert_eq!(got, other);
}

#[test]
fn pictures_are_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let mae = model(&folder, "vit_mae", &json!({ "size": { "height": 16, "width": 16 } }));
    let (file, _) = picture(&folder, "in.png", [20, 40]);
    let made = |seed: &str| {
        let out = path(&folder, "out.png");
        let printed = succeed(&["reconstruct", &mae, &file, "-o", &out, "--seed", seed]);
        assert!(printed.contains("mean squared error"), "{printed}");
        Picture::read(Path::new(&out)).unwrap()
    };
    let all = made("0");
    assert_eq!((all.width(), all.height()), (3 * 16 + 8, 16));
    let at = |part: usize, x: usize, y: usize| &all.bytes()[(y * all.width() + part * 20 + x) * 3..][..3];
    let mut seen = 0;
    for (x, y) in (0..256).map(|n| (n % 16, n / 16)) {
        if at(1, x, y) != [128; 3] {
            seen += 1;
            assert!(at(0, x, y) == at(1, x, y) && at(0, x, y) == at(2, x, y), "pixel {x} {y} was seen");
        }
    }
    assert_eq!(seen, 4 * 16, "a quarter of 16 patches of 16 pixels");
    assert!(made("0") == all && made("1") != all);
}

#[test]
fn bad_pictures_and_models_are_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let settings = json!({ "size": { "height": 16, "width": 16 } });
    let vit = model(&folder, "vit", &settings);
    let (file, _) = picture(&folder, "in.png", [16, 16]);
    let broken = path(&folder, "broken.png");
    fs::write(&broken, &fs::read(&file).unwrap()[..90]).unwrap();
    fail(&["classify-image", &vit, &broken], &["broken.png"]);
    fs::write(&broken, "text").unwrap();
    fail(&["classify-image", &vit, &file, &broken], &["broken.png", "PNG"]);
    fail(&["classify-image", &vit, &path(&folder, "absent.png")], &["absent.png"]);
    fail(&["classify-image", &vit, &file, "--labels", "a cat"], &["labels"]);
    fail(&["classify-image", &model(&folder, "clip", &settings), &file], &["labels"]);
    fail(&["classify-image", &model(&folder, "bert", &settings), &file], &["classifies no images"]);
    fail(&["reconstruct", &vit, &file, "-o", &path(&folder, "out.png")], &["vit_mae"]);
    for (settings, word) in [
        (json!({ "size": 32 }), "[1, 3, 32, 32]"),
        (json!({ "size": 1 << 20 }), "1048576"),
        (json!({ "size": 16, "resample": 9 }), "resample"),
        (json!([]), "preprocessor_config.json"),
    ] {
        fail(&["classify-image", &model(&folder, "vit", &settings), &file], &[word]);
    }
    fs::remove_file(Path::new(&vit).join("preprocessor_config.json")).unwrap();
    fail(&["classify-image", &vit, &file], &["preprocessor_config.json"]);
    let mae = model(&folder, "vit_mae", &settings);
    fail(&["reconstruct", &mae, &file, "-o", &path(&folder, "absent/out.png")], &["absent"]);
    let mut grey = Config::read(Path::new(&mae)).unwrap().json();
    grey["num_channels"] = json!(1);
    let device = Device::cpu();
    zoo::new(&Config::new(grey).unwrap(), DType::F32, &device).unwrap().save(Path::new(&mae)).unwrap();
    fail(&["reconstruct", &mae, &file, "-o", &path(&folder, "out.png")], &["num_channels"]);
}
