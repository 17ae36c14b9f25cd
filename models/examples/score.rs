//! Perplexity of a text, of a masked model pseudo-perplexity: `cargo run --release -p wgrad-models --example score -- path/to/model "some text"`

use std::path::PathBuf;

use wgrad::{DType, Device};
use wgrad_models::front::codec::Codec;
use wgrad_models::score::score;
use wgrad_models::{Result, zoo};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (folder, text) = (PathBuf::from(args.next().unwrap_or_default()), args.next().unwrap_or_default());
    let (device, codec) = (Device::best()?, Codec::open(&folder)?);
    let model = zoo::load(&folder, DType::F32, &device)?;
    let (ids, counts) = codec.encode_marked(&text)?;
    let mask = codec.mask().map(|(_, id)| id);
    println!("{:.4}", score(model.text()?, &ids, &counts, mask, [128, 64], &device, &mut |_| ())?.perplexity);
    Ok(())
}
