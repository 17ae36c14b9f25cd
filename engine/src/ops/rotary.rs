//! Rotary position embedding: pairs of elements are turned by an angle that grows with the position
//! (Su et al., "RoFormer", 2021).

use crate::autograd::record;
use crate::layout::Dims;
use crate::ops::view::reshape_to;
use crate::{DType, Error, Result, Tensor};

/// `x` [batch, heads, time, head_dim], `positions` [batch, time]: with `f_k = theta^(-2k / rotary_dim)` and angle
/// `position * f_k`, the pair `(x_k, x_{k + rotary_dim / 2})`, or `(x_{2k}, x_{2k + 1})` if `interleaved`, is turned. Elements
/// from `rotary_dim` on pass through.
pub(crate) fn rotary(
    x: &Tensor,
    positions: &Tensor,
    theta: f64,
    rotary_dim: usize,
    interleaved: bool,
) -> Result<Tensor> {
    let op = "rotary";
    x.expect_float(op)?;
    positions.expect_int(op)?;
    x.expect_same_device(op, positions)?;
    let &[batch, _, time, head_dim] = x.shape() else {
        return Err(Error::shape(
            op,
            format!("input of shape {:?}, expected [batch, heads, time, head_dim]", x.shape()),
        ));
    };
    if positions.shape() != [batch, time] {
        let got = positions.shape();
        return Err(Error::shape(op, format!("positions of shape {got:?}, expected [{batch}, {time}]")));
    }
    if rotary_dim > head_dim || !rotary_dim.is_multiple_of(2) {
        let message = format!("rotary_dim {rotary_dim} is not an even number up to head_dim {head_dim}");
        return Err(Error::argument(op, message));
    }
    if !(theta > 0.0 && theta.is_finite()) {
        return Err(Error::argument(op, format!("theta {theta} is not a positive number")));
    }
    if rotary_dim == 0 || x.elements() == 0 {
        return Ok(x.clone());
    }
    let turn = Turn::new(positions, theta, rotary_dim, interleaved, x.dtype())?;
    let y = turn.apply(&x.detach())?;
    // The inverse of a rotation is the rotation back, which is also its transpose.
    let back = turn.reversed()?;
    Ok(record(op, y, &[x], move |dy, _| Ok(vec![Some(back.apply(dy)?)])))
}

struct Turn {
    /// [batch, 1, time, 1, rotary_dim / 2], or the last two swapped if interleaved.
    cos: Tensor,
    sin: Tensor,
    rotary_dim: usize,
    /// The dimension of size 2 that holds a pair.
    pair: isize,
}

impl Turn {
    fn new(positions: &Tensor, theta: f64, rotary_dim: usize, interleaved: bool, dtype: DType) -> Result<Self> {
        let op = "rotary";
        let compute = if dtype.is_half() { DType::F32 } else { dtype };
        let (batch, time) = (positions.shape()[0], positions.shape()[1]);
        let half = rotary_dim / 2;
        let frequencies: Vec<f64> = (0..half).map(|k| theta.powf(-2.0 * k as f64 / rotary_dim as f64)).collect();
        let frequencies = match compute {
            DType::F64 => Tensor::from_vec(frequencies, &[half], positions.device())?,
            _ => Tensor::from_vec(frequencies.iter().map(|&f| f as f32).collect(), &[half], positions.device())?,
        };
        let angles =
            reshape_to(&positions.detach(), Dims::new(op, &[batch, 1, time, 1])?)?.cast(compute)?.mul(&frequencies)?;
        let pair = if interleaved { -1 } else { -2 };
        let angles = angles.unsqueeze(pair)?;
        Ok(Turn { cos: angles.cos()?.cast(dtype)?, sin: angles.sin()?.cast(dtype)?, rotary_dim, pair })
    }

    fn reversed(&self) -> Result<Self> {
        Ok(Turn { cos: self.cos.clone(), sin: self.sin.neg()?, ..*self })
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let head_dim = x.shape()[3];
        let mut shape = x.shape()[..3].to_vec();
        shape.extend(if self.pair == -1 { [self.rotary_dim / 2, 2] } else { [2, self.rotary_dim / 2] });
        let pairs = reshape_to(&x.narrow(3, 0, self.rotary_dim)?, Dims::new("rotary", &shape)?)?;
        let (u, w) = (pairs.narrow(self.pair, 0, 1)?, pairs.narrow(self.pair, 1, 1)?);
        let turned_u = u.mul(&self.cos)?.sub(&w.mul(&self.sin)?)?;
        let turned_w = w.mul(&self.cos)?.add(&u.mul(&self.sin)?)?;
        let turned = Tensor::concat(&[&turned_u, &turned_w], self.pair)?;
        let mut shape = x.dims();
        shape[3] = self.rotary_dim;
        let turned = reshape_to(&turned, shape)?;
        if self.rotary_dim == head_dim {
            return Ok(turned);
        }
        Tensor::concat(&[&turned, &x.narrow(3, self.rotary_dim, head_dim - self.rotary_dim)?], 3)
    }
}
