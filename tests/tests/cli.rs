//! The `wgrad` command from end to end: a small training run, interruptions, and every kind of bad input.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use wgrad_tests::Random;

#[path = "cli/decoder.rs"]
mod decoder;
#[path = "cli/images.rs"]
mod images;
#[path = "cli/lora.rs"]
mod lora;
#[path = "cli/sparsify.rs"]
mod sparsify;
#[path = "cli/unstructured.rs"]
mod unstructured;

/// The command, on the CPU device.
fn wgrad(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wgrad-under-test"));
    command.args(args).env("WGRAD_DEVICE", "cpu").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    wgrad(args).output().unwrap()
}

fn succeed(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Asserts that the command fails with an exit code and one sentence that contains all of `words`.
fn fail(args: &[&str], words: &[&str]) {
    let output = run(args);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{args:?} ended with {}: {text}", output.status);
    assert!(!text.contains("panicked"), "{args:?}: {text}");
    assert_eq!(errors.len(), 1, "{args:?}: one error line expected: {text}");
    for word in words {
        assert!(errors[0].contains(word), "{args:?}: {word:?} is missing in {:?}", errors[0]);
    }
}

/// A folder with a text that has something to learn: each sentence follows one of a few patterns.
fn folder_with_text() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new(3);
    let animals = [("cat", "milk"), ("dog", "bones"), ("bird", "seeds"), ("horse", "hay")];
    let days = ["monday", "tuesday", "friday", "sunday"];
    let sentence = |random: &mut Random| {
        let (animal, food) = animals[random.below(4)];
        format!("On {} the {animal} eats {food} and sleeps in the house.\n", days[random.below(4)])
    };
    let text: String = (0..1500).map(|_| sentence(&mut random)).collect();
    fs::write(folder.path().join("text.txt"), text).unwrap();
    folder
}

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_string()
}

fn small<'a>(text: &'a str, out: &'a str, steps: &'a str) -> Vec<&'a str> {
    let sizes = ["--vocab", "120", "--batch", "8", "--length", "24", "--hidden", "32", "--layers", "1", "--heads", "2"];
    [&["train", "--text", text, "--out", out, "--steps", steps, "--lr", "5e-3"], &sizes[..]].concat()
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn trains_fills_masks_and_refuses_damaged_models() {
    let folder = folder_with_text();
    let (text, out) = (path(&folder, "text.txt"), path(&folder, "run"));
    let trace = path(&folder, "trace.json");
    let printed = succeed(&[small(&text, &out, "800"), vec!["--profile", &trace]].concat());
    assert!(printed.contains("one step on cpu") && printed.contains("GFLOP/s"), "{printed}");
    let events = json(Path::new(&trace))["traceEvents"].as_array().map_or(0, Vec::len);
    assert!(events > 50, "{events} events of a step");
    let run = Path::new(&out);
    let summary = json(&run.join("summary.json"));
    let number = |name: &str| summary[name].as_f64().unwrap_or_else(|| panic!("{name} in {summary}"));
    assert_eq!(number("steps"), 800.0);
    assert_eq!(summary["device"], "cpu");
    assert!(number("loss_last") < 0.7 * number("loss_first"), "{summary}");
    assert!(number("masked_accuracy") > number("unigram_accuracy") + 0.5, "{summary}");
    for name in ["tokens_per_s", "seconds", "peak_memory_bytes"] {
        assert!(number(name) > 0.0, "{name} in {summary}");
    }
    assert!(fs::read_to_string(run.join("loss.svg")).unwrap().contains("<svg"));
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        assert!(run.join(file).is_file(), "{file}");
    }

    let sentence = "On monday the cat eats [MASK] and sleeps in the house.";
    let filled: Value = serde_json::from_str(&succeed(&["fill-mask", "--model", &out, "--json", sentence])).unwrap();
    let best = &filled[0]["masks"][0][0];
    assert!(["milk", "bones", "seeds", "hay"].contains(&best["token"].as_str().unwrap()), "{filled}");
    assert!(best["probability"].as_f64().unwrap() > 0.0, "{filled}");

    fail(&["fill-mask", "--model", &out, "nothing to fill"], &["[MASK]"]);
    fail(&small(&text, &out, "800"), &["--resume"]);
    let model = run.join("model.safetensors");
    let whole = fs::read(&model).unwrap();
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&model, &whole[..length]).unwrap();
        fail(&["fill-mask", "--model", &out, sentence], &["model.safetensors"]);
    }
    fs::write(&model, &whole).unwrap();
    let config = json(&run.join("config.json"));
    let mut broken = config.clone();
    broken.as_object_mut().unwrap().remove("hidden_size");
    fs::write(run.join("config.json"), broken.to_string()).unwrap();
    fail(&["fill-mask", "--model", &out, sentence], &["hidden_size"]);
    fs::write(run.join("config.json"), config.to_string()).unwrap();
    succeed(&["fill-mask", "--model", &out, sentence]);
}

/// The commands that use models, on those of the fixtures, which have no tokenizer: texts are token ids.
#[test]
fn models_of_folders_write_score_and_embed() {
    let model = |name: &str| format!("{}/fixtures/models/{name}", env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let file = path(&folder, "ids.txt");
    fs::write(&file, "7 8 9 10 11 12\n9 9 9 20 21\n7 8 9 10 11 12\n").unwrap();

    let written = |arguments: &[&str]| {
        let text = succeed(&[&["generate", &model("llama"), "7 20 31", "--most", "6"], arguments].concat());
        text.split_whitespace().map(|id| id.parse::<u32>().unwrap()).collect::<Vec<_>>()
    };
    let greedy = written(&[]);
    assert_eq!(greedy.len(), 6);
    assert_eq!(written(&["--top-k", "1"]), greedy);
    assert_eq!(written(&["--temperature", "2", "--seed", "1"]), written(&["--temperature", "2", "--seed", "1"]));
    assert_eq!(written(&["--beams", "3"]).len(), 6);
    let several = succeed(&["generate", &model("llama"), "7 20", "7 20 31", "5 6 7 8", "--most", "6"]);
    let lines: Vec<&str> = several.lines().collect();
    assert_eq!(lines.len(), 3, "{several}");
    assert_eq!(lines[1].split_whitespace().map(|id| id.parse::<u32>().unwrap()).collect::<Vec<_>>(), greedy);
    let answer = succeed(&["generate", &model("t5"), "7 20 31", "--most", "4"]);
    assert!(answer.split_whitespace().count() <= 4, "{answer}");
    fail(&["generate", &model("bert"), "7 20"], &["does not write"]);
    fail(&["generate", &model("gpt2"), "a word"], &["a", "tokenizer.json"]);
    fail(&["generate", &model("gpt2"), "7", "--temperature", "0"], &["temperature"]);
    fail(&["generate", &model("nothing"), "7"], &["nothing"]);

    let shown = succeed(&["inspect", &model("gpt2")]);
    for part in ["GPT2LMHeadModel: 30,336 parameters", "of F32, 121,344 bytes", "0..1", "c_attn", "[32, 96]"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }

    let rms = path(&folder, "rms");
    let printed = succeed(&["convert", &model("gpt2"), "--norms", "rms", "-o", &rms]);
    assert!(printed.contains("30,336 before") || printed.contains("30336 before"), "{printed}");
    assert_eq!(
        succeed(&["generate", &rms, "7 20 31", "--most", "5"]),
        succeed(&["generate", &model("gpt2"), "7 20 31", "--most", "5"])
    );
    fail(&["convert", &model("gpt2"), "--norms", "rms", "-o", &rms], &["already holds"]);
    fail(&["convert", &model("bert"), "--norms", "crms", "-o", &path(&folder, "crms")], &["layer norm"]);

    let score: Value =
        serde_json::from_str(&succeed(&["score", &model("gpt2"), &file, "--length", "8", "--json"])).unwrap();
    assert_eq!(score["tokens"], 16);
    let perplexity = score["perplexity"].as_f64().unwrap();
    assert!((perplexity.ln() - score["nats"].as_f64().unwrap() / 16.0).abs() < 1e-9 && perplexity > 1.0, "{score}");
    fail(&["score", &model("gpt2"), &file, "--length", "8", "--stride", "8"], &["stride"]);
    fail(&["score", &model("bert"), &file], &["[MASK]"]);
    fail(&["score", &model("vit"), &file], &["text"]);

    let lines = succeed(&["embed", &model("mpnet"), &file, "--unit"]);
    let vectors: Vec<Vec<f64>> = lines
        .lines()
        .map(|line| serde_json::from_value(serde_json::from_str::<Value>(line).unwrap()["vector"].clone()).unwrap())
        .collect();
    assert_eq!((vectors.len(), vectors[0].len()), (3, 32));
    assert!(vectors.iter().all(|v| (v.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-5));
    let npy = path(&folder, "vectors.npy");
    succeed(&["embed", &model("bert"), &file, "--pool", "cls", "--out", &npy]);
    assert_eq!(fs::metadata(&npy).unwrap().len() % 64, 3 * 32 * 4 % 64);
    let text = path(&folder, "text.txt");
    fs::write(&text, "7 8 9 10 11 12 ".repeat(200)).unwrap();
    let out = path(&folder, "trained");
    let train = |name: &str, out: &str| {
        let sizes = ["--steps", "40", "--length", "16", "--lr", "1e-2"];
        succeed(&[&["finetune", &model(name), "--text", &text, "--out", out], &sizes[..]].concat())
    };
    let printed = train("gpt2", &out);
    let losses: Vec<f64> =
        printed.split_whitespace().filter_map(|word| word.trim_end_matches(';').parse().ok()).collect();
    assert!(losses.len() == 2 && losses[1] < 0.5 * losses[0], "{printed}");
    let going_on = succeed(&["generate", &out, "7 8 9 10", "--most", "4"]);
    assert_eq!(going_on.trim(), "11 12 7 8");
    fail(&["finetune", &model("gpt2"), "--text", &text, "--out", &out], &["already holds"]);
    fail(&["finetune", &model("bert"), "--text", &text, "--out", &path(&folder, "b")], &["[MASK]"]);
    let detector = model("electra_discriminator");
    fail(&["finetune", &detector, "--text", &text, "--out", &path(&folder, "d")], &["predicts no text"]);
    // Of a model that writes one text for another, the second half of each row from the first.
    let printed = train("t5", &path(&folder, "t"));
    let losses: Vec<f64> =
        printed.split_whitespace().filter_map(|word| word.trim_end_matches(';').parse().ok()).collect();
    assert!(losses.len() == 2 && losses[1] < 0.8 * losses[0], "{printed}");
    let near = succeed(&["embed", &model("bert"), &file, "--nearest", "1"]);
    assert_eq!(near.lines().nth(1).unwrap(), "  1.0000  7 8 9 10 11 12");
}

/// Ten kills at random moments. Each time the run goes on from a whole checkpoint, and never from an older one than before.
#[test]
#[cfg(unix)]
fn survives_ten_kills() {
    let folder = folder_with_text();
    let (text, out) = (path(&folder, "text.txt"), path(&folder, "run"));
    let first = [small(&text, &out, "1000000"), vec!["--save-every", "2"]].concat();
    let again = ["train", "--resume", &out];
    let mut random = Random::new(u64::from(std::process::id()));
    let mut last = 0;
    for kill in 0..10 {
        // Until the settings are written there is no run to go on with.
        let resumable = Path::new(&out).join("run.json").exists();
        let args = if resumable { &again[..] } else { &first[..] };
        let child = wgrad(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        sleep(Duration::from_millis(random.below(1500) as u64));
        let log = kill_it(child);
        assert!(!log.contains("error: "), "after {kill} kills: {log}");
        if let Some(step) = log.lines().find_map(|line| line.strip_prefix("going on from step ")) {
            let step: u64 = step.trim().parse().unwrap();
            assert!(step >= last, "went on from step {step}, after a run that went on from {last}");
            last = step;
        }
    }
    // Long enough to be sure that there is a checkpoint.
    let args = if Path::new(&out).join("run.json").exists() { &again[..] } else { &first[..] };
    let child = wgrad(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    sleep(Duration::from_secs(4));
    kill_it(child);
    succeed(&["train", "--resume", &out, "--steps", "1"]);
    let summary = json(&Path::new(&out).join("summary.json"));
    assert!(summary["steps"].as_u64().unwrap() >= last.max(2), "{summary}, last {last}");
}

/// SIGKILL, and what the process had logged.
fn kill_it(mut child: Child) -> String {
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A run that was interrupted and one that was not end with the same bits.
#[test]
fn resumed_runs_continue_bit_for_bit() {
    let folder = folder_with_text();
    let text = path(&folder, "text.txt");
    for precision in ["f32", "f16", "bf16"] {
        resumes(&folder, &text, precision);
    }
}

fn resumes(folder: &TempDir, text: &str, precision: &str) {
    let path = |name: &str| path(folder, &format!("{name}-{precision}"));
    let (whole, parts) = (path("whole"), path("parts"));
    let save = ["--save-every", "5", "--precision", precision];
    succeed(&[small(text, &whole, "20"), save.to_vec()].concat());
    interrupt(&[small(text, &parts, "20"), save.to_vec()].concat(), &parts);
    succeed(&["train", "--resume", &parts]);
    let model = |run: &str| fs::read(Path::new(run).join("model.safetensors")).unwrap();
    assert!(model(&whole) == model(&parts), "the weights of {precision} differ");
}

/// Begins a training in the folder `out`, and kills it as soon as there is a checkpoint; if it is quicker than that, resuming has nothing left
/// to do.
fn interrupt(args: &[&str], out: &str) {
    let mut child = wgrad(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() && !has_checkpoint(Path::new(out)) {
        sleep(Duration::from_millis(1));
    }
    let _ = child.kill();
    child.wait().unwrap();
}

/// A comparison that was killed and resumed ends with the same figures and the same picture as one that was not.
#[test]
fn resumed_comparisons_are_the_same() {
    let folder = folder_with_text();
    let text = path(&folder, "text.txt");
    let compare = |out: &str| -> Vec<String> {
        let line = format!(
            "systems compare norms --placements pre,sphere --layers 4 --hidden 8 --heads 2 --length 16 --batch 2 --steps 120 \
             --text {text} --out {out}"
        );
        line.split(' ').map(str::to_string).collect()
    };
    let (whole, parts) = (path(&folder, "whole"), path(&folder, "parts"));
    let lines = [compare(&whole), compare(&parts)];
    let [of_whole, of_parts] = lines.each_ref().map(|line| line.iter().map(String::as_str).collect::<Vec<_>>());
    let table = succeed(&of_whole);
    assert!(table.contains("\npre ") && table.contains("\nsphere "), "{table}");
    let mut child = wgrad(&of_parts).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun =
        |name: &str| fs::read_dir(Path::new(&parts).join(name)).is_ok_and(|mut entries| entries.next().is_some());
    // Killed in the middle of the second placement, if it can be caught there.
    while child.try_wait().unwrap().is_none() && !begun("sphere.checkpoints") {
        sleep(Duration::from_millis(1));
    }
    let _ = child.kill();
    child.wait().unwrap();
    succeed(&["systems", "compare", "norms", "--resume", &parts]);
    for file in ["pre.json", "sphere.json", "norms.json", "norms.svg"] {
        let read = |run: &str| fs::read(Path::new(run).join(file)).unwrap();
        assert!(read(&whole) == read(&parts), "{file} differs");
    }
    let course = json(&Path::new(&whole).join("sphere.json"));
    assert_eq!(course["losses"].as_array().unwrap().len(), 120);
    let unit = |square: &Value| (8.0 * square.as_f64().unwrap() - 1.0).abs() < 1e-4;
    assert!(course["probes"][5]["squares"].as_array().unwrap().iter().all(unit), "states left the sphere: {course}");
    let figures = json(&Path::new(&whole).join("norms.json"));
    for (at, placement) in ["pre", "sphere"].into_iter().enumerate() {
        assert_eq!(figures[at]["placement"], placement);
        let growth = ["before_training", "after_training"].map(|when| figures[at]["growth"][when].as_f64().unwrap());
        // Vectors of length one do not grow.
        assert!(growth.iter().all(|growth| growth.is_finite() && (at == 0 || growth.abs() < 1e-4)), "{figures}");
    }
    fail(&of_whole, &["already holds a run"]);
    fail(&["systems", "compare", "norms", "--resume", &path(&folder, "absent")], &["absent"]);
    fail(&["systems", "compare", "norms", "--placements", "before", "--out", &path(&folder, "x")], &["before"]);
    fail(&["systems", "compare", "norms", "--hidden", "9", "--out", &path(&folder, "x")], &["--hidden", "9"]);
}

/// Half precision ends within a few percent of the loss of f32.
#[test]
fn halves_learn_as_well() {
    let folder = folder_with_text();
    let text = path(&folder, "text.txt");
    let losses = ["f32", "f16", "bf16"].map(|precision| {
        let out = path(&folder, precision);
        succeed(&[small(&text, &out, "200"), vec!["--precision", precision]].concat());
        let summary = json(&Path::new(&out).join("summary.json"));
        assert!(summary["loss_last"].as_f64() < summary["loss_first"].as_f64().map(|first| 0.8 * first), "{summary}");
        summary["held_out_loss"].as_f64().unwrap()
    });
    let [single, halves @ ..] = losses;
    assert!(halves.iter().all(|loss| (loss / single - 1.0).abs() < 0.05), "{losses:?}");
}

fn has_checkpoint(run: &Path) -> bool {
    fs::read_dir(run.join("checkpoints")).is_ok_and(|mut entries| entries.next().is_some())
}

#[test]
fn bad_input_is_one_sentence() {
    let folder = folder_with_text();
    let (text, out) = (path(&folder, "text.txt"), path(&folder, "run"));
    let absent = path(&folder, "absent");
    fail(&small(&absent, &out, "1"), &["absent"]);
    fail(&["train", "--resume", &absent], &["absent"]);
    fail(&[small(&text, &out, "1"), vec!["--profile", &path(&folder, "absent/trace.json")]].concat(), &["absent"]);
    fs::remove_dir_all(&out).unwrap();
    fail(&["fill-mask", "--model", &absent, "a [MASK]"], &["absent"]);
    fail(&[small(&text, &out, "1"), vec!["--device", "gpu:99"]].concat(), &["99"]);
    fail(&[small(&text, &out, "1"), vec!["--device", "abacus"]].concat(), &["abacus"]);
    fail(&["train", "--steps", "none"], &["none"]);
    fail(&["train", "--hidden", "33", "--heads", "2", "--out", &out], &["33"]);
    fail(&["systems", "run", "no-such-system"], &["no-such-system"]);
    let empty = path(&folder, "empty.txt");
    fs::write(&empty, "").unwrap();
    fail(&small(&empty, &out, "1"), &["text"]);
    let file = path(&folder, "text.txt/run");
    fail(&small(&text, &file, "1"), &["text.txt"]);
}

#[test]
fn verdicts_are_kept_and_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let out = path(&folder, "verdicts.md");
    let run = |names: &[&str], more: &[&str]| {
        let run = [&["systems", "run"], names, &["--device", "cpu", "--out", &out], more].concat();
        succeed(&run)
    };
    let pictures = path(&folder, "pictures");
    run(&["nf-resnet"], &["--pictures", &pictures]);
    assert!(fs::read_to_string(folder.path().join("pictures/nf-resnet.svg")).unwrap().contains("NF-ResNet"));
    let verdicts = || -> Value {
        serde_json::from_str(&fs::read_to_string(folder.path().join("verdicts.json")).unwrap()).unwrap()
    };
    let first = verdicts()["systems"][0].clone();
    // What is there already is not run again: its time stays as it was.
    let shown = run(&["nf-resnet", "pre-crmsnorm"], &["--resume"]);
    assert!(!shown.starts_with("nf-resnet: ") && shown.contains("2 of 2 passed"), "{shown}");
    assert_eq!((&verdicts()["systems"][0], &verdicts()["systems"][1]["name"]), (&first, &Value::from("pre-crmsnorm")));
    assert!(fs::read_to_string(&out).unwrap().contains("| pre-crmsnorm | passed |"));
    fail(&["systems", "run", "nf-resnet", "--device", "cpu", "--seed", "1", "--out", &out, "--resume"], &["seed 0"]);
    fail(&["systems", "run", "nf-resnet", "--resume"], &["required"]);
    fail(&["systems", "run", "nf-resnet", "--out", "verdicts.txt"], &[".json", ".md"]);
}

#[test]
fn lists_for_people_and_for_programs() {
    assert!(succeed(&["devices"]).contains("cpu"));
    let devices: Value = serde_json::from_str(&succeed(&["devices", "--json"])).unwrap();
    assert!(devices.is_array());
    let systems: Value = serde_json::from_str(&succeed(&["systems", "list", "--json"])).unwrap();
    let names: Vec<&str> = systems.as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert!(!names.is_empty());
    let table = succeed(&["systems", "list"]);
    assert!(names.iter().all(|name| table.contains(name)), "{table}");
    for command in ["train", "fill-mask", "devices", "systems"] {
        assert!(succeed(&[command, "--help"]).contains("Examples:"), "{command}");
    }
}
