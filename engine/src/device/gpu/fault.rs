//! Indices out of range that a kernel met: noted in a small buffer, reported by the next call that waits.

use std::sync::Arc;

use super::{Gpu, GpuBuffer, lock};
use crate::{Error, Result};

/// Bytes of the note: whether there is one, code, index, size. `shaders/common/fault.wgsl` writes it.
pub(super) const FAULT_BYTES: u64 = 16;

/// What is needed to read the note.
#[derive(Default)]
pub(super) struct Faults {
    note: Option<Arc<GpuBuffer>>,
    ops: Vec<&'static str>,
    /// Whether a kernel that may write the note was recorded since it was last read.
    armed: bool,
}

impl Gpu {
    /// The buffer for a kernel of `op` to note an index out of range in, to be bound for writing, and the code that the kernel
    /// notes with it. `signed` says whether the index is an i32.
    pub fn fault(self: &Arc<Self>, op: &'static str, signed: bool) -> Result<(Arc<GpuBuffer>, u32)> {
        let known = lock(&self.faults).note.clone();
        let note = match known {
            Some(note) => note,
            None => {
                let note = self.alloc("fault", FAULT_BYTES)?;
                self.fill(&note, 0)?;
                note
            }
        };
        let mut faults = lock(&self.faults);
        // Another thread may have made one meanwhile.
        let note = faults.note.get_or_insert(note).clone();
        let place = faults.ops.iter().position(|&known| known == op).unwrap_or_else(|| {
            faults.ops.push(op);
            faults.ops.len() - 1
        });
        faults.armed = true;
        Ok((note, 2 * place as u32 + u32::from(signed)))
    }

    /// The note, if it may have been written since it was last asked for.
    pub(super) fn armed_fault(&self) -> Option<Arc<GpuBuffer>> {
        let mut faults = lock(&self.faults);
        if std::mem::take(&mut faults.armed) { faults.note.clone() } else { None }
    }

    /// Turns a note that was read into an error, and wipes it.
    pub(super) fn report_fault(&self, note: &Arc<GpuBuffer>, bytes: &[u8]) -> Result<()> {
        let word = |i: usize| bytes.chunks_exact(4).nth(i).map_or(0, bytemuck::pod_read_unaligned::<u32>);
        if word(0) == 0 {
            return Ok(());
        }
        self.fill(note, 0)?;
        let (code, index, size) = (word(1), word(2), word(3) as usize);
        let op = lock(&self.faults).ops.get(code as usize / 2).copied().unwrap_or("index");
        let index = if code % 2 == 1 { i64::from(index as i32) } else { i64::from(index) };
        Err(Error::Index { op, index, size })
    }
}
