//! Sampling images at places that are data: four reads for each, weighted, from operations that exist. So the gradient of the image
//! is a sum in a fixed order, that of [`Tensor::index_select`], and that of the grid flows through the weights.

use crate::{DType, Error, Result, Tensor};

/// What [`Tensor::grid_sample`] reads outside of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GridPadding {
    /// Zeros.
    #[default]
    Zeros,
    /// The nearest element of the image.
    Border,
}

/// One coordinate of all places, in elements.
struct Axis {
    /// Index of the element before, and of the one after: f32 or f64, inside the image.
    near: [Tensor; 2],
    /// Their weights.
    weights: [Tensor; 2],
}

impl Axis {
    /// Of coordinates in [-1, 1] along `size` elements.
    fn new(x: &Tensor, size: usize, padding: GridPadding, align_corners: bool) -> Result<Self> {
        let n = size as f64;
        let x = match align_corners {
            true => x.affine((n - 1.0) / 2.0, (n - 1.0) / 2.0)?,
            false => x.affine(n / 2.0, n / 2.0 - 0.5)?,
        };
        // Further out, there are only zeros.
        let x = match padding {
            GridPadding::Zeros => x.clamp(Some(-1.0), Some(n))?,
            GridPadding::Border => x.clamp(Some(0.0), Some(n - 1.0))?,
        };
        let before = x.detach().floor()?;
        let after = before.add_scalar(1.0)?;
        let part = x.sub(&before)?;
        let weights = [part.affine(-1.0, 1.0)?, part];
        let inside = |at: &Tensor, weight: &Tensor| {
            let kept = at.clamp(Some(0.0), Some(n - 1.0))?;
            let there = kept.eq(at)?.cast(weight.dtype())?;
            Ok::<_, Error>((kept, weight.mul(&there)?))
        };
        let ((first, w0), (second, w1)) = (inside(&before, &weights[0])?, inside(&after, &weights[1])?);
        Ok(Axis { near: [first, second], weights: [w0, w1] })
    }
}

/// See [`Tensor::grid_sample`].
pub(crate) fn grid_sample(x: &Tensor, grid: &Tensor, padding: GridPadding, align_corners: bool) -> Result<Tensor> {
    let op = "grid_sample";
    x.expect_float(op)?;
    x.expect_like(op, grid)?;
    let (&[n, channels, height, width], &[images, rows, columns, 2]) = (x.shape(), grid.shape()) else {
        let (x, grid) = (x.shape(), grid.shape());
        let message =
            format!("image of shape {x:?} and grid of shape {grid:?}, expected [n, c, h, w] and [n, h, w, 2]");
        return Err(Error::shape(op, message));
    };
    if n != images || height == 0 || width == 0 {
        let (x, grid) = (x.shape(), grid.shape());
        return Err(Error::shape(
            op,
            format!("image of shape {x:?} and grid of shape {grid:?}: expected as many images, with some elements"),
        ));
    }
    if x.elements() >= 1 << 31 {
        return Err(Error::shape(
            op,
            format!("image of shape {:?} has more elements than indices count, 2^31", x.shape()),
        ));
    }
    if x.dtype().is_half() {
        let (wide, grid) = (x.cast(DType::F32)?, grid.cast(DType::F32)?);
        return grid_sample(&wide, &grid, padding, align_corners)?.cast(x.dtype());
    }
    let places = (rows * columns) as isize;
    let along = |i: usize, size: usize| {
        Axis::new(&grid.select(3, i)?.reshape(&[n as isize, places])?, size, padding, align_corners)
    };
    let (across, down) = (along(0, width)?, along(1, height)?);
    // Pixels of all images as the rows of one table.
    let pixels = x.permute(&[0, 2, 3, 1])?.reshape(&[(n * height * width) as isize, channels as isize])?;
    let images =
        Tensor::arange(0, n as i64, DType::I32, x.device())?.mul_scalar((height * width) as f64)?.unsqueeze(1)?;
    let mut sum: Option<Tensor> = None;
    for (row, down_weight) in down.near.iter().zip(&down.weights) {
        for (column, across_weight) in across.near.iter().zip(&across.weights) {
            let row = row.cast(DType::I32)?.mul_scalar(width as f64)?;
            let index = row.add(&column.cast(DType::I32)?)?.add(&images)?.flatten(0, -1)?;
            let weight = down_weight.mul(across_weight)?.reshape(&[-1, 1])?;
            let part = pixels.index_select(0, &index)?.mul(&weight)?;
            sum = Some(match sum {
                Some(sum) => sum.add(&part)?,
                None => part,
            });
        }
    }
    let sum = sum.ok_or_else(|| Error::argument(op, "no corner"))?;
    let shape = [n, rows, columns, channels].map(|n| n as isize);
    sum.reshape(&shape)?.permute(&[0, 3, 1, 2])
}
