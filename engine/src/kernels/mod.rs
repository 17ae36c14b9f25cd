//! The GPU side of each family: which kernel, which variant, which parameters, which grid.

pub(crate) mod elementwise;
pub(crate) mod reduce;
