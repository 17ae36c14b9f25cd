//! A small network learns to multiply two numbers: the page of code in the README.

use wgrad::nn::{Build, Linear, Module, Visitor};
use wgrad::optim::{Adam, Group, Optimizer, Rule};
use wgrad::{DType, Device, Result, Tensor};

/// Two linear layers with a GELU between them.
struct Mlp {
    up: Linear,
    down: Linear,
}

impl Module for Mlp {
    // Says what the module consists of: names, counting, loading and saving follow.
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("up", &self.up);
        v.module("down", &self.down);
    }
}

impl Mlp {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.down.forward(&self.up.forward(x)?.gelu()?)
    }
}

fn main() -> Result<()> {
    let device = Device::best()?; // a GPU if there is one, else the CPU; WGRAD_DEVICE overrides
    let build = Build::new(&device);
    let mlp = Mlp { up: Linear::new(2, 32, true, &build)?, down: Linear::new(32, 1, true, &build)? };
    let mut optimizer = Optimizer::new(Rule::AdamW(Adam::default()), 1e-2, Group::of(&mlp))?;

    let x = Tensor::uniform(-1.0, 1.0, &[256, 2], DType::F32, &device)?;
    let y = x.narrow(1, 0, 1)?.mul(&x.narrow(1, 1, 1)?)?; // learn to multiply
    for step in 0..200 {
        let loss = mlp.forward(&x)?.sub(&y)?.square()?.mean_all()?;
        optimizer.step(&loss.backward()?)?; // gradients are values: no hidden state
        if step % 50 == 0 {
            println!("{step}: {:.5}", loss.item()?);
        }
    }
    Ok(())
}
