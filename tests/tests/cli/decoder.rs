//! `wgrad train --decoder`, and what is done with what it leaves: writing, scoring, tuning further, making sparse.

use super::*;

fn decoder<'a>(text: &'a str, out: &'a str, steps: &'a str) -> Vec<&'a str> {
    let sizes = ["--vocab", "300", "--batch", "8", "--length", "32", "--hidden", "32", "--layers", "1", "--heads", "2"];
    [&["train", "--decoder", "--text", text, "--out", out, "--steps", steps, "--lr", "1e-2"], &sizes[..]].concat()
}

#[test]
fn decoders_are_trained_and_used() {
    let folder = folder_with_text();
    let (text, out) = (path(&folder, "text.txt"), path(&folder, "run"));
    let printed = succeed(&decoder(&text, &out, "400"));
    assert!(printed.contains("perplexity of held-out text") && printed.contains("goes on:"), "{printed}");
    let run = Path::new(&out);
    let summary = json(&run.join("summary.json"));
    let number = |name: &str| summary[name].as_f64().unwrap_or_else(|| panic!("{name} in {summary}"));
    assert!((number("perplexity").ln() - number("held_out_loss")).abs() < 1e-9, "{summary}");
    assert!(number("loss_last") < 0.3 * number("loss_first"), "{summary}");
    assert!(number("next_token_accuracy") > number("unigram_accuracy") + 0.4, "{summary}");
    assert!(summary.get("masked_accuracy").is_none(), "{summary}");
    assert_eq!(json(&run.join("config.json"))["architectures"][0], "LlamaForCausalLM");

    // Sentences go on as they do in the text, capitals and blanks included.
    let written = succeed(&["generate", &out, "On monday the horse eats", "--most", "24"]);
    assert!(written.starts_with(" hay and sleeps in the house."), "{written}");
    // As the trainer reads it: a blank for each line break.
    let line = path(&folder, "line.txt");
    let some: String = fs::read_to_string(&text).unwrap().replace('\n', " ").chars().take(4000).collect();
    fs::write(&line, some).unwrap();
    let score: Value =
        serde_json::from_str(&succeed(&["score", &out, &line, "--length", "32", "--stride", "16", "--json"])).unwrap();
    assert!(score["perplexity"].as_f64().unwrap() < 1.5 * number("perplexity"), "{score} {summary}");
    fail(&["fill-mask", "--model", &out, "a [MASK]"], &["fills no masks"]);

    let sparse = path(&folder, "sparse");
    let arguments = ["sparsify", &out, "--method", "sparsegpt", "--text", &text, "-o", &sparse, "--length", "32"];
    let found: Value = serde_json::from_str(&succeed(&[&arguments[..], &["--json"]].concat())).unwrap();
    let [before, after] = ["perplexity_before", "perplexity_after"].map(|name| found[name].as_f64().unwrap());
    // The same held-out segments as in training, in other rows.
    assert!((before.ln() - number("held_out_loss")).abs() < 0.5, "{found} {summary}");
    assert!(after >= 0.99 * before && after < 3.0 * before, "{found}");
    assert!(succeed(&["inspect", &sparse]).contains("2:4 in"), "nothing is packed");
    assert!(!succeed(&["generate", &sparse, "On monday the", "--most", "4"]).trim().is_empty());

    let tuned = path(&folder, "tuned");
    let more = ["finetune", &out, "--text", &text, "--out", &tuned, "--steps", "5", "--length", "32"];
    assert!(succeed(&more).contains("held-out loss"));
}

/// A decoder's run that was interrupted and one that was not end with the same bits.
#[test]
fn resumed_decoders_continue_bit_for_bit() {
    let folder = folder_with_text();
    let (text, whole, parts) = (path(&folder, "text.txt"), path(&folder, "whole"), path(&folder, "parts"));
    let save = ["--save-every", "5"];
    succeed(&[decoder(&text, &whole, "20"), save.to_vec()].concat());
    interrupt(&[decoder(&text, &parts, "20"), save.to_vec()].concat(), &parts);
    succeed(&["train", "--resume", &parts]);
    let model = |run: &str| fs::read(Path::new(run).join("model.safetensors")).unwrap();
    assert!(model(&whole) == model(&parts), "the weights differ");
    fail(&["train", "--resume", &parts, "--decoder"], &["--decoder"]);
}

#[test]
fn too_small_vocabularies_are_refused() {
    let folder = folder_with_text();
    let (text, out) = (path(&folder, "text.txt"), path(&folder, "run"));
    fail(&["train", "--decoder", "--text", &text, "--out", &out, "--vocab", "100"], &["100", "261"]);
}
