//! The GPU side of each family: which kernel, which variant, which parameters, which grid.

pub(crate) mod elementwise;
pub(crate) mod index;
pub(crate) mod join;
pub(crate) mod random;
pub(crate) mod reduce;
pub(crate) mod sort;
