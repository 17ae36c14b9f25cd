//! Tensors as text.

use std::fmt::{self, Write};

use crate::{DType, Tensor};

/// Dimensions longer than this show their first and last [`EDGE`] slices.
const LONGEST: usize = 8;
const EDGE: usize = 3;

impl fmt::Display for Tensor {
    /// Shape, dtype and device on one line, then the values, long dimensions shortened.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")?;
        // Only what is shown is read back from the device.
        match shown(self).and_then(|view| view.to_f64_vec()) {
            Ok(values) => {
                let cells: Vec<String> = values.iter().map(|&v| cell(v, self.dtype())).collect();
                let width = cells.iter().map(String::len).max().unwrap_or(0);
                let mut text = String::new();
                write_dim(&mut text, self.shape(), &mut cells.iter(), width, 0)?;
                write!(f, "\n{text}")
            }
            Err(error) => write!(f, "\n({error})"),
        }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor {:?} {} on {}", self.shape(), self.dtype(), self.device())?;
        if self.is_tracked() { f.write_str(", tracked") } else { Ok(()) }
    }
}

/// The tensor without the slices that are left out.
fn shown(x: &Tensor) -> crate::Result<Tensor> {
    let mut x = x.detach();
    for dim in 0..x.rank() {
        let size = x.shape()[dim];
        if size > LONGEST {
            let (head, tail) = (x.narrow(dim as isize, 0, EDGE)?, x.narrow(dim as isize, size - EDGE, EDGE)?);
            x = Tensor::concat(&[&head, &tail], dim as isize)?;
        }
    }
    Ok(x)
}

fn cell(value: f64, dtype: DType) -> String {
    match dtype {
        DType::Bool => (value != 0.0).to_string(),
        DType::I32 | DType::U32 => format!("{value}"),
        _ if value == 0.0 || (1e-3..1e5).contains(&value.abs()) => format!("{value:.4}"),
        _ => format!("{value:.3e}"),
    }
}

fn write_dim<'a>(
    out: &mut String,
    shape: &[usize],
    cells: &mut impl Iterator<Item = &'a String>,
    width: usize,
    depth: usize,
) -> fmt::Result {
    let Some((&size, rest)) = shape.split_first() else {
        return write!(out, "{:>width$}", cells.next().map_or("", |c| c));
    };
    out.push('[');
    let cut = size > LONGEST;
    let visible = if cut { 2 * EDGE } else { size };
    for i in 0..visible {
        if i > 0 {
            if rest.is_empty() {
                out.push_str(", ");
            } else {
                out.push(',');
                out.extend(std::iter::repeat_n('\n', rest.len()));
                out.extend(std::iter::repeat_n(' ', depth + 1));
            }
        }
        if cut && i == EDGE {
            out.push_str(if rest.is_empty() { "..., " } else { "...,\n" });
            if !rest.is_empty() {
                out.extend(std::iter::repeat_n(' ', depth + 1));
            }
        }
        write_dim(out, rest, cells, width, depth + 1)?;
    }
    out.push(']');
    Ok(())
}
