//! AdamP (Heo et al., 2021, arXiv 2006.08217): momentum makes weights whose scale does not matter grow, and with that their steps shrink; what
//! makes them grow is left out of the update.

use wgrad::nn::{Init, Param};
use wgrad::optim::{Adam, Group, Optimizer, Rule};
use wgrad::{DType, Device, Tensor};

use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::post_step::AdamP;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "adamp",
    title: "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant Weights",
    paper: "2006.08217",
    shows: "weights before a norm grow by their steps alone, far less than under Adam",
    check,
};

const INPUTS: usize = 16;
const HIDDEN: usize = 32;
const STEPS: usize = 300;
const ADAM: Adam = Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };

/// What became of the matrix before the norm.
struct Course {
    /// Its squared length at the end over that at the start.
    growth: f64,
    /// The same if all steps were at right angles to it.
    by_steps: f64,
    /// The loss.
    loss: f64,
}

/// Growth beyond one over that under Adam.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let (own, adam) = (train(true, device, seed)?, train(false, device, seed)?);
    let off = (own.growth / own.by_steps - 1.0).abs();
    ensure(off < 1e-3, || {
        format!("the squared length grew by {:.4}, steps at right angles to it give {:.4}", own.growth, own.by_steps)
    })?;
    Ok(Report {
        property: format!(
            "growth of a matrix before a norm over that under Adam (squares {:.2} and {:.2}; losses {:.4} and {:.4})",
            own.growth, adam.growth, own.loss, adam.loss
        ),
        measured: (own.growth - 1.0) / (adam.growth - 1.0),
        wanted: Wanted::AtMost,
        threshold: 0.5,
    })
}

/// A regression through `head(relu(norm(W x)))`.
fn train(projected: bool, device: &Device, seed: u64) -> Result<Course> {
    device.set_seed(seed);
    let normal = |sizes: &[usize]| Tensor::normal(0.0, 1.0, sizes, DType::F32, device);
    let x = normal(&[256, INPUTS])?;
    let target = x.linear(&normal(&[1, INPUTS])?, None)?.mul_scalar(0.5)?.sin()?;
    let new = |sizes: &[usize]| Param::new(&Init::XavierNormal { gain: 1.0 }.tensor(sizes, DType::F32, device)?);
    let (weight, head) = (new(&[HIDDEN, INPUTS])?, new(&[1, HIDDEN])?);
    let params = vec![("weight".to_string(), weight.clone()), ("head".to_string(), head.clone())];
    enum Any {
        P(AdamP),
        Plain(Optimizer),
    }
    let mut optimizer = match projected {
        true => Any::P(AdamP::new(ADAM, 1e-2, params)?),
        false => Any::Plain(Optimizer::new(Rule::AdamW(ADAM), 1e-2, vec![Group::new(params)])?),
    };
    let square = |x: &Tensor| x.square()?.sum_all()?.item();
    let start = square(&weight.tensor().detach())?;
    let (mut steps, mut last) = (0.0, 0.0);
    for _ in 0..STEPS {
        let hidden = x.linear(&weight.tensor(), None)?.rms_norm(None, 1e-8)?.relu()?;
        let loss = hidden.linear(&head.tensor(), None)?.sub(&target)?.square()?.mean_all()?;
        let (before, gradients) = (weight.tensor().detach(), loss.backward()?);
        match &mut optimizer {
            Any::P(optimizer) => optimizer.step(&gradients)?,
            Any::Plain(optimizer) => optimizer.step(&gradients).map(drop)?,
        }
        steps += square(&weight.tensor().detach().sub(&before)?)?;
        last = loss.item()?;
    }
    Ok(Course { growth: square(&weight.tensor().detach())? / start, by_steps: (start + steps) / start, loss: last })
}
