//! Deformable attention (Zhu et al., Deformable DETR, 2021, arXiv 2010.04159, section 4.1): each query reads a few places of feature maps of
//! several sizes, which it chooses itself around a box.

use wgrad::nn::{Build, Module, Visitor};
use wgrad::{GridPadding, Tensor};

use crate::weights::{Form, Linear};
use crate::{Error, Result};

/// What a layer is made of. Its parts are called `sampling_offsets`, `attention_weights`, `value_proj` and `output_proj`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeformableConfig {
    /// Heads.
    pub heads: usize,
    /// Feature maps.
    pub levels: usize,
    /// Places in each of them.
    pub points: usize,
    /// Boxes from the middle of one that an offset of `points` leads.
    pub scale: f64,
    /// Whether places are rounded to pixels (RT-DETRv2, Lv et al., 2024, arXiv 2407.17140), rather than interpolated.
    pub discrete: bool,
}

/// A layer.
pub struct Deformable {
    config: DeformableConfig,
    offsets: Linear,
    weights: Linear,
    value: Linear,
    output: Linear,
}

impl Deformable {
    /// A layer on vectors of `hidden`.
    ///
    /// # Errors
    /// If the numbers do not fit each other, or memory is exhausted.
    pub fn new(config: DeformableConfig, hidden: usize, build: &Build) -> Result<Self> {
        let DeformableConfig { heads, levels, points, .. } = config;
        if heads == 0 || levels == 0 || points == 0 || !hidden.is_multiple_of(heads) {
            let message = format!("{heads} heads of {levels} x {points} places on vectors of {hidden}");
            return Err(Error::config(message));
        }
        let linear = |outputs| Linear::new(hidden, outputs, true, Form::Rows, build);
        let places = heads * levels * points;
        let (offsets, weights) = (linear(2 * places)?, linear(places)?);
        Ok(Deformable { config, offsets, weights, value: linear(hidden)?, output: linear(hidden)? })
    }

    /// Of queries `x [batch, queries, hidden]` with a box (middle, width, height, as parts of the image) each, `boxes [batch, queries, 4]`, to
    /// `memory [batch, pixels, hidden]`, the pixels of maps of `sizes` (height, width) in turn.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor, memory: &Tensor, sizes: &[[usize; 2]], boxes: &Tensor) -> Result<Tensor> {
        let DeformableConfig { heads, levels, points, scale, discrete } = self.config;
        let (batch, queries, hidden) = (x.size(0)?, x.size(1)?, x.size(2)?);
        if sizes.len() != levels {
            return Err(Error::argument("sizes", format!("{} of them for {levels} feature maps", sizes.len())));
        }
        let shape = |last: &[usize]| -> Vec<isize> { last.iter().map(|&n| n as isize).collect() };
        let places = levels * points;
        let of_box = |first| boxes.narrow(2, first, 2)?.reshape(&shape(&[batch, queries, 1, 1, 2]));
        let offsets = self.offsets.forward(x)?.reshape(&shape(&[batch, queries, heads, places, 2]))?;
        let at = offsets.mul_scalar(scale / points as f64)?.mul(&of_box(2)?)?.add(&of_box(0)?)?;
        let at = at.permute(&[0, 2, 1, 3, 4])?.reshape(&shape(&[batch * heads, queries, places, 2]))?;
        let weights = self.weights.forward(x)?.reshape(&shape(&[batch, queries, heads, places]))?.softmax(-1)?;
        let weights = weights.permute(&[0, 2, 1, 3])?.reshape(&shape(&[batch * heads, 1, queries, places]))?;
        let value = self.value.forward(memory)?;
        let mut read = Vec::new();
        let mut start = 0;
        for (level, &[height, width]) in sizes.iter().enumerate() {
            let map = value.narrow(1, start, height * width)?.transpose(1, 2)?;
            let map = map.reshape(&shape(&[batch * heads, hidden / heads, height, width]))?;
            let at = at.narrow(2, level * points, points)?;
            let grid = if discrete { middles(&at, height, width)? } else { at.affine(2.0, -1.0)? };
            read.push(map.grid_sample(&grid, GridPadding::Zeros, false)?);
            start += height * width;
        }
        let read = Tensor::concat(&read.iter().collect::<Vec<_>>(), 3)?;
        let sums = read.mul(&weights)?.sum(&[-1], false)?.reshape(&shape(&[batch, hidden, queries]))?;
        self.output.forward(&sums.transpose(1, 2)?)
    }
}

/// The middles of the pixels `floor(size * place + 1 / 2)` of places (x, y) in [0, 1], from -1 to 1: the rounding of the published code.
fn middles(at: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let sizes = Tensor::from_vec(vec![width as f32, height as f32], &[2], at.device())?.cast(at.dtype())?;
    let pixel = at.detach().mul(&sizes)?.add_scalar(0.5)?.floor()?;
    let pixel = pixel.minimum(&sizes.add_scalar(-1.0)?)?.clamp(Some(0.0), None)?;
    Ok(pixel.affine(2.0, 1.0)?.div(&sizes)?.add_scalar(-1.0)?)
}

impl Module for Deformable {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("sampling_offsets", &self.offsets);
        v.module("attention_weights", &self.weights);
        v.module("value_proj", &self.value);
        v.module("output_proj", &self.output);
    }
}

#[cfg(test)]
mod tests {
    use wgrad::{DType, Device};

    use super::*;

    fn layer(points: usize, discrete: bool) -> Deformable {
        let build = Build::new(&Device::cpu());
        let config = DeformableConfig { heads: 2, levels: 2, points, scale: 0.5, discrete };
        Deformable::new(config, 8, &build).unwrap()
    }

    fn copy(from: &Deformable, to: &Deformable) {
        for ((_, from), (_, to)) in from.named_parameters().iter().zip(to.named_parameters()) {
            to.set(&from.tensor().detach()).unwrap();
        }
    }

    /// Boxes of no size leave every place where they stand. A rounded one reads a whole pixel, as an interpolated one does in its middle.
    #[test]
    fn rounded_places_read_whole_pixels() {
        let cpu = Device::cpu();
        let (smooth, rounded) = (layer(3, false), layer(3, true));
        copy(&smooth, &rounded);
        let draw = |shape: &[usize]| Tensor::normal(0.0, 1.0, shape, DType::F32, &cpu).unwrap();
        let (x, memory) = (draw(&[1, 2, 8]), draw(&[1, 32, 8]));
        let points = |at: [f32; 4]| {
            Tensor::from_vec(vec![at[0], at[1], 0.0, 0.0, at[2], at[3], 0.0, 0.0], &[1, 2, 4], &cpu).unwrap()
        };
        let sizes = [[4, 4], [4, 4]];
        let run = |layer: &Deformable, boxes: &Tensor| {
            layer.forward(&x, &memory, &sizes, boxes).unwrap().to_f64_vec().unwrap()
        };
        // Pixels (1, 2) and (0, 3) of four by four.
        let boxes = points([0.25, 0.55, 0.05, 0.8]);
        let (a, b) = (run(&smooth, &points([0.375, 0.625, 0.125, 0.875])), run(&rounded, &boxes));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} {b:?}");
        // With a size, places lie anywhere.
        let wide = boxes.add(&Tensor::from_vec(vec![0f32, 0.0, 0.9, 0.9], &[4], &cpu).unwrap()).unwrap();
        assert_ne!(run(&smooth, &wide), run(&rounded, &wide));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let build = Build::new(&Device::cpu());
        let config = DeformableConfig { heads: 3, levels: 1, points: 1, scale: 0.5, discrete: false };
        assert!(Deformable::new(config, 8, &build).err().unwrap().to_string().contains("3 heads"));
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::cpu()).unwrap();
        let refused = layer(1, false).forward(&zeros(&[1, 2, 8]), &zeros(&[1, 4, 8]), &[[2, 2]], &zeros(&[1, 2, 4]));
        assert!(refused.err().unwrap().to_string().contains("1 of them for 2"));
    }
}
