//! BudgetLongformer (Niklaus and Giofré, 2022, arXiv 2211.17135): an encoder of windows and a few tokens that see and are seen by all
//! (Longformer), trained to detect replaced tokens (ELECTRA).

use std::time::Instant;

use wgrad::nn::Build;
use wgrad::rng::Philox;
use wgrad::{DType, Device, Mask, Tensor, no_grad};

use super::lab::{Both, Lab, Sizes, train};
use super::{Report, System, Wanted, ensure};
use crate::attention::Pass;
use crate::front::synthetic::MarkovChain;
use crate::mixer::{Mixer, WindowGlobal};
use crate::weights::{Form, Linear};
use crate::{Result, heads};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "budget-longformer",
    title: "BudgetLongformer: Can we Cheaply Pretrain a SotA Legal Language Model From Scratch?",
    paper: "2211.17135",
    shows: "windows and global tokens learn to detect replaced tokens as full attention does, in time linear in the length",
    check,
};

const SYMBOLS: usize = 16;
const LENGTH: usize = 64;
const ROWS: usize = 16;
const WINDOW: usize = 8;
const GLOBAL: usize = 2;

/// The exponent with which the time of a layer grows with the length, after a model of such layers has been found to detect as well as one of
/// full attention.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let sizes = Sizes { vocab: SYMBOLS, hidden: 64, heads: 4, layers: 2 };
    let own = |build: &Build| {
        Ok(Box::new(WindowGlobal::new(&sizes.attention(), WINDOW, GLOBAL, sizes.hidden, build)?) as Box<dyn Mixer>)
    };
    let (found, full) = (
        detected(&sizes, &own, device, seed)?,
        detected(&sizes, &|build| sizes.attention_mixer(None, build), device, seed)?,
    );
    ensure(found < 1.05 * full, || format!("detection loss {found:.3}, of full attention {full:.3}"))?;
    let layer = own(&Build::new(device))?;
    let seconds = |length: usize| {
        let x = Tensor::normal(0.0, 1.0, &[1, length, sizes.hidden], DType::F32, device)?;
        let mut pass = Pass::new(&Mask::all(), 0, std::iter::empty());
        pass.positions = Some(Tensor::arange(0, length as i64, DType::I32, device)?.unsqueeze(0)?);
        let mut least = f64::INFINITY;
        for _ in 0..5 {
            let start = Instant::now();
            no_grad(|| layer.mix(&x, &pass))?.sum_all()?.item()?;
            least = least.min(start.elapsed().as_secs_f64());
        }
        Ok::<_, crate::Error>(least)
    };
    let (short, long) = (seconds(1024)?, seconds(8192)?);
    Ok(Report {
        property: format!(
            "exponent of a layer's time over 1024 to 8192 tokens (detection loss {found:.3}, full attention {full:.3})"
        ),
        measured: (long / short).log2() / 3.0,
        wanted: Wanted::AtMost,
        threshold: 1.35,
    })
}

/// Loss of detecting the tokens of a Markov chain that were replaced by others.
fn detected(
    sizes: &Sizes,
    mixer: &dyn Fn(&Build) -> Result<Box<dyn Mixer>>,
    device: &Device,
    seed: u64,
) -> Result<f64> {
    device.set_seed(seed);
    let lab = Lab::new(sizes, device, |_, build| mixer(build))?;
    let head = Linear::new(sizes.hidden, 1, true, Form::Rows, &Build::new(device))?;
    let model = Both(lab, head);
    let chain = MarkovChain::new(SYMBOLS, seed)?;
    train(&model, 250, 3e-3, |step| {
        let mut rng = Philox::new(seed, 1 << 32 | step);
        let (mut ids, mut labels) = (Vec::new(), Vec::new());
        for mut row in (0..ROWS).map(|_| chain.sample(LENGTH, &mut rng)).collect::<Vec<_>>() {
            for id in &mut row {
                let replaced = rng.next_u32() < u32::MAX / 7;
                let other = (*id + 1 + rng.next_u32() % (SYMBOLS as u32 - 1)) % SYMBOLS as u32;
                *id = if replaced { other } else { *id };
                labels.push(i32::from(replaced));
            }
            ids.extend(row);
        }
        let ids = Tensor::from_vec(ids, &[ROWS, LENGTH], device)?;
        let labels = Tensor::from_vec(labels, &[ROWS, LENGTH], device)?;
        let pass = model.0.pass(&Mask::all(), [ROWS, LENGTH], None, device)?;
        let states = model.0.states(model.0.embed(&ids)?, &pass)?;
        heads::detection(&model.1.forward(&states)?.squeeze(-1)?, &labels, None)
    })
}
