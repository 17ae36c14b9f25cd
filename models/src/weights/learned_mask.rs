//! Learned masks (Fang et al., MaskLLM: Learnable Semi-Structured Sparsity for Large Language Models, 2024, arXiv 2409.17481): each group of four
//! weights has six gates, one for each way to keep two of them. While it learns, a group sees a mixture of the six masks, drawn by a Gumbel
//! softmax that gets harder with time; in the end it sees the one with the largest gate.

use std::sync::{Arc, Mutex, PoisonError};

use wgrad::nn::{Module, Param, Visitor};
use wgrad::{DType, Device, PatternOptions, Tensor};

use super::{Pattern, View};
use crate::{Error, Result};

/// The six ways to keep two of four, in the order of the paper's code.
const PATTERNS: [[f32; 4]; 6] = [
    [1.0, 1.0, 0.0, 0.0],
    [1.0, 0.0, 1.0, 0.0],
    [1.0, 0.0, 0.0, 1.0],
    [0.0, 1.0, 1.0, 0.0],
    [0.0, 1.0, 0.0, 1.0],
    [0.0, 0.0, 1.0, 1.0],
];
/// Standard deviation of new gates.
const STD: f64 = 0.01;
/// What gates are lowered by whose pattern keeps columns beyond the end of a row in place of some within: no training makes up for it.
const NEVER: f32 = 1e3;

/// How gates become masks at one moment of the training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Factor of the gates, against which the noise gets weaker as it grows.
    pub scale: f64,
    /// Temperature of the softmax: the lower, the closer a mixture is to one mask.
    pub temperature: f64,
    /// Reward for what stays of the sum of squared weights, so that gradients do not vanish with them.
    pub reward: f64,
}

/// The moment that all masks of a model are at; after the training none, and then masks are hard. Clones are handles on one.
#[derive(Debug, Clone, Default)]
pub struct Clock(Arc<Mutex<Option<Moment>>>);

impl Clock {
    /// Moves all masks to a moment, or makes them hard.
    pub fn set(&self, moment: Option<Moment>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = moment;
    }

    fn now(&self) -> Option<Moment> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A learned 2:4 mask over a matrix whose weights stay as they are.
pub struct LearnedMask {
    inputs: usize,
    /// `[outputs, inputs / 4, 6]`, the last group made whole.
    gates: Param,
    clock: Clock,
}

impl LearnedMask {
    /// New gates for a matrix `[outputs, inputs]`. Those of the patterns that have more in common with a `prior` mask of the same shape start
    /// higher, by `strength` standard deviations of the gates for each of the two weights kept.
    ///
    /// # Errors
    /// If the prior is no 2:4 mask of that shape, or memory is exhausted.
    pub fn new(
        [outputs, inputs]: [usize; 2],
        prior: Option<&Tensor>,
        strength: f64,
        clock: &Clock,
        device: &Device,
    ) -> Result<Self> {
        let groups = inputs.div_ceil(4);
        let mut gates = Tensor::normal(0.0, STD, &[outputs, groups, 6], DType::F32, device)?;
        if let Some(prior) = prior {
            if prior.shape() != [outputs, inputs] || !Pattern::TWO_OF_FOUR.is_exact(prior)? {
                let message = format!("a prior of {:?}, expected a 2:4 mask of {outputs} x {inputs}", prior.shape());
                return Err(Error::argument("learned mask", message));
            }
            // Two weights in common with the pattern itself, one with four others, none with the last.
            let prior = Pattern::TWO_OF_FOUR.whole(&prior.cast(DType::F32)?)?;
            let prior = prior.reshape(&[outputs as isize, groups as isize, 4])?;
            let shared = prior.linear(&patterns(DType::F32, device)?, None)?;
            gates = gates.add(&shared.affine(strength * STD, -strength * STD)?)?;
        }
        if !inputs.is_multiple_of(4) {
            gates = gates.add(&lowered(inputs, device)?)?;
        }
        Ok(LearnedMask { inputs, gates: Param::new(&gates)?, clock: clock.clone() })
    }

    /// The mask of the largest gates, `[outputs, inputs]`.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn hard(&self) -> Result<Tensor> {
        let gates = self.gates.leaf().detach();
        let ones = Tensor::ones(&[gates.size(0)?, 4 * gates.size(1)?], gates.dtype(), gates.device())?;
        let mask = gates.six_pattern_weight(&ones, &PatternOptions { hard: true, ..PatternOptions::default() })?.1;
        Ok(mask.narrow(1, 0, self.inputs)?)
    }
}

/// What is added to the gates `[groups, 6]` of a row whose last group is cut off.
fn lowered(inputs: usize, device: &Device) -> Result<Tensor> {
    let (groups, last) = (inputs.div_ceil(4), inputs % 4);
    let mut added = vec![0.0; 6 * groups];
    let within = |pattern: &[f32; 4]| pattern[..last].iter().sum::<f32>() as usize;
    for (gate, pattern) in added[6 * (groups - 1)..].iter_mut().zip(&PATTERNS) {
        if within(pattern) < last.min(2) {
            *gate = -NEVER;
        }
    }
    Ok(Tensor::from_vec(added, &[groups, 6], device)?)
}

/// `[6, 4]`
fn patterns(dtype: DType, device: &Device) -> Result<Tensor> {
    Ok(Tensor::from_slice(&PATTERNS.concat(), &[6, 4], device)?.cast(dtype)?)
}

impl View for LearnedMask {
    fn matrix(&self, weight: &Tensor) -> Result<Tensor> {
        let weight = weight.detach();
        let Some(Moment { scale, temperature, .. }) = self.clock.now() else {
            return Ok(self.hard()?.cast(weight.dtype())?.mul(&weight)?);
        };
        let options = PatternOptions { scale, temperature, noise: true, hard: false };
        let gates = self.gates.tensor().cast(weight.dtype())?;
        let shown = gates.six_pattern_weight(&Pattern::TWO_OF_FOUR.whole(&weight)?, &options)?.0;
        Ok(shown.narrow(1, 0, self.inputs)?)
    }

    fn penalty(&self, _: &Tensor, shown: &Tensor) -> Result<Option<Tensor>> {
        let reward = self.clock.now().map_or(0.0, |moment| moment.reward);
        if reward == 0.0 {
            return Ok(None);
        }
        Ok(Some(shown.square()?.sum_all()?.mul_scalar(-reward)?))
    }
}

impl Module for LearnedMask {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("gates", &self.gates);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_harden_towards_the_prior() {
        let device = Device::new_cpu();
        device.set_seed(3);
        let weight = Tensor::normal(0.0, 1.0, &[8, 16], DType::F32, &device).unwrap();
        let prior = Pattern::TWO_OF_FOUR.mask(&weight.abs().unwrap()).unwrap();
        let clock = Clock::default();
        // Ten standard deviations: no new gate is as far away.
        let mask = LearnedMask::new([8, 16], Some(&prior), 10.0, &clock, &device).unwrap();
        assert_eq!(mask.hard().unwrap().to_vec::<f32>().unwrap(), prior.to_vec::<f32>().unwrap());
        clock.set(Some(Moment { scale: 100.0, temperature: 4.0, reward: 0.0 }));
        let soft = mask.matrix(&weight.ones_like().unwrap()).unwrap();
        let sums = soft.reshape(&[8, 4, 4]).unwrap().sum(&[-1], false).unwrap().to_f64_vec().unwrap();
        assert!(sums.iter().all(|sum| (sum - 2.0).abs() < 1e-5), "{sums:?}");
        assert!(soft.to_f64_vec().unwrap().iter().any(|v| (0.2..0.8).contains(v)));
        clock.set(Some(Moment { scale: 500.0, temperature: 0.05, reward: 0.0 }));
        let late = mask.matrix(&weight).unwrap().sub(&prior.mul(&weight).unwrap()).unwrap();
        assert!(late.abs().unwrap().max(&[], false).unwrap().item().unwrap() < 1e-3);
    }

    /// `dπ = (κ/τ) y ⊙ (u - y·u)` with `u_i = Σ_c S_ic (dW̃_c W_c - 2 λ W_c² M̃_c)`.
    #[test]
    fn gradients_of_gates_follow_the_formula() {
        let device = Device::new_cpu();
        let clock = Clock::default();
        let moment = Moment { scale: 30.0, temperature: 2.0, reward: 0.1 };
        clock.set(Some(moment));
        let mask = LearnedMask::new([1, 4], None, 0.0, &clock, &device).unwrap();
        let weight = Tensor::from_slice(&[0.5f32, -1.0, 2.0, 0.25], &[1, 4], &device).unwrap();
        let upstream = Tensor::from_slice(&[1.0f32, -2.0, 0.5, 3.0], &[1, 4], &device).unwrap();
        let state = device.rng_state();
        let noise = Tensor::gumbel(&[1, 1, 6], DType::F32, &device).unwrap().to_f64_vec().unwrap();
        device.set_rng_state(state);
        let shown = mask.matrix(&weight).unwrap();
        let loss = shown.mul(&upstream).unwrap().sum_all().unwrap();
        let loss = loss.add(&mask.penalty(&weight, &shown).unwrap().unwrap()).unwrap();
        let got = mask.gates.gradient(&loss.backward().unwrap()).unwrap().to_f64_vec().unwrap();

        let gates = mask.gates.leaf().to_f64_vec().unwrap();
        let exps: Vec<f64> = gates.iter().zip(&noise).map(|(g, n)| ((30.0 * g + n) / 2.0).exp()).collect();
        let y: Vec<f64> = exps.iter().map(|e| e / exps.iter().sum::<f64>()).collect();
        let (w, d) = (weight.to_f64_vec().unwrap(), upstream.to_f64_vec().unwrap());
        let soft: Vec<f64> = (0..4).map(|c| (0..6).map(|i| y[i] * f64::from(PATTERNS[i][c])).sum()).collect();
        let of_column = |c: usize| d[c] * w[c] - 0.2 * w[c] * w[c] * soft[c];
        let u: Vec<f64> = PATTERNS.iter().map(|p| (0..4).map(|c| f64::from(p[c]) * of_column(c)).sum()).collect();
        let mean: f64 = y.iter().zip(&u).map(|(y, u)| y * u).sum();
        for i in 0..6 {
            let want = 15.0 * y[i] * (u[i] - mean);
            assert!((got[i] - want).abs() < 1e-4 * (1.0 + want.abs()), "gate {i}: {}, expected {want}", got[i]);
        }
    }

    /// Of one column that is kept, of two both, of three two.
    #[test]
    fn the_last_group_may_be_cut_off() {
        let (device, clock) = (Device::new_cpu(), Clock::default());
        for inputs in [5, 6, 7] {
            let mask = LearnedMask::new([64, inputs], None, 3.0, &clock, &device).unwrap();
            let hard = mask.hard().unwrap();
            assert!(hard.shape() == [64, inputs] && Pattern::TWO_OF_FOUR.is_exact(&hard).unwrap(), "{inputs}");
            let weight = Tensor::normal(0.0, 1.0, &[64, inputs], DType::F32, &device).unwrap();
            let prior = Pattern::TWO_OF_FOUR.mask(&weight.abs().unwrap()).unwrap();
            let mask = LearnedMask::new([64, inputs], Some(&prior), 10.0, &clock, &device).unwrap();
            assert_eq!(mask.hard().unwrap().to_vec::<f32>().unwrap(), prior.to_vec::<f32>().unwrap());
            clock.set(Some(Moment { scale: 100.0, temperature: 4.0, reward: 0.0 }));
            let soft = mask.matrix(&weight.ones_like().unwrap()).unwrap();
            let gradients = soft.sum_all().unwrap().backward().unwrap();
            let finite = mask.gates.gradient(&gradients).unwrap().to_f64_vec().unwrap().iter().all(|g| g.is_finite());
            assert!(soft.shape() == [64, inputs] && finite, "{inputs}");
            clock.set(None);
        }
    }

    #[test]
    fn priors_are_checked() {
        let (device, clock) = (Device::new_cpu(), Clock::default());
        let refuse = |sizes, prior: &Tensor| {
            LearnedMask::new(sizes, Some(prior), 3.0, &clock, &device).err().unwrap().to_string()
        };
        let ones = Tensor::ones(&[2, 8], DType::F32, &device).unwrap();
        assert!(refuse([2, 8], &ones).contains("2:4"));
        assert!(refuse([2, 4], &ones).contains("[2, 8]"));
    }
}
