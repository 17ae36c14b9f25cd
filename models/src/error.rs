//! The one error type of the models and of the command line.

use std::path::Path;

/// Result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, as one sentence that says what came and what was expected.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of the tensor engine.
    #[error(transparent)]
    Engine(#[from] wgrad::Error),
    /// A file or folder that could not be read or written, or does not hold what it should.
    #[error("{path}: {message}")]
    File {
        /// The file or folder.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// A model configuration that is incomplete or contradicts itself.
    #[error("config: {message}")]
    Config {
        /// The field, what it held and what was expected.
        message: String,
    },
    /// An argument outside its domain.
    #[error("{name}: {message}")]
    Argument {
        /// The argument.
        name: &'static str,
        /// What came and what was expected.
        message: String,
    },
    /// Text that cannot be learned from, or that the tokenizer cannot handle.
    #[error("text: {message}")]
    Text {
        /// What is wrong and what would help.
        message: String,
    },
    /// A check that ran to its end and did not show what it should.
    #[error("{message}")]
    Check {
        /// Which check.
        message: String,
    },
}

impl Error {
    /// A file error.
    pub fn file(path: impl AsRef<Path>, message: impl ToString) -> Self {
        Error::File { path: path.as_ref().display().to_string(), message: message.to_string() }
    }

    /// A file error from the operating system's, in words.
    pub fn io(path: impl AsRef<Path>, error: &std::io::Error) -> Self {
        Self::file(path, io_sentence(error))
    }

    /// A configuration error.
    pub fn config(message: impl Into<String>) -> Self {
        Error::Config { message: message.into() }
    }

    /// An argument error.
    pub fn argument(name: &'static str, message: impl Into<String>) -> Self {
        Error::Argument { name, message: message.into() }
    }

    /// A text error.
    pub fn text(message: impl Into<String>) -> Self {
        Error::Text { message: message.into() }
    }
}

/// The usual failures of files in words, without the number that the operating system adds.
fn io_sentence(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "no such file or folder".into(),
        ErrorKind::PermissionDenied => "permission denied".into(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "the disk is full".into(),
        ErrorKind::NotADirectory => "a part of the path is a file, not a folder".into(),
        ErrorKind::IsADirectory => "is a folder, not a file".into(),
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only".into(),
        ErrorKind::InvalidData => "is not valid UTF-8 text".into(),
        _ => error.to_string(),
    }
}
