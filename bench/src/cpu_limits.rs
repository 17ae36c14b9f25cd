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

/// Sums that are advanced side by side, so that no multiply-add waits for the one before.
const SUMS: usize = 12;
const ROUNDS: usize = 1 << 20;

/// f32 operations in a second; a multiply-add is two.
pub fn flops() -> f64 {
    let (run, lanes) = kernel();
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let begun = Instant::now();
        thread::scope(|scope| {
            for _ in 0..threads() {
                scope.spawn(|| black_box(run(black_box(0.999), black_box(0.1))));
            }
        });
        best = best.min(begun.elapsed().as_secs_f64());
    }
    (2 * SUMS * lanes * ROUNDS * threads()) as f64 / best
}

/// The widest multiply-adds that this processor has, and their lanes.
fn kernel() -> (fn(f32, f32) -> f32, usize) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature was detected.
            return (|a, b| unsafe { x86::avx512(a, b) }, 16);
        }
        if is_x86_feature_detected!("avx") && is_x86_feature_detected!("fma") {
            // SAFETY: both features were detected.
            return (|a, b| unsafe { x86::fma(a, b) }, 8);
        }
    }
    (portable, 4)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm256_add_ps, _mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps, _mm512_add_ps, _mm512_cvtss_f32,
        _mm512_fmadd_ps, _mm512_set1_ps,
    };

    use super::{ROUNDS, SUMS};

    #[target_feature(enable = "avx512f")]
    pub fn avx512(a: f32, b: f32) -> f32 {
        let (a, b) = (_mm512_set1_ps(a), _mm512_set1_ps(b));
        let mut sums = [b; SUMS];
        for _ in 0..ROUNDS {
            sums = sums.map(|sum| _mm512_fmadd_ps(sum, a, b));
        }
        _mm512_cvtss_f32(sums.into_iter().fold(a, |x, y| _mm512_add_ps(x, y)))
    }

    #[target_feature(enable = "avx,fma")]
    pub fn fma(a: f32, b: f32) -> f32 {
        let (a, b) = (_mm256_set1_ps(a), _mm256_set1_ps(b));
        let mut sums = [b; SUMS];
        for _ in 0..ROUNDS {
            sums = sums.map(|sum| _mm256_fmadd_ps(sum, a, b));
        }
        _mm256_cvtss_f32(sums.into_iter().fold(a, |x, y| _mm256_add_ps(x, y)))
    }
}

/// Left to the compiler to make vectors of. Where a multiply-add is no instruction, a product and a sum are two as well.
fn portable(a: f32, b: f32) -> f32 {
    let mut sums = [[b; 4]; SUMS];
    for _ in 0..ROUNDS {
        sums = sums
            .map(|sum| sum.map(|lane| if cfg!(target_arch = "aarch64") { lane.mul_add(a, b) } else { lane * a + b }));
    }
    sums.iter().flatten().sum()
}
