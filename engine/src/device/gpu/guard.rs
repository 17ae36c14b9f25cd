//! Guard words behind buffers: a kernel that writes past the end of its output is found.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Bind, Gpu, GpuBuffer, Launch};
use crate::{Error, Result};

/// Bytes behind each buffer's content that nobody may write.
pub(super) const GUARD_BYTES: u64 = 64;
/// A NaN as f32, as two f16 and as two bf16, so that memory read before it was written shows up as well.
pub(super) const GUARD_WORD: u32 = 0x7fc1_7fc1;

impl Gpu {
    /// Fills a buffer with a 32-bit word.
    pub fn fill(&self, buffer: &Arc<GpuBuffer>, word: u32) -> Result<()> {
        self.fill_to(buffer, buffer.padded_bytes(), word)
    }

    /// Fills the first `bytes` of the memory of a buffer, whatever the buffer itself takes of it.
    pub(super) fn fill_to(&self, buffer: &Arc<GpuBuffer>, bytes: u64, word: u32) -> Result<()> {
        if bytes <= self.caps.max_binding_bytes {
            return self.fill_part(buffer, bytes, word);
        }
        // Windows begin at multiples of 256.
        let step = self.caps.max_binding_bytes & !255;
        let mut start = 0;
        while start < bytes {
            let length = step.min(bytes - start);
            self.fill_part(&buffer.window(start, length), length, word)?;
            start += length;
        }
        Ok(())
    }

    fn fill_part(&self, buffer: &GpuBuffer, bytes: u64, word: u32) -> Result<()> {
        let count = bytes / 16;
        self.run(Launch {
            kernel: "util/fill",
            elems: &[],
            constants: &[],
            bind: &[Bind::Write(buffer.into())],
            // A binding holds less than 64 GiB, so the number of vec4s fits.
            params: bytemuck::bytes_of(&[count as u32, word]),
            groups: count.div_ceil(256),
        })
    }

    /// With guards on, checks that nobody wrote past the end of a live buffer; names the operation that allocated it.
    pub fn check_guards(&self) -> Result<()> {
        let guarded = self.pool.guarded();
        let pieces: Vec<_> = guarded.iter().map(|g| (&*g.physical, g.end, GUARD_BYTES)).collect();
        let bytes = self.gather("check_guards", &pieces)?;
        // Another thread may have dropped a buffer since, and its memory may serve anew: only what still lives counts.
        let live: BTreeSet<u64> = self.pool.guarded().iter().map(|g| g.serial).collect();
        for (guard, found) in guarded.iter().zip(bytes.chunks(GUARD_BYTES as usize)) {
            let damaged = found.chunks(4).position(|word| word != GUARD_WORD.to_le_bytes());
            if let Some(word) = damaged.filter(|_| live.contains(&guard.serial)) {
                let message = format!(
                    "something wrote {} bytes past the end of a buffer of {} bytes that this operation allocated",
                    word * 4,
                    guard.end
                );
                return Err(Error::Kernel { kernel: guard.op.to_string(), message });
            }
        }
        Ok(())
    }
}
