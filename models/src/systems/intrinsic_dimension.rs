//! Intrinsic dimension of fine-tuning (Aghajanyan et al., 2020, arXiv 2012.13255): all parameters move in one random subspace of few dimensions,
//! given by the Fastfood transform (Le et al., 2013).

use wgrad::nn::{Build, Init, Module};
use wgrad::rng::Philox;
use wgrad::{DType, Device, PadMode, Tensor};

use super::tuning_lab::{Chosen, Tuning, freeze};
use super::{Report, System, Wanted, ensure};
use crate::Result;
use crate::lm::Lm;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "intrinsic-dimension",
    title: "Intrinsic Dimensionality Explains the Effectiveness of Language Model Fine-Tuning",
    paper: "2012.13255",
    shows: "a random subspace of 2 % of the dimensions holds 90 % of fine-tuning's gain, if the model was trained before",
    check,
};

/// Parameters for each dimension of the subspace.
const SHARE: usize = 50;
/// Highest learning rate: a step of all parameters is as long as that in the subspace.
const LR: f64 = 5e-2;

/// The matrix `[n, n]` of +1 and -1 with orthogonal rows (Sylvester, 1867); `n` is a power of two.
fn hadamard(n: usize, device: &Device) -> Result<Tensor> {
    let sign = |at: usize| if ((at / n) & (at % n)).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
    Ok(Tensor::from_vec((0..n * n).map(sign).collect::<Vec<f32>>(), &[n, n], device)?)
}

/// A random map of few numbers to many, that keeps lengths on average: `H G P H B`, with random signs B, a permutation P, and normal
/// numbers G. It takes the memory of four vectors.
struct Fastfood {
    /// Two whose Kronecker product is H.
    factors: [Tensor; 2],
    signs: Tensor,
    order: Tensor,
    scales: Tensor,
    factor: f64,
    outputs: usize,
}

impl Fastfood {
    fn new(outputs: usize, seed: u64, device: &Device) -> Result<Self> {
        let length = outputs.next_power_of_two();
        let half = 1 << (length.ilog2() / 2);
        let mut rng = Philox::new(seed, 0);
        let signs: Vec<f32> = (0..length).map(|_| if rng.next_u32() & 1 == 0 { 1.0 } else { -1.0 }).collect();
        let mut order: Vec<u32> = (0..length as u32).collect();
        rng.shuffle(&mut order);
        let scales = Tensor::normal(0.0, 1.0, &[length], DType::F32, device)?;
        let squares = scales.square()?.sum_all()?.item()?;
        Ok(Fastfood {
            factors: [hadamard(length / half, device)?, hadamard(half, device)?],
            signs: Tensor::from_vec(signs, &[length], device)?,
            order: Tensor::from_vec(order, &[length], device)?,
            scales,
            factor: ((length as f64 * squares).sqrt() * (outputs as f64 / length as f64).sqrt()).recip(),
            outputs,
        })
    }

    /// `H x`.
    fn turned(&self, x: &Tensor) -> Result<Tensor> {
        let [rows, columns] = &self.factors;
        let x = x.reshape(&[rows.size(0)? as isize, columns.size(0)? as isize])?;
        Ok(rows.matmul(&x)?.matmul(columns)?.flatten(0, 1)?)
    }

    /// `[outputs]` of `z [dimensions]`.
    fn forward(&self, z: &Tensor) -> Result<Tensor> {
        let length = self.signs.elements();
        let z = z.pad(&[(0, (length - z.elements()) as isize)], PadMode::Constant(0.0))?;
        let x = self.turned(&z.mul(&self.signs)?)?.index_select(0, &self.order)?;
        let x = self.turned(&x.mul(&self.scales)?)?;
        Ok(x.narrow(0, 0, self.outputs)?.mul_scalar(self.factor)?)
    }
}

/// The loss of a model after it was tuned in a random subspace.
fn tuned(tuning: &Tuning, lm: &Lm, seed: u64) -> Result<f64> {
    freeze(lm);
    let count = lm.parameter_count();
    let map = Fastfood::new(count, seed, tuning.device())?;
    let z = Build::new(tuning.device()).param(&[count / SHARE], Init::Zeros)?;
    let params = lm.named_parameters();
    let show = || {
        let step = map.forward(&z.tensor())?;
        let mut start = 0;
        for (_, param) in &params {
            let shape: Vec<isize> = param.shape().iter().map(|&n| n as isize).collect();
            let own = step.narrow(0, start, param.elements())?.reshape(&shape)?;
            param.show(Some(param.leaf().add(&own)?))?;
            start += param.elements();
        }
        Ok(())
    };
    tuning.tune(lm, &Chosen(vec![("z".into(), z.clone())]), LR, show)
}

/// The share of full fine-tuning's gain in a subspace.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let tuning = Tuning::new(device, seed)?;
    let all = tuning.all()?;
    let loss = tuned(&tuning, &tuning.model()?, seed)?;
    let untrained = Lm::new(tuning.config(), device)?;
    let from_nothing = tuned(&tuning, &untrained, seed)?;
    ensure(from_nothing > loss, || {
        format!("without a training before, the loss is {from_nothing:.3}, with one {loss:.3}")
    })?;
    Ok(Report {
        property: format!(
            "share of the gain of all parameters ({:.3} -> {all:.3}) in a subspace of 1/{SHARE} of the dimensions ({loss:.3}; of an \
             untrained model {from_nothing:.3})",
            tuning.before
        ),
        measured: tuning.share(loss, all),
        wanted: Wanted::AtLeast,
        threshold: 0.9,
    })
}

#[cfg(test)]
mod tests {
    use wgrad::nn::Param;

    use super::*;

    #[test]
    fn lengths_and_angles_are_kept_on_average() {
        let device = Device::new_cpu();
        device.set_seed(1);
        let map = Fastfood::new(3000, 5, &device).unwrap();
        let z = Tensor::normal(0.0, 1.0, &[40], DType::F32, &device).unwrap();
        let y = map.forward(&z).unwrap();
        let square = |x: &Tensor| x.square().unwrap().sum_all().unwrap().item().unwrap();
        assert!((square(&y) / square(&z) - 1.0).abs() < 0.15, "{} of {}", square(&y), square(&z));
        let twice =
            map.turned(&map.turned(&map.signs).unwrap()).unwrap().sub(&map.signs.mul_scalar(4096.0).unwrap()).unwrap();
        assert!(square(&twice) < 1e-6, "H H is 4096 times the identity");
        // The backward is the transposed map: `<P z, y> = <z, P^T y>`.
        let param = Param::new(&z).unwrap();
        let product = map.forward(&param.tensor()).unwrap().mul(&y).unwrap().sum_all().unwrap();
        let gradients = product.backward().unwrap();
        let back = param.gradient(&gradients).unwrap().mul(&z).unwrap().sum_all().unwrap().item().unwrap();
        assert!((back - square(&y)).abs() < 1e-3 * back, "{back} and {}", square(&y));
    }
}
