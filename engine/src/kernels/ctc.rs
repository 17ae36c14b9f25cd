//! Kernels of connectionist temporal classification: a workgroup for each sample, a launch for each tile of states.

use super::{gpu_of, size};
use crate::device::gpu::{Bind, Launch};
use crate::ops::ctc::States;
use crate::{DType, Error, Result, Tensor};

/// States of a launch: invocations of a workgroup. A software driver runs them one after the other.
fn tile(op: &'static str, states: &States) -> Result<usize> {
    Ok(if gpu_of(op, &states.emissions)?.caps().software { 32 } else { 256 })
}

/// What all launches share.
struct Problem<'a> {
    op: &'static str,
    states: &'a States,
    lengths: Tensor,
    tile: usize,
}

impl<'a> Problem<'a> {
    fn new(op: &'static str, states: &'a States) -> Result<Self> {
        let e = &states.emissions;
        let gpu = gpu_of(op, e)?;
        let (bytes, limit) = (e.dtype().gpu_bytes(e.elements()), gpu.caps().max_binding_bytes);
        if bytes > limit {
            return Err(Error::TooLarge { op, bytes, limit });
        }
        let lengths: Vec<u32> = states.lengths.iter().flatten().map(|&n| n as u32).collect();
        let lengths = Tensor::from_vec(lengths, &[2 * states.lengths.len()], e.device())?;
        Ok(Problem { op, states, lengths, tile: tile(op, states)? })
    }

    /// Launches `kernel` for the states from `first` on; `rest` follows the bindings that both kernels have.
    fn run(&self, kernel: &'static str, first: usize, rest: &[Bind<'_>]) -> Result<()> {
        let [samples, time, states] = self.states.sizes()?;
        let params = [samples, time, states, first];
        let params = params.map(|n| size(self.op, n)).into_iter().collect::<Result<Vec<u32>>>()?;
        let mut bind = Vec::new();
        for x in [&self.states.emissions, &self.states.labels, &self.lengths] {
            bind.push(Bind::Read(x.gpu_buffer(self.op)?));
        }
        bind.extend_from_slice(rest);
        gpu_of(self.op, &self.lengths)?.run(Launch {
            kernel,
            elems: &[],
            constants: &[("WORKGROUP", self.tile as f64)],
            bind: &bind,
            params: bytemuck::cast_slice(&params),
            groups: samples as u64,
        })
    }

    fn uninit(&self) -> Result<Tensor> {
        Tensor::gpu_uninit(self.op, self.states.emissions.dims(), DType::F32, self.lengths.device())
    }
}

pub(crate) fn forward(op: &'static str, states: &States) -> Result<Tensor> {
    let problem = Problem::new(op, states)?;
    let alpha = problem.uninit()?;
    for first in (0..states.sizes()?[2]).step_by(problem.tile) {
        problem.run("ctc/forward", first, &[Bind::Write(alpha.gpu_buffer(op)?)])?;
    }
    Ok(alpha)
}

pub(crate) fn backward(
    op: &'static str,
    states: &States,
    alpha: &Tensor,
    total: &Tensor,
    dloss: &Tensor,
) -> Result<Tensor> {
    let problem = Problem::new(op, states)?;
    let (next, de) = (problem.uninit()?, problem.uninit()?);
    // The kernel reads both from the start of a buffer.
    let (total, dloss) = (from_start(total)?, from_start(dloss)?);
    let tiles: Vec<usize> = (0..states.sizes()?[2]).step_by(problem.tile).collect();
    for &first in tiles.iter().rev() {
        let reads = [alpha, &total, &dloss];
        let reads = reads.map(|x| x.gpu_buffer(op).map(Bind::Read)).into_iter().collect::<Result<Vec<_>>>()?;
        let writes = [Bind::Write(next.gpu_buffer(op)?), Bind::Write(de.gpu_buffer(op)?)];
        problem.run("ctc/backward", first, &[&reads[..], &writes[..]].concat())?;
    }
    Ok(de)
}

fn from_start(x: &Tensor) -> Result<Tensor> {
    if x.layout().offset == 0 && x.is_contiguous() { Ok(x.clone()) } else { x.copy() }
}
