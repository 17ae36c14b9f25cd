//! Training of learned masks: the weights stay, and the gates learn from the loss which of them to keep (MaskLLM, arXiv 2409.17481).

use wgrad::nn::{Module, Param};
use wgrad::optim::{Adam, Decay, Group, Optimizer, Rule, Schedule};
use wgrad::{Tensor, no_grad};

use super::one_shot::expect_some;
use crate::Result;
use crate::weights::{Clock, LearnedMask, Matrix, Moment, View, Views};

/// How gates are trained. The defaults are the paper's, apart from those that follow from the number of steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaskLlm {
    /// Steps.
    pub steps: u64,
    /// Highest learning rate of the gates; it falls along half a cosine to a tenth.
    pub lr: f64,
    /// Standard deviations of the gates that a prior mask is worth.
    pub prior: f64,
    /// Factor of the gates at the start and in the end.
    pub scale: [f64; 2],
    /// Temperature at the start and in the end.
    pub temperature: [f64; 2],
    /// Reward for what stays of the squared weights at the start; none in the end.
    pub reward: f64,
}

impl MaskLlm {
    /// The paper's settings, but for the learning rate, which is the higher the fewer steps there are: a gate can go as far in them as in
    /// 2,000 of the paper's, whose rate is 5e-4, but in one step no farther than about the standard deviation of new gates.
    pub fn new(steps: u64) -> Self {
        let lr = (1.0 / steps.max(1) as f64).min(0.01);
        MaskLlm { steps, lr, prior: 3.0, scale: [100.0, 500.0], temperature: [4.0, 0.05], reward: 1e-5 }
    }

    fn moment(&self, step: u64) -> Moment {
        let done = step as f64 / self.steps.max(1) as f64;
        let between = |[from, to]: [f64; 2]| from + (to - from) * done;
        Moment {
            scale: between(self.scale),
            temperature: between(self.temperature),
            reward: self.reward * (1.0 - done),
        }
    }
}

/// Masks of a model's matrices while they learn. The model sees them until this is dropped, and its own parameters get no gradients.
pub struct Learner {
    settings: MaskLlm,
    views: Views,
    clock: Clock,
    optimizer: Optimizer,
    _frozen: Frozen,
}

impl Learner {
    /// New gates for these matrices of a model, from `priors` in their order if there are any.
    ///
    /// # Errors
    /// If there are no matrices, a prior is no 2:4 mask, or memory is exhausted.
    pub fn new(
        settings: MaskLlm,
        model: &(impl Module + ?Sized),
        matrices: &[(String, Matrix)],
        priors: Option<&[Tensor]>,
    ) -> Result<Self> {
        expect_some(matrices)?;
        let clock = Clock::default();
        let mut number = 0;
        let views = Views::new(matrices.to_vec(), |_, matrix| {
            let prior = priors.and_then(|priors| priors.get(number));
            number += 1;
            let (shape, device) = ([matrix.outputs(), matrix.inputs()], matrix.param.device());
            let mask = LearnedMask::new(shape, prior, settings.prior, &clock, device)?;
            Ok(Some(Box::new(mask) as Box<dyn View>))
        })?;
        let adam = Adam { beta1: 0.9, beta2: 0.95, weight_decay: 0.1, ..Adam::default() };
        let optimizer = Optimizer::new(Rule::AdamW(adam), settings.lr, Group::of(&views))?.with_max_norm(1.0)?;
        Ok(Learner { settings, views, clock, optimizer, _frozen: Frozen::new(model) })
    }

    /// One step, of the loss that `loss` computes while the model sees soft masks. Returns it.
    ///
    /// # Errors
    /// If `loss` or the device fails.
    pub fn step(&mut self, step: u64, loss: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        let MaskLlm { steps, lr, .. } = self.settings;
        let schedule = Schedule { peak: lr, warmup: 0, total: steps, floor: 0.1, decay: Decay::Cosine };
        self.clock.set(Some(self.settings.moment(step)));
        self.views.show()?;
        let loss = loss()?;
        let whole = match self.views.penalty()? {
            Some(reward) => loss.add(&reward)?,
            None => loss.clone(),
        };
        self.optimizer.set_learning_rate(schedule.at(step))?;
        self.optimizer.step(&whole.backward()?)?;
        Ok(loss.detach())
    }

    /// Shows the model each group under the mask of its largest gate, until the next step.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn harden(&self) -> Result<()> {
        self.clock.set(None);
        no_grad(|| self.views.show())
    }

    /// Writes the weights under their hard masks into the model, and returns the masks.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn finish(self) -> Result<Vec<Tensor>> {
        self.clock.set(None);
        let masks = no_grad(|| self.views.of_ones())?;
        self.views.merge()?;
        Ok(masks)
    }
}

/// Parameters that get no gradients until this is dropped.
pub struct Frozen(Vec<Param>);

impl Frozen {
    /// Freezes those of a module that are not frozen already.
    pub fn new(module: &(impl Module + ?Sized)) -> Self {
        let params = module.named_parameters().into_iter().map(|(_, param)| param);
        let frozen: Vec<Param> = params.filter(Param::is_trainable).collect();
        frozen.iter().for_each(|param| param.set_trainable(false));
        Frozen(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.iter().for_each(|param| param.set_trainable(true));
    }
}

#[cfg(test)]
mod tests {
    use wgrad::nn::{Build, Visitor};
    use wgrad::{DType, Device};

    use super::*;
    use crate::weights::{Form, Linear, Pattern};

    struct One(Linear);

    impl Module for One {
        fn visit(&self, v: &mut Visitor<'_>) {
            v.module("0", &self.0);
        }
    }

    /// The best of all 6^4 masks of a row can be found by trying; the gates are to come close to it from the loss alone.
    #[test]
    fn gates_find_masks_that_are_better_than_those_of_the_largest_weights() {
        let device = Device::new_cpu();
        device.set_seed(2);
        let normal = |shape: &[usize]| Tensor::normal(0.0, 1.0, shape, DType::F32, &device).unwrap();
        let model = One(Linear::new(16, 8, false, Form::Rows, &Build::new(&device)).unwrap());
        let x = normal(&[256, 16]).matmul(&normal(&[16, 16])).unwrap();
        let y = model.0.forward(&x).unwrap().detach();
        let error = || Ok(model.0.forward(&x)?.sub(&y)?.square()?.mean_all()?);
        let matrices = Matrix::of_blocks(&model);
        let weight = matrices[0].1.rows().unwrap().detach();
        let prior = Pattern::TWO_OF_FOUR.mask(&weight.abs().unwrap()).unwrap();
        let prior = [prior];
        let mut learner = Learner::new(MaskLlm::new(200), &model, &matrices, Some(&prior)).unwrap();
        for step in 0..200 {
            learner.step(step, error).unwrap();
        }
        learner.harden().unwrap();
        let learned = error().unwrap().item().unwrap();
        let masks = learner.finish().unwrap();
        assert_eq!(error().unwrap().item().unwrap(), learned);
        assert!(Pattern::TWO_OF_FOUR.is_exact(&masks[0]).unwrap());
        assert_eq!(Pattern::TWO_OF_FOUR.most(&matrices[0].1.rows().unwrap()).unwrap(), 2);
        assert!(matrices[0].1.param.is_trainable());
        matrices[0].1.param.set(&weight.mul(&prior[0]).unwrap()).unwrap();
        let magnitude = error().unwrap().item().unwrap();
        assert!(learned < 0.7 * magnitude, "{learned}, by magnitude {magnitude}");
    }
}
