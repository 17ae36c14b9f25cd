//! Files: safetensors in and out, and checkpoints of a whole training run.

#[cfg(not(target_arch = "wasm32"))]
mod checkpoint;
#[cfg(not(target_arch = "wasm32"))]
mod fs;
mod read;
mod write;

#[cfg(not(target_arch = "wasm32"))]
pub use checkpoint::{Checkpoint, Snapshot};
#[cfg(not(target_arch = "wasm32"))]
pub use fs::write_atomic;
pub use read::Weights;
#[cfg(not(target_arch = "wasm32"))]
pub use write::save;
pub use write::to_bytes;
