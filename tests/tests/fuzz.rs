//! Damaged and hostile model folders: an error each, or a model that runs, but no panic, and no memory beyond what the files justify.
//!
//! `WGRAD_FUZZ_TRIES` sets the number of tries, `WGRAD_FUZZ_SEED` where they begin.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use wgrad::{DType, Device, Tensor};
use wgrad_models::front::embeddings::TextInput;
use wgrad_models::zoo::{self, Task};
use wgrad_tests::Random;

/// Counts the bytes that are allocated at a time.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: memory comes from and goes to the system's allocator; only sizes are counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Memory that a try may take beside twenty times its files.
const SPARE: usize = 24 << 20;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

fn hostile(random: &mut Random) -> Value {
    let all = [
        json!(0),
        json!(1),
        json!(-1),
        json!(2),
        json!(3),
        json!(7),
        json!(1u64 << 31),
        json!(u64::MAX),
        json!(4097),
        json!(1e308),
        json!(-0.5),
        json!(1e-300),
        json!(null),
        json!(true),
        json!(false),
        json!("gelu"),
        json!("none"),
        json!(""),
        json!([]),
        json!([1, 1u64 << 31]),
        json!(["sliding_attention"]),
        json!({}),
        json!({ "rope_theta": -1 }),
    ];
    all[random.below(all.len())].clone()
}

/// One field of a configuration, or of one inside it, changed or taken away.
fn change(config: &mut Value, random: &mut Random) {
    let Some(fields) = config.as_object_mut() else { return };
    let names: Vec<String> = fields.keys().cloned().collect();
    let Some(name) = names.get(random.below(names.len().max(1))) else { return };
    if fields[name].is_object() && random.below(4) > 0 {
        return change(&mut fields[name], random);
    }
    match random.below(5) {
        0 => drop(fields.remove(name)),
        _ => drop(fields.insert(name.clone(), hostile(random))),
    }
}

fn flip(bytes: &mut [u8], below: usize, random: &mut Random) {
    let at = random.below(below.min(bytes.len()).max(1));
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

/// Writes a damaged copy of a model.
fn damage(from: &Path, to: &Path, random: &mut Random) {
    let mut config = fs::read(from.join("config.json")).unwrap();
    let mut weights = fs::read(from.join("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize + 8;
    match random.below(10) {
        0..=4 => {
            let mut value: Value = serde_json::from_slice(&config).unwrap();
            (0..1 + random.below(3)).for_each(|_| change(&mut value, random));
            config = value.to_string().into_bytes();
        }
        5 => (0..1 + random.below(3)).for_each(|_| flip(&mut config, usize::MAX, random)),
        6 => config.truncate(random.below(config.len())),
        7 => (0..1 + random.below(3)).for_each(|_| flip(&mut weights, header, random)),
        8 => weights.truncate(random.below(weights.len())),
        _ => {
            let lengths = [0, 1, 7, u64::MAX, 1 << 40, weights.len() as u64, header as u64 - 9];
            weights[..8].copy_from_slice(&lengths[random.below(lengths.len())].to_le_bytes());
        }
    }
    fs::write(to.join("config.json"), config).unwrap();
    fs::write(to.join("model.safetensors"), weights).unwrap();
}

/// Whether the folder holds a model; if it does, the model is run.
fn attempt(folder: &Path) -> bool {
    let device = Device::cpu();
    let Ok(model) = zoo::load(folder, DType::F32, &device) else { return false };
    if let Ok(text) = model.text() {
        let ids = Tensor::from_slice(&[0u32, 1, 2, 3, 4, 5, 6], &[1, 7], &device).unwrap();
        // A configuration may be strange and yet fit: running it may err.
        if let Ok(hidden) = text.encode(&TextInput::new(&ids))
            && text.about().task != Task::Encoder
        {
            let _ = text.logits(&hidden);
        }
    }
    true
}

#[test]
fn damaged_models_are_errors() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models");
    let mut folders: Vec<PathBuf> = fs::read_dir(models).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let temporary = tempfile::tempdir().unwrap();
    let (tries, seed) = (number("WGRAD_FUZZ_TRIES", 400), number("WGRAD_FUZZ_SEED", 0));
    // Threads and tables that stay.
    assert!(attempt(&folders[0]));
    let (mut loaded, mut worst) = (0, 0.0f64);
    for number in seed..seed + tries {
        let mut random = Random::new(number);
        let from = &folders[random.below(folders.len())];
        damage(from, temporary.path(), &mut random);
        let size = ["config.json", "model.safetensors"]
            .map(|file| fs::metadata(temporary.path().join(file)).unwrap().len() as usize);
        let before = NOW.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let outcome = catch_unwind(AssertUnwindSafe(|| attempt(temporary.path())));
        let what = || format!("try {number} with a copy of {}", from.display());
        loaded += usize::from(outcome.unwrap_or_else(|_| panic!("{} panicked", what())));
        let taken = PEAK.load(Ordering::Relaxed).saturating_sub(before);
        let most = 20 * size.iter().sum::<usize>() + SPARE;
        worst = worst.max(taken as f64 / most as f64);
        assert!(taken <= most, "{} took {taken} bytes, {most} are allowed", what());
    }
    println!("{tries} tries, {loaded} models loaded all the same, most memory {worst:.2} of what is allowed");
    assert!(loaded < tries as usize * 3 / 4, "{loaded} of {tries} damaged models were loaded");
}
