//! The error type of the benchmarks.

/// Result of every fallible function here.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An error of the engine.
    #[error(transparent)]
    Engine(#[from] wgrad::Error),
    /// Anything else.
    #[error("{0}")]
    Message(String),
}

impl Error {
    /// An error of this text.
    pub fn new(message: impl Into<String>) -> Self {
        Error::Message(message.into())
    }

    /// A file that could not be read or written.
    pub fn file(path: &std::path::Path, why: impl std::fmt::Display) -> Self {
        Error::Message(format!("{}: {why}", path.display()))
    }
}
