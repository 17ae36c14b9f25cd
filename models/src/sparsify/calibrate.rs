//! What goes into linear layers, measured while a model runs.

use std::sync::{Arc, Mutex, PoisonError};

use wgrad::{DType, Tensor, no_grad};

use crate::weights::Matrix;
use crate::{Error, Result};

/// What is measured of the inputs `x` of a layer, as a mean over tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// `x²`, `[inputs]`.
    Squares,
    /// `x xᵀ`, `[inputs, inputs]`.
    Products,
}

#[derive(Default)]
struct Mean {
    value: Option<Tensor>,
    tokens: usize,
}

impl Mean {
    fn add(&mut self, x: &Tensor, statistic: Statistic) -> Result<()> {
        let x = x.detach().cast(DType::F32)?.reshape(&[-1, x.size(-1)? as isize])?;
        let tokens = x.size(0)?;
        if tokens == 0 {
            return Ok(());
        }
        let sum = match statistic {
            Statistic::Squares => x.square()?.sum(&[0], false)?,
            Statistic::Products => x.transpose(0, 1)?.matmul(&x)?,
        };
        let all = (self.tokens + tokens) as f64;
        let part = sum.mul_scalar(all.recip())?;
        self.value = Some(match self.value.take() {
            Some(mean) => mean.mul_scalar(self.tokens as f64 / all)?.add(&part)?,
            None => part,
        });
        self.tokens += tokens;
        Ok(())
    }
}

/// The statistics of the inputs of these matrices, in their order, while `run` runs the model on texts.
///
/// # Errors
/// If `run` fails, or does not come by one of the matrices.
pub fn listen(
    matrices: &[(String, Matrix)],
    statistic: Statistic,
    run: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<Tensor>> {
    let means: Vec<Arc<Mutex<Mean>>> = matrices.iter().map(|_| Arc::default()).collect();
    for ((_, matrix), mean) in matrices.iter().zip(&means) {
        let mean = mean.clone();
        let hear = move |x: &Tensor| mean.lock().unwrap_or_else(PoisonError::into_inner).add(x, statistic);
        matrix.listen(Some(Box::new(hear)));
    }
    let done = no_grad(run);
    matrices.iter().for_each(|(_, matrix)| matrix.listen(None));
    done?;
    let taken = matrices.iter().zip(&means).map(|((name, _), mean)| {
        let mean = mean.lock().unwrap_or_else(PoisonError::into_inner).value.take();
        mean.ok_or_else(|| Error::argument("calibration", format!("no text came through `{name}`")))
    });
    taken.collect()
}

#[cfg(test)]
mod tests {
    use wgrad::Device;
    use wgrad::nn::{Build, Module, Visitor};

    use super::*;
    use crate::weights::{Form, Linear};

    struct Pair(Linear, Linear);

    impl Module for Pair {
        fn visit(&self, v: &mut Visitor<'_>) {
            v.module("0", &self.0);
            v.module("1", &self.1);
        }
    }

    #[test]
    fn means_over_all_tokens_of_all_runs() {
        let device = Device::new_cpu();
        let build = Build::new(&device);
        let linear = || Linear::new(2, 2, false, Form::Columns, &build).unwrap();
        let pair = Pair(linear(), linear());
        let matrices = Matrix::of_blocks(&pair);
        let rows = |values: &[f32]| Tensor::from_slice(values, &[1, values.len() / 2, 2], &device).unwrap();
        let mut run = || {
            pair.0.forward(&rows(&[1.0, 2.0, 3.0, 4.0]))?;
            pair.0.forward(&rows(&[5.0, 0.0]))?;
            pair.1.forward(&rows(&[1.0, 1.0]))?;
            Ok(())
        };
        let both = listen(&matrices, Statistic::Products, &mut run).unwrap();
        let close = |got: &Tensor, want: &[f64]| {
            let got = got.to_f64_vec().unwrap();
            assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-5), "{got:?}, expected {want:?}");
        };
        close(&both[0], &[35.0 / 3.0, 14.0 / 3.0, 14.0 / 3.0, 20.0 / 3.0]);
        close(&both[1], &[1.0; 4]);
        let squares = listen(&matrices, Statistic::Squares, &mut run).unwrap();
        close(&squares[0], &[35.0 / 3.0, 20.0 / 3.0]);
        // Nobody listens any more, and who hears nothing says so.
        let silent = listen(&matrices, Statistic::Squares, &mut || Ok(())).unwrap_err().to_string();
        assert!(silent.contains("`0.weight`"), "{silent}");
    }
}
