//! Linear layers, and what their matrices are seen as: a view stands between a parameter and the layer that reads it.

mod difference;
mod learned_mask;
mod linear;
mod low_rank;
mod mask;
mod pattern;
mod singular;
mod view;

pub use difference::SparseDifference;
pub use learned_mask::{Clock, LearnedMask, Moment};
pub use linear::{Form, Linear, Matrix};
pub use low_rank::{LowRank, LowRankConfig, Targets};
pub use mask::{Fixed, SrSte};
pub use pattern::Pattern;
pub use singular::SingularValues;
pub use view::{View, Views};
