//! Optimal Input Gain (Rawat et al., 2023, arXiv 2303.17732): each input of a network has a gain of its own in the step down the gradient, and all
//! gains come from one small system of equations; output weights are solved for.

use wgrad::{DType, Device, Tensor};

use super::{Report, System, Wanted, ensure};
use crate::{Error, Result};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "optimal-input-gain",
    title: "Optimal Input Gain: All You Need to Supercharge a Feed-Forward Neural Network",
    paper: "2303.17732",
    shows: "with a gain for each input it errs less after as many iterations than with one optimal rate for all",
    check,
};

const SAMPLES: usize = 400;
const INPUTS: usize = 8;
const HIDDEN: usize = 10;
const ITERATIONS: usize = 20;

/// A network `y = a [1, x, tanh(w [1, x])]` for one output, by its samples.
struct Net {
    /// Ones and inputs, `[samples, 1 + inputs]`.
    x: Tensor,
    /// `[samples, 1]`.
    target: Tensor,
    /// `[hidden, 1 + inputs]`.
    w: Tensor,
    /// `[1, 1 + inputs + hidden]`.
    a: Tensor,
}

impl Net {
    fn new(device: &Device) -> Result<Self> {
        let normal = |std: f64, sizes: &[usize]| Tensor::normal(0.0, std, sizes, DType::F32, device);
        // Inputs of unequal sizes, each of which counts as much for the target.
        let sizes: Vec<f32> = (0..INPUTS).map(|i| 2f32.powi(i as i32 % 4 - 1)).collect();
        let sizes = Tensor::from_vec(sizes, &[INPUTS], device)?;
        let plain = normal(1.0, &[SAMPLES, INPUTS])?;
        let teacher = plain.linear(&normal(0.6, &[6, INPUTS])?, None)?.tanh()?;
        let target = teacher.linear(&normal(1.0, &[1, 6])?, None)?;
        let ones = Tensor::ones(&[SAMPLES, 1], DType::F32, device)?;
        let x = Tensor::concat(&[&ones, &plain.mul(&sizes)?], 1)?;
        let a = Tensor::zeros(&[1, 1 + INPUTS + HIDDEN], DType::F32, device)?;
        Net { x, target, w: normal(0.2, &[HIDDEN, 1 + INPUTS])?, a }.solved()
    }

    fn hidden(&self) -> Result<Tensor> {
        Ok(self.x.linear(&self.w, None)?.tanh()?)
    }

    /// With the output weights of the least error.
    fn solved(self) -> Result<Self> {
        let basis = Tensor::concat(&[&self.x, &self.hidden()?], 1)?;
        let a = solve(&basis.transpose(0, 1)?.matmul(&basis)?, &basis.transpose(0, 1)?.matmul(&self.target)?)?;
        Ok(Net { a: a.reshape(&[1, -1])?, ..self })
    }

    /// Output less target, and the hidden layer.
    fn errors(&self) -> Result<(Tensor, Tensor)> {
        let hidden = self.hidden()?;
        let basis = Tensor::concat(&[&self.x, &hidden], 1)?;
        Ok((basis.linear(&self.a, None)?.sub(&self.target)?, hidden))
    }

    fn error(&self) -> Result<f64> {
        Ok(self.errors()?.0.square()?.mean_all()?.item()?)
    }

    /// A step of the hidden layer with gains for all inputs, or one for all; then the output weights. Also what the error would be if it were
    /// a square in the gains.
    fn step(self, each: bool) -> Result<Self> {
        let (errors, hidden) = self.errors()?;
        let outputs = self.a.narrow(1, 1 + INPUTS, HIDDEN)?;
        // How an output follows the hidden layer before its activation, `[samples, hidden]`.
        let slope = hidden.square()?.affine(-1.0, 1.0)?.mul(&outputs)?;
        let delta = slope.mul(&errors)?.mul_scalar(-2.0 / SAMPLES as f64)?;
        let gradient = delta.transpose(0, 1)?.matmul(&self.x)?;
        // What a unit of each gain adds to the output, `[samples, 1 + inputs]`.
        let effect = slope.matmul(&gradient)?.mul(&self.x)?;
        let b = gradient.square()?.sum(&[0], false)?.reshape(&[-1, 1])?;
        let h = effect.transpose(0, 1)?.matmul(&effect)?.mul_scalar(2.0 / SAMPLES as f64)?;
        let gains = match each {
            true => solve(&h, &b)?.reshape(&[1, -1])?,
            false => b.sum_all()?.div(&h.sum_all()?)?,
        };
        let w = self.w.add(&gradient.mul(&gains)?)?;
        Net { w, ..self }.solved()
    }
}

/// `x` of `matrix x = right`, with a matrix that has no negative eigenvalues: Cholesky's method in f64 on the host, where zero eigenvalues are
/// lifted a little.
fn solve(matrix: &Tensor, right: &Tensor) -> Result<Tensor> {
    let n = matrix.size(0)?;
    let (mut l, mut x) = (matrix.to_f64_vec()?, right.to_f64_vec()?);
    let lift = 1e-7 * (0..n).map(|i| l[i * n + i]).sum::<f64>() / n as f64;
    for j in 0..n {
        l[j * n + j] += lift;
        for i in j..n {
            let sum: f64 = (0..j).map(|k| l[i * n + k] * l[j * n + k]).sum();
            let left = l[i * n + j] - sum;
            l[i * n + j] = if i == j { left.max(0.0).sqrt() } else { left / l[j * n + j] };
        }
        if l[j * n + j] == 0.0 {
            return Err(Error::argument("optimal-input-gain", "a system of equations without a single solution"));
        }
    }
    for i in 0..n {
        let sum: f64 = (0..i).map(|k| l[i * n + k] * x[k]).sum();
        x[i] = (x[i] - sum) / l[i * n + i];
    }
    for i in (0..n).rev() {
        let sum: f64 = (i + 1..n).map(|k| l[k * n + i] * x[k]).sum();
        x[i] = (x[i] - sum) / l[i * n + i];
    }
    Ok(Tensor::from_vec(x.into_iter().map(|v| v as f32).collect(), &[n], matrix.device())?)
}

/// The mean squared error after some iterations over that with one gain for all inputs.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let run = |each| {
        device.set_seed(seed);
        let mut net = Net::new(device)?;
        let start = net.error()?;
        for _ in 0..ITERATIONS {
            net = net.step(each)?;
        }
        Ok::<_, Error>((start, net.error()?))
    };
    let ((start, each), (_, one)) = (run(true)?, run(false)?);
    ensure(one < start, || format!("with one gain the error went from {start:.4} to {one:.4}"))?;
    Ok(Report {
        property: format!(
            "error over that with one rate for all inputs, after {ITERATIONS} iterations (from {start:.4} to {each:.4} and {one:.4})"
        ),
        measured: each / one,
        wanted: Wanted::AtMost,
        threshold: 0.8,
    })
}
