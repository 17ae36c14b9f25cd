//! Copies whose rows are columns in memory, through a tile.

use super::{gpu_of, size};
use crate::device::gpu::{Bind, Launch, Operand};
use crate::{Result, Tensor};

/// Rows and columns of a tile; dimensions shorter than half of it are not worth one.
const TILE: usize = 32;

/// A merged view of words whose last dimension is not the one along which memory runs: `[a, b, rows, cols]` in the order in which
/// tiles take them.
pub(super) struct Transpose {
    /// Size and stride of the dimension that is dense in memory, and its stride in the result.
    rows: [usize; 3],
    /// The same of the last dimension, which is dense in the result.
    cols: [usize; 3],
    /// The same of the two others.
    others: [[usize; 3]; 2],
    offset: usize,
}

impl Transpose {
    /// None if the view is no such, or has more than four dimensions.
    pub fn of(shape: &[usize], strides: &[usize], offset: usize) -> Option<Self> {
        let mut dims = Vec::new();
        let mut row_major = 1;
        for (&size, &stride) in shape.iter().zip(strides).rev() {
            dims.push([size, stride, row_major]);
            row_major *= size;
        }
        let worth = |dim: &[usize; 3]| 2 * dim[0] >= TILE;
        let cols = dims.first().copied().filter(|dim| worth(dim) && dim[1] > 1)?;
        let at = dims.iter().position(|dim| worth(dim) && dim[1] == 1)?;
        let rows = dims.remove(at);
        let single = [1, 0, 0];
        match dims[1..] {
            [] => Some(Transpose { rows, cols, others: [single; 2], offset }),
            [a] => Some(Transpose { rows, cols, others: [single, a], offset }),
            [b, a] => Some(Transpose { rows, cols, others: [a, b], offset }),
            _ => None,
        }
    }

    /// Fills `out` from the buffer of the view.
    pub fn run(&self, op: &'static str, source: Operand, out: &Tensor) -> Result<()> {
        let Transpose { rows, cols, others: [a, b], offset } = self;
        let (down, across) = (rows[0].div_ceil(TILE), cols[0].div_ceil(TILE));
        let tiles = down * across * a[0] * b[0];
        let params = [rows[0], cols[0], down, across, b[0], *offset, a[1], b[1], cols[1], a[2], b[2], rows[2], tiles];
        let params = params.map(|n| size(op, n)).into_iter().collect::<Result<Vec<u32>>>()?;
        gpu_of(op, out)?.run(Launch {
            kernel: "elementwise/transpose",
            elems: &[],
            constants: &[],
            bind: &[Bind::Read(source), Bind::Write(out.gpu_buffer(op)?)],
            params: bytemuck::cast_slice(&params),
            groups: tiles as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::collapse;
    use crate::{DType, Device, GpuOptions, Select};

    /// Chosen on real GPUs alone, so it is compared here with the other way on whatever GPU there is.
    #[test]
    fn tiles_agree_with_the_strided_copy() {
        let options = GpuOptions { checked: true, guards: true, ..GpuOptions::default() };
        let Ok(device) = Device::open(Select::Software, options) else { return };
        for (shape, axes, start) in [
            (&[33isize, 70][..], &[1, 0][..], 0),
            (&[40, 32], &[1, 0], 3),
            (&[3, 40, 17], &[0, 2, 1], 0),
            (&[2, 35, 3, 65], &[0, 2, 3, 1], 0),
            (&[18, 5, 3, 100], &[1, 3, 2, 0], 1),
        ] {
            let x = Tensor::arange(0, shape.iter().product::<isize>() as i64, DType::U32, &device).unwrap();
            let x = x.reshape(shape).unwrap();
            let x = x.narrow(0, start, shape[0] as usize - start).unwrap();
            let x = x.permute(axes).unwrap();
            let (merged, strides) = collapse(&[*x.layout()]);
            let plan = Transpose::of(&merged, &strides[0], x.layout().offset).unwrap_or_else(|| panic!("{shape:?}"));
            let out = Tensor::gpu_uninit("test", x.dims(), x.dtype(), &device).unwrap();
            plan.run("test", x.gpu_buffer("test").unwrap(), &out).unwrap();
            assert_eq!(out.to_vec::<u32>().unwrap(), x.copy().unwrap().to_vec::<u32>().unwrap(), "{shape:?} {axes:?}");
            device.check_guards().unwrap();
        }
        // Short rows, dense rows.
        assert!(Transpose::of(&[64, 8], &[1, 64], 0).is_none());
        assert!(Transpose::of(&[64, 64], &[128, 1], 0).is_none());
    }
}
