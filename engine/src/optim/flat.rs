//! Parameters of one dtype, laid end to end in one buffer, with their state beside them.

use std::mem;

use super::rule::Rule;
use crate::device::Kind;
use crate::nn::Param;
use crate::plane::Plane;
use crate::storage::Storage;
use crate::{DType, Device, Error, Gradients, Result, Tensor, profile};
use crate::{cpu::optim as cpu, kernels::optim as kernels};

const OP: &str = "Optimizer";
/// Every parameter starts at a multiple of this many elements: whole vectors for kernels, a cache line for a CPU.
const ALIGN: usize = 16;
/// A gradient of so many elements is read where it is, in a launch of its own, which then costs less than to copy it beside the others.
const ALONE: usize = 1 << 18;

pub(super) struct Slot {
    pub name: String,
    pub param: Param,
    offset: usize,
    /// Updates it has had; parameters without a gradient are passed over, as if they were not there.
    pub steps: u64,
}

/// Each [`Param`] of the group holds a view of `value`, or of `halves` where parameters are f16 or bf16 and `value` is their
/// f32 master. The gaps between parameters are zeros and stay zeros under every rule.
pub(super) struct Flat {
    /// In the order of the parameters' ids, so that locks are always taken in one order.
    pub slots: Vec<Slot>,
    lr_scale: f64,
    /// Weight decay, and that of weights which a 2:4 mask leaves out.
    decays: [f64; 2],
    dtype: DType,
    device: Device,
    value: Plane,
    halves: Option<Plane>,
    states: Vec<Plane>,
    /// Where a GPU gathers the gradients.
    gradient: Option<Plane>,
    /// Whether this step's gradients are all gathered there.
    together: bool,
}

/// The gradients of one step: index of the slot, and a dense gradient of the master's dtype.
pub(super) type Found = Vec<(usize, Tensor)>;

/// Neighbouring parameters that have a gradient and the same number of steps, or a large one: one launch.
struct Run<'a> {
    start: usize,
    end: usize,
    steps: u64,
    /// The gradient, where it is read where it is.
    alone: Option<&'a Tensor>,
}

impl Flat {
    pub fn new(mut params: Vec<(String, Param)>, lr_scale: f64, decays: [f64; 2], rule: &Rule) -> Result<Self> {
        params.sort_by_key(|(_, param)| param.id());
        let first = params.first().map(|(_, param)| (param.dtype(), param.device().clone()));
        let (dtype, device) = first.ok_or_else(|| Error::argument(OP, "a group without parameters"))?;
        let mut length = 0;
        let mut slots = Vec::with_capacity(params.len());
        for (name, param) in params {
            slots.push(Slot { name, offset: length, steps: 0, param });
            length = slots.last().map_or(length, Slot::end);
        }
        let master = if dtype.is_half() { DType::F32 } else { dtype };
        let plane = || Plane::zeros(length, master, &device);
        let states = rule.states().iter().map(|_| plane()).collect::<Result<_>>()?;
        let gradient = if device.is_gpu() { Some(plane()?) } else { None };
        let value = plane()?;
        let mut flat =
            Flat { slots, lr_scale, decays, dtype, device, value, halves: None, states, gradient, together: true };
        // All parameters are strangers now, and so are taken in.
        flat.change(|_| Ok(()))?;
        Ok(flat)
    }

    /// Runs `f` with exclusive use of the values, which first take in what was set from outside since.
    fn change(&mut self, f: impl FnOnce(&mut Flat) -> Result<()>) -> Result<()> {
        let params: Vec<Param> = self.slots.iter().map(|slot| slot.param.clone()).collect();
        let mut cells: Vec<_> = params.iter().map(Param::lock).collect();
        let empty = Tensor::zeros(&[0], self.dtype, &self.device)?;
        let seen = self.halves.as_ref().unwrap_or(&self.value);
        // While the cells hold nothing, nobody but a user's own tensor or a live graph shares the buffer.
        let strange: Vec<Option<Tensor>> = self
            .slots
            .iter()
            .zip(&mut cells)
            .map(|(slot, cell)| (slot.offset, mem::replace(&mut **cell, empty.clone())))
            .map(|(offset, tensor)| (!seen.holds(&tensor, offset)).then_some(tensor))
            .collect();
        let outcome = self.take_in(&strange).and_then(|()| f(self)).and_then(|()| self.round());
        for ((slot, cell), strange) in self.slots.iter().zip(&mut cells).zip(strange) {
            let seen = self.halves.as_ref().unwrap_or(&self.value);
            **cell = match strange {
                Some(own) if outcome.is_err() => own,
                _ => seen.view(slot.offset, slot.param.dims()),
            };
        }
        outcome
    }

    fn take_in(&mut self, strange: &[Option<Tensor>]) -> Result<()> {
        for (slot, tensor) in self.slots.iter().zip(strange) {
            if let Some(tensor) = tensor {
                self.value.write(slot.offset, tensor)?;
            }
        }
        Ok(())
    }

    /// The halves that the parameters show, rounded from the master.
    fn round(&mut self) -> Result<()> {
        if self.dtype.is_half() {
            self.halves = Some(Plane::of(&self.value.whole()?.cast(self.dtype)?));
        }
        Ok(())
    }

    /// The gradients of this group's parameters.
    pub fn find(&self, gradients: &Gradients) -> Result<Found> {
        let mut found = Vec::new();
        for (i, slot) in self.slots.iter().enumerate() {
            let Some(gradient) = slot.param.gradient(gradients) else { continue };
            if gradient.shape() != slot.param.shape() || gradient.dtype() != self.dtype {
                let message = format!(
                    "gradient of `{}` has shape {:?} and dtype {}, the parameter {:?} and {}",
                    slot.name,
                    gradient.shape(),
                    gradient.dtype(),
                    slot.param.shape(),
                    self.dtype
                );
                return Err(Error::shape(OP, message));
            }
            found.push((i, self.value.like(gradient)?));
        }
        Ok(found)
    }

    /// Brings the gradients of a GPU into one buffer: all `together`, or those that are not worth a launch of their own.
    pub fn gather(&mut self, found: &Found, together: bool) -> Result<()> {
        self.together = together;
        let Some(plane) = &mut self.gradient else { return Ok(()) };
        for (i, gradient) in found.iter().filter(|(_, gradient)| together || !is_alone(gradient)) {
            plane.write(self.slots[*i].offset, gradient)?;
        }
        Ok(())
    }

    /// Parts of the gradients of a GPU that belong to this step, in the order of the parameters.
    pub fn gathered<'a>(&'a self, found: &'a Found) -> Vec<kernels::Range<'a>> {
        let Some(plane) = self.gradient.as_ref().and_then(|plane| plane.gpu().ok()) else { return Vec::new() };
        let range = |run: &Run<'a>| match run.alone.map(|gradient| (gradient.storage(), gradient.layout().offset)) {
            Some((Storage::Gpu(plane), from)) => {
                kernels::Range { plane, start: from, end: from + run.end - run.start, value: run.start }
            }
            _ => kernels::Range { plane, start: run.start, end: run.end, value: run.start },
        };
        self.runs(found).iter().map(range).collect()
    }

    fn runs<'a>(&self, found: &'a Found) -> Vec<Run<'a>> {
        let mut runs: Vec<Run> = Vec::new();
        for (i, gradient) in found {
            let slot = &self.slots[*i];
            let steps = slot.steps;
            if !self.together && is_alone(gradient) {
                let (start, end) = (slot.offset, slot.offset + gradient.elements());
                runs.push(Run { start, end, steps, alone: Some(gradient) });
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == slot.offset && run.steps == steps && run.alone.is_none() => {
                    run.end = slot.end()
                }
                _ => runs.push(Run { start: slot.offset, end: slot.end(), steps, alone: None }),
            }
        }
        runs
    }

    /// One update of the parameters in `found`. `stats` holds the factor of the gradients, see [`kernels::Stats`].
    pub fn update(&mut self, rule: &Rule, learning_rate: f64, found: &Found, stats: &Tensor) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        self.change(|flat| {
            flat.value.make_exclusive()?;
            for state in &mut flat.states {
                state.make_exclusive()?;
            }
            match (flat.device.clone().kind(), flat.value.dtype()) {
                (Kind::Gpu(gpu), _) => flat.update_gpu(gpu, rule, learning_rate, found, stats),
                (Kind::Cpu(_), DType::F64) => flat.update_cpu::<f64>(rule, learning_rate, found, stats),
                (Kind::Cpu(_), _) => flat.update_cpu::<f32>(rule, learning_rate, found, stats),
            }
        })?;
        for (i, _) in found {
            self.slots[*i].steps += 1;
        }
        Ok(())
    }

    fn update_gpu(
        &self,
        gpu: &crate::device::gpu::Gpu,
        rule: &Rule,
        learning_rate: f64,
        found: &Found,
        stats: &Tensor,
    ) -> Result<()> {
        let states = self.states.iter().map(Plane::gpu).collect::<Result<Vec<_>>>()?;
        for (run, gradient) in self.runs(found).iter().zip(self.gathered(found)) {
            let scalars = rule.scalars(learning_rate * self.lr_scale, self.decays, run.steps + 1);
            kernels::update(gpu, rule.update(), self.value.gpu()?, &states, &gradient, stats, &scalars)?;
        }
        Ok(())
    }

    fn update_cpu<T: crate::cpu::Float>(
        &mut self,
        rule: &Rule,
        learning_rate: f64,
        found: &Found,
        stats: &Tensor,
    ) -> Result<()> {
        let [factor, _, wrong, _] = kernels::stats_of(stats)?;
        if wrong != 0.0 {
            return Ok(());
        }
        let mut segments = Vec::with_capacity(found.len());
        for (i, gradient) in found {
            let slot = &self.slots[*i];
            let scalars = rule.scalars(learning_rate * self.lr_scale, self.decays, slot.steps + 1);
            let gradient = gradient.cpu_slice::<T>(OP)?;
            segments.push(cpu::Segment { offset: slot.offset, gradient, scalars });
        }
        let states = self.states.iter_mut().map(Plane::cpu_mut).collect::<Result<Vec<_>>>()?;
        cpu::update::<T>(rule.update(), self.value.cpu_mut()?, states, &segments, factor);
        // Values and states are read and written in place; the gradients were counted when they were looked at.
        let moved = 2 * (1 + self.states.len()) * found.iter().map(|(_, gradient)| gradient.elements()).sum::<usize>();
        profile::made(OP, (moved * self.value.dtype().size()) as u64);
        Ok(())
    }

    /// State by parameter: the rule's own tensors, and the f32 master of halves.
    pub fn tensors(&self, rule: &Rule) -> Vec<(String, Tensor)> {
        let mut planes: Vec<(&str, &Plane)> = rule.states().iter().copied().zip(&self.states).collect();
        if self.dtype.is_half() {
            planes.push(("master", &self.value));
        }
        let of = |slot: &Slot| {
            planes
                .iter()
                .map(|(state, plane)| (format!("{}.{state}", slot.name), plane.view(slot.offset, slot.param.dims())))
                .collect::<Vec<_>>()
        };
        self.slots.iter().flat_map(of).collect()
    }

    /// Sets the state from what [`Flat::tensors`] gave, read back by `read(name, shape, dtype)`.
    pub fn set_tensors(&mut self, rule: &Rule, read: impl Fn(&str, &[usize], DType) -> Result<Tensor>) -> Result<()> {
        let master = self.value.dtype();
        let load = |slot: &Slot, state: &str| read(&format!("{}.{state}", slot.name), slot.param.shape(), master);
        self.change(|flat| {
            for (state, plane) in rule.states().iter().zip(&mut flat.states) {
                for slot in &flat.slots {
                    plane.write(slot.offset, &load(slot, state)?)?;
                }
            }
            if flat.dtype.is_half() {
                for slot in &flat.slots {
                    flat.value.write(slot.offset, &load(slot, "master")?)?;
                }
            }
            Ok(())
        })
    }
}

/// Whether a GPU reads a dense gradient where it is: whole vectors of a large one.
fn is_alone(gradient: &Tensor) -> bool {
    let whole = gradient.elements().is_multiple_of(4) && gradient.layout().offset.is_multiple_of(4);
    whole && gradient.elements() >= ALONE && matches!(gradient.storage(), Storage::Gpu(_))
}

impl Slot {
    /// Where the next parameter starts.
    fn end(&self) -> usize {
        (self.offset + self.param.elements()).next_multiple_of(ALIGN)
    }
}
