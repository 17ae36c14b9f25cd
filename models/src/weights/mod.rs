//! Linear layers, and what their matrices are seen as: a view stands between a parameter and the layer that reads it.

mod difference;
mod linear;
mod low_rank;
mod view;

pub use difference::SparseDifference;
pub use linear::{Form, Linear, Matrix};
pub use low_rank::{LowRank, LowRankConfig, Targets};
pub use view::{View, Views};
