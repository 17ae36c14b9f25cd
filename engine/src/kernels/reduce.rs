//! Reduction kernels.

/// What a reduction computes of its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fold {
    Sum,
    SumAbs,
    SumSquares,
    Prod,
    Max,
    Min,
}

impl Fold {
    /// What is left to do with partial results.
    pub fn rest(self) -> Fold {
        match self {
            Fold::SumAbs | Fold::SumSquares => Fold::Sum,
            other => other,
        }
    }
}

/// A contiguous tensor seen as `[outer, n, inner]`, of which the middle is reduced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    pub outer: usize,
    pub n: usize,
    pub inner: usize,
}
