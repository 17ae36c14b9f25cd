//! Lists every `<family>/<kernel>.wgsl` of this package, so that `lib.rs` embeds them without a list kept by hand.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?);
    let mut kernels = Vec::new();
    for family in sorted(&root)? {
        let family_name = name(&family);
        if !family.is_dir() || matches!(family_name.as_str(), "src" | "target") || family_name.starts_with('.') {
            continue;
        }
        // A change of the folder itself is a file that came or went.
        println!("cargo:rerun-if-changed={}", family.display());
        for file in sorted(&family)? {
            if let Some(kernel) = name(&file).strip_suffix(".wgsl") {
                println!("cargo:rerun-if-changed={}", file.display());
                kernels.push((format!("{family_name}/{kernel}"), file));
            }
        }
    }
    println!("cargo:rerun-if-changed={}", root.display());
    kernels.sort();
    let mut table = String::from("&[\n");
    for (kernel, file) in &kernels {
        let _ = writeln!(table, "    ({kernel:?}, include_str!({:?})),", file.display().to_string());
    }
    table.push(']');
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    fs::write(out.join("kernels.rs"), table)
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
