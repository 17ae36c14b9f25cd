//! Writing files so that a reader, or a run after a crash, finds the old content or the new, never a half.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Writes `bytes` to `path` atomically; see [`write_with`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |file| file.write_all(bytes))
}

/// Replaces `path` atomically by what `fill` writes: into a temporary file in the same folder, flushed to the disk,
/// then renamed, and the folder flushed too. After an error the old file is untouched and the temporary is gone.
///
/// The temporary's name is fixed (`.NAME.tmp`), so that killed runs leave at most one behind, which the next
/// write reuses. A path that is no regular file, such as `/dev/stdout`, is written straight to.
pub fn write_with(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    if fs::metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
        return File::options()
            .write(true)
            .open(path)
            .and_then(|file| fill_file(file, fill).map(drop))
            .map_err(|error| Error::io(path, &error));
    }
    let temporary = temporary_beside(path)?;
    let written = File::create(&temporary)
        .and_then(|file| fill_file(file, fill))
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| sync_folder(folder_of(path)));
    written.map_err(|error| {
        // The first error is the one to report; a temporary that was never made cannot be removed either.
        let _ = fs::remove_file(&temporary);
        Error::io(path, &error)
    })
}

/// Makes `folder` and its parents where they are missing.
pub fn create_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::file(folder, "is a file, not a folder"),
        _ => Error::io(folder, &error),
    })
}

/// Reads a text file.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| Error::io(path, &error))
}

fn fill_file(file: File, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<File> {
    let mut writer = BufWriter::new(file);
    fill(&mut writer)?;
    writer.into_inner().map_err(io::IntoInnerError::into_error)
}

fn temporary_beside(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(Error::file(path, "is not the name of a file"));
    };
    if path.is_dir() {
        return Err(Error::file(path, "is a folder, not a file"));
    }
    let folder = folder_of(path);
    if !folder.is_dir() {
        return Err(Error::file(path, format!("the folder {} does not exist", folder.display())));
    }
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".tmp");
    Ok(folder.join(hidden))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The rename is on the disk only when the folder is.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Elsewhere a folder cannot be opened as a file; the file system orders the rename itself.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write(&path, b"old").unwrap();
        let failed = write_with(&path, |file| {
            file.write_all(b"half of the new")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        let sentence = failed.unwrap_err().to_string();
        assert!(sentence.contains("state.json") && sentence.contains("the disk is full"), "{sentence}");
        assert_eq!(read_text(&path).unwrap(), "old");
        write(&path, b"new").unwrap();
        assert_eq!(read_text(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary may stay");
    }

    #[test]
    fn missing_folder_and_folder_as_file_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let sentence = write(&folder.path().join("absent/file"), b"").unwrap_err().to_string();
        assert!(sentence.contains("absent does not exist"), "{sentence}");
        let sentence = write(folder.path(), b"").unwrap_err().to_string();
        assert!(sentence.ends_with("is a folder, not a file"), "{sentence}");
        let file = folder.path().join("file");
        write(&file, b"").unwrap();
        let sentence = create_folder(&file.join("below")).unwrap_err().to_string();
        assert!(sentence.contains("file, not a folder"), "{sentence}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn full_disk_is_a_sentence() {
        let sentence = write(Path::new("/dev/full"), b"x").unwrap_err().to_string();
        assert_eq!(sentence, "/dev/full: the disk is full");
    }
}
