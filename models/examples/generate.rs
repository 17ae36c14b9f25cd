//! Goes on with a text, token by token: `cargo run --release -p wgrad-models --example generate -- path/to/gpt2 "Once upon a time"`

use std::path::PathBuf;

use wgrad::{DType, Device};
use wgrad_models::front::codec::Codec;
use wgrad_models::generate::{Choice, Settings, ends, generate};
use wgrad_models::{Result, zoo};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (folder, prompt) = (PathBuf::from(args.next().unwrap_or_default()), args.next().unwrap_or_default());
    let (device, codec) = (Device::best()?, Codec::open(&folder)?);
    let model = zoo::load(&folder, DType::F32, &device)?;
    let settings = Settings { choice: Choice::Greedy, most: 32, ends: ends(&folder, &model.config().json()) };
    let mut ids = Vec::new();
    generate(&model, &codec.encode(&prompt, true)?, &settings, &device, &mut |token| {
        ids.push(token);
        Ok(true) // false ends it
    })?;
    println!("{}", codec.decode(&ids)?);
    Ok(())
}
