//! Reads a Hugging Face folder of any supported architecture and writes it anew, with the same names, in another dtype if one is named.
//!
//! `cargo run --release -p wgrad-models --example convert -- path/to/model path/to/copy f16`

use std::path::Path;

use wgrad::{DType, Device};
use wgrad_models::{Error, Result, zoo};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (from, to, dtype) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [from, to] | [from, to, "f32"] => (from, to, DType::F32),
        [from, to, "f16"] => (from, to, DType::F16),
        [from, to, "bf16"] => (from, to, DType::BF16),
        _ => return Err(Error::argument("convert", "expected: FROM TO [f32|f16|bf16]")),
    };
    zoo::load(Path::new(from), dtype, &Device::cpu())?.save(Path::new(to))
}
