//! Comparing results.

use wgrad::{DType, Error};

/// How far a result may be from what it should be: `|got - want| <= atol + rtol * |want|`.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// Absolute part.
    pub atol: f64,
    /// Part relative to the wanted value.
    pub rtol: f64,
}

impl Tolerance {
    /// What two honest computations in `dtype` of values up to `largest` may differ by. Halves are computed in f32 on both
    /// sides and rounded once, so they may differ by one unit in the last place.
    pub fn of(dtype: DType, largest: f64) -> Self {
        let rtol = match dtype {
            DType::F64 => 1e-12,
            DType::F16 => 1.1 / 1024.0,
            DType::BF16 => 1.1 / 128.0,
            _ => 1e-5,
        };
        let atol = if dtype.is_half() { 0.02 * rtol } else { 0.2 * rtol };
        Tolerance { atol: atol * largest.max(1e-3), rtol }
    }

    /// A tolerance `factor` times as wide.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Tolerance { atol: self.atol * factor, rtol: self.rtol * factor }
    }
}

/// The worst element where two results differ beyond the tolerance, in words.
///
/// # Errors
/// If they differ: names the number of wrong elements and the worst one.
pub fn compare(got: &[f64], want: &[f64], tolerance: Tolerance) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{} elements, expected {}", got.len(), want.len()));
    }
    let mut wrong = 0;
    let mut worst = (0.0, 0);
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        if g == w || (g.is_nan() && w.is_nan()) {
            continue;
        }
        let excess = (g - w).abs() / (tolerance.atol + tolerance.rtol * w.abs());
        // A NaN, an infinity, and a difference where none is allowed count as infinitely wrong.
        let excess = if excess.is_nan() { f64::INFINITY } else { excess };
        if excess > 1.0 {
            wrong += 1;
            if excess > worst.0 {
                worst = (excess, i);
            }
        }
    }
    if wrong == 0 {
        return Ok(());
    }
    let (excess, i) = worst;
    let (g, w) = (got[i], want[i]);
    Err(format!(
        "{wrong} of {} elements differ; worst is element {i}: got {g:e}, want {w:e}, difference {:e}, {excess:.1} times the tolerance",
        got.len(),
        (g - w).abs()
    ))
}

/// Asserts that `|got - want| <= atol + rtol * |want|` for all elements. NaN equals NaN.
#[track_caller]
pub fn assert_close(op: &str, got: &[f64], want: &[f64], atol: f64, rtol: f64) {
    if let Err(message) = compare(got, want, Tolerance { atol, rtol }) {
        panic!("{op}: {message}");
    }
}

/// Asserts that two slices are equal, and names the first element where they are not.
#[track_caller]
pub fn assert_equal<T: PartialEq + std::fmt::Debug>(op: &str, got: &[T], want: &[T]) {
    assert_eq!(got.len(), want.len(), "{op}: number of elements");
    if let Some(i) = (0..got.len()).find(|&i| got[i] != want[i]) {
        panic!("{op}: element {i} is {:?}, expected {:?}", got[i], want[i]);
    }
}

/// Asserts that `result` is an error whose sentence contains all of `words`: the operation, what came, what was expected.
#[track_caller]
pub fn expect_error<T>(result: wgrad::Result<T>, words: &[&str]) -> Error {
    let Err(error) = result else { panic!("expected an error with {words:?}, got a result") };
    let sentence = error.to_string();
    for word in words {
        assert!(sentence.contains(word), "{word:?} is missing in the error {sentence:?}");
    }
    error
}
