//! Writing files so that a crash at any moment leaves the old or the new content, never half of one.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::device::unique_id;
use crate::{Error, Result};

/// Replaces the content of a file in one step: writes a temporary file beside it, makes it durable, renames it.
///
/// # Errors
/// If the folder is missing or not writable, or the disk is full; the old file is untouched then.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    replace(path.as_ref(), |file| file.write_all(bytes).map_err(|e| Error::file(path.as_ref(), e)))
}

/// As [`write_atomic`], for content that is written piece by piece.
pub(super) fn replace(path: &Path, content: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let name = path.file_name().ok_or_else(|| Error::file(path, "is not the name of a file"))?;
    let temporary = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), temporary_suffix()));
    let written = write_new(&temporary, path, content)
        .and_then(|()| fs::rename(&temporary, path).map_err(|e| Error::file(path, e)))
        .and_then(|()| sync_folder(folder_of(path)));
    if written.is_err() {
        // Only tidying: the error of the write is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Writes a new file and waits until it is on the disk. Errors name the file that it is to become.
pub(super) fn write_new(path: &Path, named: &Path, content: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let mut file = File::create(path).map_err(|e| Error::file(named, e))?;
    content(&mut file)?;
    file.sync_all().map_err(|e| Error::file(named, e))
}

/// Makes renames and new names inside a folder durable, where the system has a call for that.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Error::file(folder, e))?;
    }
    Ok(())
}

/// Part of a name that no other write, of this process or another, uses.
pub(super) fn temporary_suffix() -> String {
    format!("tmp-{}-{}", std::process::id(), unique_id())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Names of the entries of a folder, sorted; none if there is no such folder.
pub(super) fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::file(folder, e)),
    };
    let mut found = Vec::new();
    for entry in listing {
        let entry = entry.map_err(|e| Error::file(folder, e))?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    found.sort();
    Ok(found)
}
