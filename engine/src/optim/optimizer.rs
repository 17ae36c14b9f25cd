//! The optimizer: groups of parameters, the norm over all of them, and their state in checkpoints.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use super::flat::{Flat, Found};
use super::rule::not_negative;
use super::{Group, LossScaler, Rule};
use crate::io::Weights;
use crate::kernels::optim as kernels;
use crate::nn::Param;
use crate::{DType, Device, Error, Gradients, Result, Tensor, no_grad};

const OP: &str = "Optimizer::new";

/// Updates parameters from gradients.
///
/// The parameters of a group are laid end to end in one buffer, so a step is one kernel a group, in place. Tensors that were taken
/// from a parameter before, and graphs that hold them, never change: if there are any, the step goes to a fresh buffer.
/// Parameters of f16 and bf16 are updated in f32 and rounded.
///
/// ```
/// use wgrad::nn::{Build, Linear, Module};
/// use wgrad::optim::{Adam, Group, Optimizer, Rule};
/// # fn main() -> wgrad::Result<()> {
/// let device = wgrad::Device::cpu();
/// let layer = Linear::new(2, 1, true, &Build::new(&device))?;
/// let rule = Rule::AdamW(Adam::default());
/// let mut optimizer = Optimizer::new(rule, 1e-3, Group::of(&layer))?.with_max_norm(1.0)?;
/// let x = wgrad::Tensor::ones(&[4, 2], wgrad::DType::F32, &device)?;
/// let loss = layer.forward(&x)?.square()?.mean_all()?;
/// let report = optimizer.step(&loss.backward()?)?;
/// println!("norm of the gradient: {}", report.grad_norm.unwrap().item()?);
/// # Ok(())
/// # }
/// ```
pub struct Optimizer {
    rule: Rule,
    learning_rate: f64,
    max_norm: Option<f64>,
    device: Device,
    flats: Vec<Flat>,
    /// What update kernels read where no norm was computed: a factor of 1.
    unscaled: Tensor,
    skipped: Option<Skipped>,
}

/// Steps of which only a GPU knows how many it skipped, because their gradients were not finite.
struct Skipped {
    /// Of one element, changed in place.
    count: Tensor,
    /// The parameters that took part in all of them, by group. Their numbers of steps count the skipped ones too.
    slots: Vec<Vec<usize>>,
}

/// What a step did.
#[derive(Clone)]
pub struct StepReport {
    /// 2-norm of all gradients together before clipping, a tensor of one element (on the device: nothing waits for it), where a
    /// `max_norm` or a loss scaler asked for it.
    pub grad_norm: Option<Tensor>,
    /// 1 if gradients were not finite, so that the step changed nothing, else 0: of one element and on the device, where a `max_norm`
    /// or a loss scaler looked.
    pub skipped: Option<Tensor>,
}

impl Optimizer {
    /// An optimizer of these groups. From now on their parameters are views of common buffers.
    ///
    /// # Errors
    /// If a setting is out of its domain, there is no parameter, two groups share one, two bear the same name, or they are on
    /// different devices.
    pub fn new(rule: Rule, learning_rate: f64, groups: Vec<Group>) -> Result<Self> {
        rule.check()?;
        not_negative(OP, "learning rate", learning_rate)?;
        let first = groups.iter().flat_map(|g| &g.params).next();
        let device = first.ok_or_else(|| Error::argument(OP, "no parameters"))?.1.device().clone();
        let (mut ids, mut names) = (HashSet::new(), HashSet::new());
        let mut flats = Vec::new();
        for group in groups {
            let weight_decay = group.weight_decay.unwrap_or(rule.weight_decay());
            not_negative(OP, "weight decay of a group", weight_decay)?;
            not_negative(OP, "learning rate scale of a group", group.lr_scale)?;
            let sr_ste = group.sr_ste;
            not_negative(OP, "SR-STE decay of a group", sr_ste)?;
            if sr_ste > 0.0 && matches!(rule, Rule::Lion(_)) {
                return Err(Error::argument(OP, "Lion has no SR-STE decay: it looks at signs alone"));
            }
            for (name, param) in &group.params {
                let fours = param.shape().last().is_some_and(|last| last.is_multiple_of(4));
                if sr_ste > 0.0 && (!fours || param.has_columns()) {
                    let shape = param.shape();
                    let message = format!(
                        "parameter `{name}` of shape {shape:?} has an SR-STE decay, but no fours of inputs along its last axis"
                    );
                    return Err(Error::argument(OP, message));
                }
                if !param.device().same(&device) {
                    let (left, right) = (device.to_string(), param.device().to_string());
                    return Err(Error::DeviceMismatch { op: OP, left, right });
                }
                if !ids.insert(param.id()) || !names.insert(name.clone()) {
                    return Err(Error::argument(OP, format!("parameter `{name}` is there twice")));
                }
            }
            for params in pieces(group.params, &device) {
                flats.push(Flat::new(params, group.lr_scale, [weight_decay, sr_ste], &rule)?);
            }
        }
        let unscaled = kernels::stats(&device, [1.0, 0.0, 0.0, 0.0])?;
        Ok(Optimizer { rule, learning_rate, max_norm: None, device, flats, unscaled, skipped: None })
    }

    /// Clips gradients so that their common 2-norm is at most `max_norm`: multiplies them by
    /// `min(1, max_norm / (norm + 1e-6))`. A step whose norm is not finite then changes no parameter.
    ///
    /// # Errors
    /// If `max_norm` is not a finite number from 0 up.
    pub fn with_max_norm(self, max_norm: f64) -> Result<Self> {
        not_negative("Optimizer::with_max_norm", "max_norm", max_norm)?;
        Ok(Optimizer { max_norm: Some(max_norm), ..self })
    }

    /// The learning rate of the next step.
    pub fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    /// Sets the learning rate of the next step, mostly from a [`super::Schedule`].
    ///
    /// # Errors
    /// If it is not a finite number from 0 up.
    pub fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        not_negative("Optimizer::set_learning_rate", "learning rate", learning_rate)?;
        self.learning_rate = learning_rate;
        Ok(())
    }

    /// The device of the parameters.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// One update. Parameters without a gradient stay as they are.
    ///
    /// # Errors
    /// If a gradient does not fit its parameter, or memory is exhausted.
    pub fn step(&mut self, gradients: &Gradients) -> Result<StepReport> {
        no_grad(|| {
            self.settle()?;
            let found = self.gather(gradients, self.max_norm.is_some())?;
            let stats = match self.max_norm {
                Some(_) => Some(self.norm(&found, self.max_norm, 1.0)?),
                None => None,
            };
            self.update(&found, stats)
        })
    }

    /// One update from gradients of a scaled loss (see [`LossScaler::backward`]). If any is not finite, nothing changes but the
    /// scale, which a GPU decides by itself: nothing waits for it.
    ///
    /// # Errors
    /// As [`Optimizer::step`].
    pub fn step_scaled(&mut self, gradients: &Gradients, scaler: &mut LossScaler) -> Result<StepReport> {
        no_grad(|| {
            let found = self.gather(gradients, true)?;
            if self.device.is_gpu() {
                let raw = self.norm(&found, None, 1.0)?;
                let skipped = self.skipped(&found)?;
                let stats = scaler.step_on_device(&raw, bounded(self.max_norm), &skipped)?;
                return self.update(&found, Some(stats));
            }
            let stats = self.norm(&found, self.max_norm, scaler.scale()?)?;
            let finite = kernels::stats_of(&stats)?[2] == 0.0;
            scaler.update(finite)?;
            match finite {
                true => self.update(&found, Some(stats)),
                false => report(Some(&stats)),
            }
        })
    }

    /// The number of steps that the device skipped, all of them with gradients for the same parameters as now.
    fn skipped(&mut self, found: &[Found]) -> Result<Tensor> {
        let slots: Vec<Vec<usize>> = found.iter().map(|found| found.iter().map(|(i, _)| *i).collect()).collect();
        if self.skipped.as_ref().is_some_and(|skipped| skipped.slots != slots) {
            self.settle()?;
        }
        if let Some(skipped) = &self.skipped {
            return Ok(skipped.count.clone());
        }
        let count = Tensor::zeros(&[1], DType::F32, &self.device)?;
        self.skipped = Some(Skipped { count: count.clone(), slots });
        Ok(count)
    }

    /// Takes the skipped steps out of the numbers of steps. Waits for the device, if it may have skipped any.
    fn settle(&mut self) -> Result<()> {
        if let Some(skipped) = self.skipped.take() {
            let count = skipped.count.item()? as u64;
            for (flat, slots) in self.flats.iter_mut().zip(&skipped.slots) {
                slots.iter().for_each(|&i| flat.slots[i].steps = flat.slots[i].steps.saturating_sub(count));
            }
        }
        Ok(())
    }

    /// The gradients; `together` where their norm is asked for, whose partial sums are as many for each launch.
    fn gather(&mut self, gradients: &Gradients, together: bool) -> Result<Vec<Found>> {
        let found: Vec<Found> = self.flats.iter().map(|flat| flat.find(gradients)).collect::<Result<_>>()?;
        for (flat, found) in self.flats.iter_mut().zip(&found) {
            flat.gather(found, together)?;
        }
        Ok(found)
    }

    /// Factor and norm of gradients that are `scale` times too large.
    fn norm(&self, found: &[Found], max_norm: Option<f64>, scale: f64) -> Result<Tensor> {
        let max_norm = bounded(max_norm);
        match self.device.gpu_ref() {
            Some(_) => {
                let ranges: Vec<_> = self.flats.iter().zip(found).flat_map(|(flat, f)| flat.gathered(f)).collect();
                kernels::norm(&self.device, &ranges, max_norm, scale)
            }
            None => {
                let gradients: Vec<&Tensor> = found.iter().flatten().map(|(_, gradient)| gradient).collect();
                let stats = crate::cpu::optim::norm(&gradients, max_norm, scale)?;
                crate::profile::made("Optimizer", 0);
                kernels::stats(&self.device, stats)
            }
        }
    }

    fn update(&mut self, found: &[Found], stats: Option<Tensor>) -> Result<StepReport> {
        let seen = stats.as_ref().unwrap_or(&self.unscaled);
        for (flat, found) in self.flats.iter_mut().zip(found) {
            flat.update(&self.rule, self.learning_rate, found, seen)?;
        }
        report(stats.as_ref())
    }

    /// The state as tensors under the parameters' names (`encoder.weight.mean`), for a checkpoint.
    pub fn state_tensors(&self) -> Vec<(String, Tensor)> {
        self.flats.iter().flat_map(|flat| flat.tensors(&self.rule)).collect()
    }

    /// The rest of the state: the rule, the learning rate, and how many updates each parameter had. Waits for the device after scaled
    /// steps.
    ///
    /// # Errors
    /// If the device failed.
    pub fn state_numbers(&self) -> Result<Value> {
        let slots = self.flats.iter().flat_map(|flat| &flat.slots);
        let mut steps: BTreeMap<&str, u64> = slots.map(|slot| (slot.name.as_str(), slot.steps)).collect();
        if let Some(skipped) = &self.skipped {
            let count = skipped.count.item()? as u64;
            for (flat, slots) in self.flats.iter().zip(&skipped.slots) {
                for &i in slots {
                    steps.insert(&flat.slots[i].name, flat.slots[i].steps.saturating_sub(count));
                }
            }
        }
        Ok(json!({ "rule": self.rule.name(), "learning_rate": self.learning_rate, "steps": steps }))
    }

    /// Goes back to a saved state: what [`Optimizer::state_tensors`] and [`Optimizer::state_numbers`] gave. The parameters
    /// themselves are loaded before, by [`crate::nn::Module::load`].
    ///
    /// # Errors
    /// If the state is of another rule or of other parameters: names what does not fit.
    pub fn load_state(&mut self, tensors: &Weights, numbers: &Value) -> Result<()> {
        let refuse = |message: String| Error::file(tensors.path(), format!("optimizer state {message}"));
        if numbers["rule"] != self.rule.name() {
            return Err(refuse(format!("is of rule {}, this optimizer is {}", numbers["rule"], self.rule.name())));
        }
        let rate = numbers["learning_rate"].as_f64().ok_or_else(|| refuse("has no number `learning_rate`".into()))?;
        let saved = numbers["steps"].as_object().ok_or_else(|| refuse("has no object `steps`".into()))?;
        let mut steps = Vec::new();
        for slot in self.flats.iter().flat_map(|flat| &flat.slots) {
            let number = saved.get(&slot.name).and_then(Value::as_u64);
            steps.push(number.ok_or_else(|| refuse(format!("has no steps of parameter `{}`", slot.name)))?);
        }
        if let Some(name) = saved.keys().find(|name| !self.has(name)) {
            return Err(refuse(format!("has a parameter `{name}` that this optimizer lacks")));
        }
        for flat in &mut self.flats {
            let read = |name: &str, shape: &[usize], dtype| tensors.tensor_like(name, shape, dtype, &self.device);
            flat.set_tensors(&self.rule, read)?;
        }
        self.skipped = None;
        for (slot, steps) in self.flats.iter_mut().flat_map(|flat| &mut flat.slots).zip(steps) {
            slot.steps = steps;
        }
        self.set_learning_rate(rate)
    }

    fn has(&self, name: &str) -> bool {
        self.flats.iter().flat_map(|flat| &flat.slots).any(|slot| slot.name == name)
    }
}

/// The norm to clip to, far from where the kernel's f32 would overflow when it divides by a small norm.
fn bounded(max_norm: Option<f64>) -> f64 {
    max_norm.unwrap_or(f64::INFINITY).min(1e30)
}

fn report(stats: Option<&Tensor>) -> Result<StepReport> {
    let number = |i| stats.map(|stats| stats.select(0, i)).transpose();
    Ok(StepReport { grad_norm: number(1)?, skipped: number(2)? })
}

/// Splits a group into parameters of one dtype that fit into one buffer of the device.
fn pieces(params: Vec<(String, Param)>, device: &Device) -> Vec<Vec<(String, Param)>> {
    let most = device.gpu_ref().map_or(u64::MAX, |gpu| gpu.caps().max_binding_bytes / 2);
    let mut pieces: Vec<(u64, Vec<(String, Param)>)> = Vec::new();
    for (name, param) in params {
        let bytes = 4 * param.elements() as u64 + 64;
        let fits = |(used, piece): &&mut (u64, Vec<(String, Param)>)| {
            used.saturating_add(bytes) <= most && piece.first().is_some_and(|(_, p)| p.dtype() == param.dtype())
        };
        match pieces.iter_mut().find(fits) {
            Some((used, piece)) => {
                *used += bytes;
                piece.push((name, param));
            }
            None => pieces.push((bytes, vec![(name, param)])),
        }
    }
    pieces.into_iter().map(|(_, piece)| piece).collect()
}
