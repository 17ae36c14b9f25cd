//! Which of some lines are alike: `cargo run --release -p wgrad-models --example embed -- path/to/encoder "a cat" "a dog" "a tensor"`

use std::path::PathBuf;

use wgrad::{DType, Device};
use wgrad_models::embed::{Pool, embed, nearest};
use wgrad_models::front::codec::Codec;
use wgrad_models::{Result, zoo};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (folder, lines) = (PathBuf::from(args.next().unwrap_or_default()), args.collect::<Vec<_>>());
    let (device, codec) = (Device::best()?, Codec::open(&folder)?);
    let model = zoo::load(&folder, DType::F32, &device)?;
    let texts = lines.iter().map(|line| codec.encode(line, true)).collect::<Result<Vec<_>>>()?;
    let vectors = embed(model.text()?, &texts, Pool::Mean, true, &device)?;
    for (line, near) in lines.iter().zip(nearest(&vectors, model.text()?.about().hidden, 1)) {
        near.iter().for_each(|(other, cosine)| println!("{line} ~ {} ({cosine:.3})", lines[*other]));
    }
    Ok(())
}
