//! What fused operations compute, composed of primitive ones: to read, and for tests of values and gradients.

pub use crate::ops::attention::reference::{attention, sparse_attention};
pub use crate::ops::cross_entropy::reference as cross_entropy;
pub use crate::ops::elementwise::gated_reference as gated;
pub use crate::ops::linear_attention::reference as linear_attention;
pub use crate::ops::matmul::reference as linear;
pub use crate::ops::norm::reference as norm;
pub use crate::ops::patterns::reference as six_pattern_weight;
pub use crate::ops::softmax::masked_reference as masked_softmax;
pub use crate::ops::softmax::reference as softmax;
