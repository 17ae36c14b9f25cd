//! Texts of unequal lengths that a model reads at once, against each alone: in every architecture of text.

use wgrad::{DType, Device, Tensor, no_grad};
use wgrad_models::embed::states;
use wgrad_models::generate::prefill;
use wgrad_models::zoo::{self, Task, TextModel};
use wgrad_tests::assert_close;

use super::fixture;

pub fn run(device: &Device) {
    let (mut packing, mut all) = (0, 0);
    for entry in std::fs::read_dir(fixture::own_folder().join("models")).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let model = zoo::load(&folder, DType::F32, device).unwrap();
        let Ok(text) = model.text() else { continue };
        no_grad(|| same_as_alone(&name, text, device));
        packing += usize::from(text.about().packs.is_some());
        all += 1;
    }
    assert!(packing >= 14 && all >= 18, "{packing} models of {all} read packed texts");
}

fn same_as_alone(name: &str, model: &dyn TextModel, device: &Device) {
    let vocab = model.about().vocab as u32;
    let texts: Vec<Vec<u32>> =
        [3, 1, 9, 4, 6, 2, 9].iter().map(|&n| (0..n).map(|at| (7 * at + 3 * n + 5) % vocab).collect()).collect();
    let values = |x: &Tensor| x.cast(DType::F32).unwrap().to_f64_vec().unwrap();
    let close = |what: &str, got: &Tensor, want: &Tensor| {
        assert_eq!(got.shape(), want.shape(), "{name}");
        assert_close(&format!("{name} on {device}, {what}"), &values(got), &values(want), 2e-5, 2e-4);
    };
    // A task of two texts has no states of one.
    if model.about().task != Task::Seq2Seq {
        let together = states(model, &texts, device).unwrap();
        for (text, got) in texts.iter().zip(&together) {
            close("states", got, &states(model, std::slice::from_ref(text), device).unwrap()[0]);
        }
    }
    if model.about().task == Task::CausalLm {
        let together = prefill(model, &texts, device).unwrap();
        for (text, (mut cache, got)) in texts.iter().zip(together) {
            let (mut own, want) = prefill(model, std::slice::from_ref(text), device).unwrap().remove(0);
            close("logits", &got, &want);
            // And on from there.
            let next = Tensor::from_slice(&[11u32 % vocab], &[1, 1], device).unwrap();
            let input = wgrad_models::front::embeddings::TextInput::new(&next);
            let got = model.run(&input, Some(&mut cache), None).unwrap();
            close("the next states", &got, &model.run(&input, Some(&mut own), None).unwrap());
        }
    }
}
