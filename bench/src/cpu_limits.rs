//! Limits of the CPU: a copy and multiply-adds in registers on all cores.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Bytes in a second of a copy of 64 MiB, read and written together.
pub fn copy() -> f64 {
    let bytes = 64usize << 20;
    let from = vec![1u8; bytes];
    let mut to = vec![0u8; bytes];
    let piece = bytes.div_ceil(threads());
    let mut best = f64::INFINITY;
    for _ in 0..8 {
        let begun = Instant::now();
        thread::scope(|scope| {
            for (to, from) in to.chunks_mut(piece).zip(from.chunks(piece)) {
                scope.spawn(move || to.copy_from_slice(from));
            }
        });
        best = best.min(begun.elapsed().as_secs_f64());
        black_box(&to);
    }
    2.0 * bytes as f64 / best
}

/// Sums that are advanced side by side.
const SUMS: usize = 12;
/// Lanes of a sum: a register of AVX-512, two or four registers of others.
const LANES: usize = 16;
const ROUNDS: usize = 400_000;

/// f32 operations in a second; a multiply-add is two.
pub fn flops() -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let begun = Instant::now();
        thread::scope(|scope| {
            for _ in 0..threads() {
                scope.spawn(|| black_box(multiply_add(black_box(0.999), black_box(0.1))));
            }
        });
        best = best.min(begun.elapsed().as_secs_f64());
    }
    (2 * SUMS * LANES * ROUNDS * threads()) as f64 / best
}

fn multiply_add(a: f32, b: f32) -> f32 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature was detected.
            return unsafe { multiply_add_avx512(a, b) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: both features were detected.
            return unsafe { multiply_add_avx2(a, b) };
        }
    }
    // Without such an instruction, as on the oldest x86, a product and a sum are two operations as well.
    if cfg!(target_arch = "x86_64") { rounds::<false>(a, b) } else { rounds::<true>(a, b) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn multiply_add_avx512(a: f32, b: f32) -> f32 {
    rounds::<true>(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_add_avx2(a: f32, b: f32) -> f32 {
    rounds::<true>(a, b)
}

/// Inlined into callers that may use wider instructions; no closure, which would not be.
#[inline(always)]
fn rounds<const FUSED: bool>(a: f32, b: f32) -> f32 {
    let mut sums = [[1.0f32; LANES]; SUMS];
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            for lane in sum {
                *lane = if FUSED { lane.mul_add(a, b) } else { *lane * a + b };
            }
        }
    }
    sums.iter().flatten().sum()
}
