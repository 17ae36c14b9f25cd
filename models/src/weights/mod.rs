//! Linear layers, and what their matrices are seen as: a view stands between a parameter and the layer that reads it.

mod learned_mask;
mod linear;
mod mask;
mod pattern;
mod view;

pub use learned_mask::{Clock, LearnedMask, Moment};
pub use linear::{Form, Linear, Matrix};
pub use mask::{Fixed, SrSte};
pub use pattern::Pattern;
pub use view::{View, Views};
