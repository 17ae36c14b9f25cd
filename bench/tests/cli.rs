//! The `wgrad-bench` command from end to end: a tiny run of every workload on both devices, reports, pictures, bad input.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Every workload, tiny and of odd sizes.
const TINY: [&str; 34] = [
    "matmul b=2 m=5 n=9 k=7",
    "matmul m=33 n=17 k=65 dtype=f16",
    "softmax rows=3 d=37",
    "layer_norm rows=3 d=37",
    "layer_norm_bwd rows=5 d=37",
    "rms_norm rows=3 d=37 dtype=bf16",
    "rms_norm_bwd rows=5 d=37",
    "l2_norm rows=3 d=37 dtype=f16",
    "l2_norm_bwd rows=5 d=37",
    "add_rms_norm rows=3 d=37 dtype=bf16",
    "add_rms_norm_bwd rows=5 d=37",
    "cross_entropy rows=7 vocab=19",
    "cross_entropy_bwd rows=7 vocab=19",
    "attention h=2 l=9 dh=8",
    "attention_bwd h=2 l=9 dh=8 causal=1",
    "mlm_step b=2 l=5 d=8 h=2 layers=1 vocab=11",
    "mlm_step b=2 l=5 d=8 h=2 layers=1 vocab=11 norm=rms",
    "mlm_step b=2 l=5 d=8 h=2 layers=1 vocab=11 norm=crms",
    "mlm_forward b=3 l=5 d=12 h=3 layers=2 vocab=11 norm=plain",
    "mlm_forward b=1 l=5 d=8 h=2 layers=2 vocab=11 norm=rms",
    "mlm_forward b=1 l=1 d=2 h=1 layers=2 vocab=11 norm=crms",
    "mlm_forward b=1 l=3 d=1 h=1 layers=1 vocab=11 norm=wide_crms",
    "elementwise n=1001",
    "elementwise n=1001 op=gelu",
    "elementwise_bwd n=3072 op=bias_gelu",
    "embedding vocab=7 d=5 n=9",
    "embedding_bwd vocab=7 d=5 n=9",
    "reduce n=1001",
    "reduce n=1024 over=rows",
    "reduce n=1024 over=columns",
    "adamw n=1001",
    "copy n=1001",
    "fill n=1001",
    "dispatch n=10",
];

const KEYS: [&str; 11] = [
    "engine",
    "workload",
    "params",
    "device",
    "iters",
    "median_ms",
    "min_ms",
    "max_ms",
    "gflops",
    "gbps",
    "limit_fraction",
];

fn bench(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wgrad-bench"));
    command.args(args).env_remove("WGRAD_DEVICE").env_remove("RUST_LOG").stdin(Stdio::null());
    command.output().unwrap()
}

fn succeed(args: &[&str]) -> String {
    let output = bench(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn fail(args: &[&str], words: &[&str]) {
    let output = bench(args);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{args:?} ended with {}: {text}", output.status);
    assert!(!text.contains("panicked") && text.contains("error: "), "{args:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{args:?}: {word:?} is missing in {text:?}");
    }
}

fn run(line: &str, more: &[&str]) -> Value {
    let words: Vec<&str> = line.split(' ').chain(more.iter().copied()).collect();
    let text = succeed(&[&["run"], &words[..]].concat());
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// The CPU, and unless it is left out a software driver.
fn devices() -> Vec<&'static str> {
    let skip = std::env::var("WGRAD_SKIP_GPU").is_ok_and(|value| value == "1");
    if skip {
        eprintln!("WGRAD_SKIP_GPU=1: on the CPU device alone");
    }
    if skip { vec!["cpu"] } else { vec!["cpu", "software"] }
}

#[test]
fn every_workload_runs_and_is_checked_on_every_device() {
    for device in devices() {
        for line in TINY {
            let record = run(line, &[&format!("device={device}"), "iters=2", "warmup=1", "limits=0"]);
            let keys: Vec<&str> = record.as_object().unwrap().keys().map(String::as_str).collect();
            assert!(keys.len() == KEYS.len() && KEYS.iter().all(|key| keys.contains(key)), "{record}");
            let ms = |key: &str| record[key].as_f64().unwrap();
            assert!(
                0.0 < ms("min_ms") && ms("min_ms") <= ms("median_ms") && ms("median_ms") <= ms("max_ms"),
                "{record}"
            );
            assert_eq!((&record["engine"], &record["iters"]), (&"wgrad".into(), &2.into()));
            assert_eq!(record["workload"], line.split(' ').next().unwrap());
            assert_eq!(record["device"] == "cpu", device == "cpu", "{record}");
        }
    }
}

#[test]
fn limits_are_measured() {
    for device in devices() {
        let device = format!("device={device}");
        let copy = run("copy n=300000", &[&device, "iters=3"]);
        let fraction = copy["limit_fraction"].as_f64().unwrap();
        assert!(fraction > 0.0 && copy["gflops"].is_null() && copy["gbps"].as_f64().unwrap() > 0.0, "{copy}");
        let product = run("matmul m=64 n=64 k=64", &[&device, "iters=3"]);
        // Far above 1 only if the limit were measured wrongly; a busy machine moves it.
        assert!((0.0..4.0).contains(&product["limit_fraction"].as_f64().unwrap()), "{product}");
        assert!(run("dispatch n=5", &[&device])["limit_fraction"].is_null());
    }
}

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_string()
}

#[test]
fn reports_compare_and_become_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let [suite, ladder, cost, svg] =
        ["suite.json", "ladder.json", "cost.json", "all.svg"].map(|name| path(&folder, name));
    let device = devices().pop().unwrap();
    succeed(&["suite", "--device", "cpu", "--filter", "matmul m=17", "--out", &suite]);
    let table = succeed(&[
        "ladder",
        "matmul",
        "m=64",
        "n=33",
        "k=65",
        &format!("device={device}"),
        "iters=1",
        "--out",
        &ladder,
    ]);
    assert!(table.contains("chosen") && (device == "cpu" || table.contains("naive")), "{table}");
    let sizes = ["b=1", "l=8", "d=8", "h=2", "layers=1", "vocab=11"];
    let cost_args = [&["cost", "device=cpu", "iters=1", "--doublings", "1", "--out", &cost], &sizes[..]].concat();
    succeed(&cost_args);
    let records = |path: &str| {
        let report: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(report["commit"].is_string() && report["limits"]["gbps"].as_f64().unwrap() > 0.0);
        report["records"].as_array().unwrap().len()
    };
    assert_eq!((records(&suite), records(&cost)), (1, 5));
    // Every device runs at least the seven portable families, and what it chooses.
    assert!(records(&ladder) >= if device == "cpu" { 1 } else { 8 });

    let text = succeed(&["compare", &suite, &suite]);
    assert!(text.contains("1.000"), "{text}");
    fail(&["compare", &suite, &cost], &["in common"]);
    succeed(&["plot", &suite, &ladder, &cost, "--out", &svg]);
    let picture = std::fs::read_to_string(&svg).unwrap();
    assert!(picture.contains("Roofline") && picture.contains("Ladder") && picture.contains("slope"));
    fail(&["plot", &svg, "--out", &path(&folder, "x.svg")], &["all.svg", "not a report"]);
    fail(&["plot", &path(&folder, "absent.json"), "--out", &svg], &["absent.json"]);
}

/// A script in the place of another engine.
#[cfg(unix)]
#[test]
fn versus_runs_ours_and_theirs_in_turn() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str| {
        let file = path(&folder, name);
        std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        file
    };
    let log = path(&folder, "log");
    let slow = script("slow", &format!("echo \"$@\" >> {log}; echo noise; echo '{{\"min_ms\":1e6}}'"));
    let versus = ["versus", "softmax", "rows=3", "d=5", "device=cpu", "iters=2", "--rounds", "2", "--json"];
    let line: Value = serde_json::from_str(&succeed(&[&versus[..], &["--peer", &slow]].concat())).unwrap();
    assert!(line["ratio"].as_f64().unwrap() < 1e-3 && line["theirs_ms"] == 1e6, "{line}");
    assert_eq!(line["ratios"].as_array().unwrap().len(), 2);
    let calls = std::fs::read_to_string(&log).unwrap();
    assert_eq!(calls, "candle softmax rows=3 d=5 iters=2 warmup=3 device=cpu\n".repeat(2));

    let list = path(&folder, "list.txt");
    std::fs::write(&list, "softmax rows=3 d=5 device=cpu against=candle target=0.5\ncopy n=4 device=cpu\n").unwrap();
    let out = path(&folder, "table.md");
    succeed(&["versus", "--list", &list, "--peer", &slow, "--rounds", "1", "--out", &out]);
    let table = std::fs::read_to_string(&out).unwrap();
    assert!(table.contains("| met |") && !table.contains("copy"), "{table}");

    let broken = script("broken", "echo no such workload >&2; exit 3");
    fail(&[&versus[..], &["--peer", &broken]].concat(), &["no such workload"]);
    fail(&[&versus[..], &["--peer", &script("mute", "true")]].concat(), &["no line of JSON"]);
    fail(&[&versus[..], &["--peer", &path(&folder, "absent")]].concat(), &["absent"]);
}

#[test]
fn bad_input_is_one_sentence() {
    fail(&["run", "matmull", "device=cpu"], &["matmull", "matmul"]);
    fail(&["run", "softmax", "cols=3", "device=cpu"], &["cols", "rows"]);
    fail(&["run", "softmax", "rows=none", "device=cpu"], &["rows=none"]);
    fail(&["run", "softmax", "rows=0", "device=cpu"], &["rows=0"]);
    fail(&["run", "softmax", "rows", "device=cpu"], &["key=value"]);
    fail(&["run", "softmax", "device=abacus"], &["abacus"]);
    fail(&["run", "mlm_step", "d=9", "h=2", "device=cpu"], &["9", "2 heads"]);
    fail(&["run", "mlm_step", "norm=batch", "device=cpu"], &["norm=batch", "plain, rms"]);
    fail(&["run", "mlm_forward", "d=1", "h=1", "norm=crms", "device=cpu"], &["d=1", "from 2 on"]);
    fail(&["run", "elementwise", "n=5", "op=bias_gelu", "device=cpu"], &["n=5"]);
    fail(&["ladder", "matmul", "m=0", "device=cpu"], &["m=0"]);
    fail(&["suite", "--device", "cpu", "--filter", "nothing", "--out", "x.json"], &["nothing"]);
    fail(&["run"], &["WORKLOAD"]);
    assert!(!Path::new("x.json").exists());
}
