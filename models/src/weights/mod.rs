//! Linear layers, and what their matrices are seen as: a view stands between a parameter and the layer that reads it.

mod linear;
mod view;

pub use linear::{Form, Linear, Matrix};
pub use view::{View, Views};
