//! Text to learn from: the project's own sources and documents, or the files of the user.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::segments::{Kind, segments};
use crate::{Error, Result};

/// Least text in bytes: below it neither a vocabulary nor a held-out set means anything.
pub const MIN_BYTES: usize = 8 * 1024;
/// Most text in bytes that is read; the rest is left out with a warning.
pub const MAX_BYTES: usize = 64 << 20;
/// One segment of so many is held out.
const HELD_OUT_ONE_IN: u64 = 20;
/// What of the project is text to learn from. Data and lock files are not.
const PROJECT_EXTENSIONS: [&str; 6] = ["md", "rs", "wgsl", "toml", "sh", "py"];
const SOURCE_EXTENSIONS: [&str; 14] =
    ["rs", "wgsl", "toml", "sh", "py", "c", "h", "cpp", "hpp", "js", "ts", "go", "java", "yaml"];

/// Segments of text without repetitions, in the order of the files, apart from those held out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    /// Segments to train on.
    pub train: Vec<String>,
    /// Segments to measure on, about 5 %; which ones depends on their own text alone.
    pub held_out: Vec<String>,
    /// Number of files read.
    pub files: usize,
}

impl Corpus {
    /// The sources and documents of wgrad itself: of the clone that the working directory is in, else of the one that this
    /// program was built from.
    pub fn of_project() -> Result<Self> {
        Self::of_project_files(&PROJECT_EXTENSIONS)
    }

    /// The same of files whose names end in one of these alone: the project's Rust, or its shaders.
    pub fn of_project_files(extensions: &[&str]) -> Result<Self> {
        let here = std::env::current_dir().unwrap_or_default();
        let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        let root = here.ancestors().chain(built_from).find(|folder| is_project(folder)).ok_or_else(|| {
            Error::text(
                "no clone of wgrad found here to learn from: name files or folders of your own with --text PATH",
            )
        })?;
        let mut files = Vec::new();
        collect(root, &|path| extensions.contains(&extension(path)), &mut files)?;
        Self::from_files(&files)
    }

    /// The text files among `paths` and everywhere below the folders among them. Hidden files, folders named `target`, and files that
    /// are not UTF-8 text are passed over in folders; a file that is named itself must be text.
    pub fn read(paths: &[PathBuf]) -> Result<Self> {
        Self::from_files(&files_below(paths)?)
    }

    fn from_files(files: &[PathBuf]) -> Result<Self> {
        let mut found = Vec::new();
        let (mut read, mut bytes) = (0, 0);
        for (number, path) in files.iter().enumerate() {
            let content = fs::read(path).map_err(|error| Error::io(path, &error))?;
            let Some(text) = as_text(content) else { continue };
            if bytes + text.len() > MAX_BYTES {
                let left = files.len() - number;
                log::warn!("the text is longer than {} MiB: {left} files are left out", MAX_BYTES >> 20);
                break;
            }
            bytes += text.len();
            read += 1;
            let kind = if SOURCE_EXTENSIONS.contains(&extension(path)) { Kind::Source } else { Kind::Prose };
            found.extend(segments(&text, kind));
        }
        Self::from_segments(found, read)
    }

    /// Drops repetitions and splits. `files` is only reported.
    pub fn from_segments(segments: Vec<String>, files: usize) -> Result<Self> {
        let mut seen = HashSet::new();
        let unique: Vec<String> = segments.into_iter().filter(|segment| seen.insert(segment.clone())).collect();
        let bytes: usize = unique.iter().map(String::len).sum();
        if bytes < MIN_BYTES {
            return Err(Error::text(format!(
                "{bytes} bytes of distinct text in {files} files are too little to learn from: at least {MIN_BYTES} are needed"
            )));
        }
        let (mut held_out, train): (Vec<_>, Vec<_>) =
            unique.into_iter().partition(|segment| hash(segment).is_multiple_of(HELD_OUT_ONE_IN));
        let mut train = train;
        // With few segments the draw may leave the set empty: then the one with the smallest hash is held out.
        if held_out.is_empty()
            && let Some(least) = (0..train.len()).min_by_key(|&at| hash(&train[at]))
        {
            held_out.push(train.remove(least));
        }
        Ok(Self { train, held_out, files })
    }

    /// Bytes of text to train on.
    pub fn train_bytes(&self) -> usize {
        self.train.iter().map(String::len).sum()
    }

    /// Up to `count` held-out segments that a person can judge at a glance: first those that are most like sentences, of 8 to 24 words.
    pub fn showcase(&self, count: usize) -> Vec<&str> {
        let mut ranked: Vec<&str> = self.held_out.iter().map(String::as_str).collect();
        ranked.sort_by_key(|segment| {
            let words = segment.split(' ').count();
            let plain = segment.chars().filter(|c| c.is_alphabetic() || *c == ' ').count();
            let odd_share = 100 - 100 * plain / segment.chars().count().max(1);
            (!(8..=24).contains(&words), odd_share / 5, hash(segment))
        });
        ranked.truncate(count);
        ranked
    }
}

/// The files among `paths`, which must be text, and all below the folders among them.
fn files_below(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let meta = fs::metadata(path).map_err(|error| Error::io(path, &error))?;
        if meta.is_dir() {
            collect(path, &|_| true, &mut files)?;
        } else {
            crate::fsx::read_text(path)?;
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn is_project(folder: &Path) -> bool {
    ["Cargo.toml", "engine/Cargo.toml", "models/Cargo.toml", "shaders"].iter().all(|part| folder.join(part).exists())
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or("")
}

/// The files below `folder` that `wanted` takes, sorted by name in each folder. Links are not followed, so that there are no loops.
fn collect(folder: &Path, wanted: &dyn Fn(&Path) -> bool, files: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |error: std::io::Error| Error::io(folder, &error);
    let mut entries = fs::read_dir(folder).map_err(failed)?.collect::<std::io::Result<Vec<_>>>().map_err(failed)?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let (name, path) = (entry.file_name(), entry.path());
        let kind = entry.file_type().map_err(failed)?;
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() && name != "target" {
            collect(&path, wanted, files)?;
        } else if kind.is_file() && wanted(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// The content as text, or nothing if it is binary.
fn as_text(content: Vec<u8>) -> Option<String> {
    if content.contains(&0) { None } else { String::from_utf8(content).ok() }
}

/// FNV-1a with the finalizer of SplitMix64: the same on every machine and in every version, unlike the standard library's hash.
fn hash(text: &str) -> u64 {
    let mut hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("Segment number {n} of a text that is long enough to count.")).collect()
    }

    #[test]
    fn project_is_found_and_split() {
        let corpus = Corpus::of_project().unwrap();
        assert!(corpus.files > 5 && corpus.train_bytes() > MIN_BYTES);
        assert_eq!(corpus, Corpus::of_project().unwrap());
        let held_out: HashSet<_> = corpus.held_out.iter().collect();
        assert!(corpus.train.iter().all(|segment| !held_out.contains(segment)));
        assert!(!corpus.showcase(3).is_empty());
    }

    #[test]
    fn about_one_in_twenty_is_held_out_whatever_else_is_there() {
        let corpus = Corpus::from_segments(numbered(4000), 1).unwrap();
        assert!(corpus.held_out.len().abs_diff(200) < 60, "{}", corpus.held_out.len());
        let fewer = Corpus::from_segments(numbered(2000), 1).unwrap();
        assert_eq!(fewer.held_out, corpus.held_out[..fewer.held_out.len()]);
        let twice = Corpus::from_segments([numbered(4000), numbered(4000)].concat(), 1).unwrap();
        assert_eq!(twice, corpus);
    }

    #[test]
    fn folders_are_read_in_order_without_binaries_and_hidden_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        write("b.txt", numbered(300)[150..].join("\n\n").as_bytes());
        write("a/x.txt", numbered(150).join("\n\n").as_bytes());
        write("target/no.txt", b"never read this");
        write(".git/no.txt", b"never read this");
        write("image.bin", &[0, 1, 2]);
        write("latin.txt", &[b'a', 0xe9, b'b']);
        let corpus = Corpus::read(&[folder.path().to_owned()]).unwrap();
        assert_eq!(corpus.files, 2);
        assert_eq!(corpus, Corpus { files: 2, ..Corpus::from_segments(numbered(300), 1).unwrap() });
        let named = Corpus::read(&[folder.path().join("latin.txt")]).unwrap_err().to_string();
        assert!(named.contains("latin.txt: is not valid UTF-8 text"), "{named}");
    }

    #[test]
    fn missing_and_little_text_are_named() {
        let missing = Corpus::read(&["no/such/file".into()]).unwrap_err().to_string();
        assert_eq!(missing, "no/such/file: no such file or folder");
        let folder = tempfile::tempdir().unwrap();
        let empty = Corpus::read(&[folder.path().to_owned()]).unwrap_err().to_string();
        assert!(empty.contains("0 bytes") && empty.contains("at least 8192"), "{empty}");
    }

    #[test]
    fn showcase_prefers_sentences() {
        let mut segments = numbered(3000);
        segments.push("let x = a[i] + (b << 3) & 0xff; fn f() -> u32 { x ^ 1 }".into());
        let corpus = Corpus::from_segments(segments, 1).unwrap();
        let shown = corpus.showcase(4);
        assert_eq!(shown.len(), 4);
        assert!(shown.iter().all(|segment| segment.starts_with("Segment")));
    }
}
