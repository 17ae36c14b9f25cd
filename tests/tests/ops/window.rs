//! Tensors larger than what one binding of the device holds: operations work on pieces of them, or say that they cannot.

use wgrad::{DType, Device, Error, Result, Tensor};
use wgrad_tests::{Random, gpu_with_bindings_of};

/// Bytes of a binding; the tensors below take several of it.
const BINDING: u64 = 1 << 16;
const ROWS: usize = 301;
const COLS: usize = 259;

fn values(n: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..n).map(|_| random.normal() as f32).collect()
}

fn matrix(device: &Device, dtype: DType, seed: u64) -> Result<Tensor> {
    Tensor::from_vec(values(ROWS * COLS, seed), &[ROWS, COLS], device)?.cast(dtype)
}

fn vector(device: &Device, dtype: DType, n: usize, seed: u64) -> Result<Tensor> {
    Tensor::from_vec(values(n, seed), &[n], device)?.cast(dtype)
}

/// What `f` gives on the device whose bindings are small is what it gives on the CPU, with and without gradients.
fn agrees(name: &str, tolerance: f64, f: impl Fn(&Device) -> Result<Vec<Tensor>>) {
    let Some(gpu) = gpu_with_bindings_of(BINDING) else { return };
    let read = |device: &Device| -> Vec<Vec<f64>> {
        let outputs = f(device).unwrap_or_else(|why| panic!("{name} on {device}: {why}"));
        outputs.iter().map(|y| y.to_f64_vec().unwrap()).collect()
    };
    let (want, got) = (read(&Device::cpu()), read(&gpu));
    for (want, got) in want.iter().zip(&got) {
        assert_eq!(want.len(), got.len(), "{name}");
        for (i, (a, b)) in want.iter().zip(got).enumerate() {
            assert!((a - b).abs() <= tolerance * a.abs().max(1.0), "{name}, element {i}: {b}, on the CPU {a}");
        }
    }
    gpu.check_guards().unwrap();
}

/// Values and gradients of `sum(f(inputs) * weights)`.
fn with_gradients(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<Vec<Tensor>> {
    let leaves: Vec<Tensor> = inputs.iter().map(Tensor::requires_grad).collect();
    let y = f(&leaves)?;
    let weights = Tensor::from_vec(values(y.elements(), 99), y.shape(), y.device())?.cast(y.dtype())?;
    let gradients = y.mul(&weights)?.sum_all()?.backward()?;
    let mut all = vec![y];
    all.extend(leaves.iter().map(|leaf| gradients.get(leaf).expect("a gradient").clone()));
    Ok(all)
}

#[test]
fn elementwise_operations() {
    for (dtype, tolerance) in [(DType::F32, 1e-4), (DType::BF16, 0.02)] {
        agrees("unary", tolerance, |device| {
            with_gradients(&[matrix(device, dtype, 1)?], |x| x[0].gelu()?.mul_scalar(2.0))
        });
        agrees("rows and columns", tolerance, |device| {
            let (x, row) = (matrix(device, dtype, 1)?, vector(device, dtype, COLS, 2)?);
            let column = vector(device, dtype, ROWS, 3)?.unsqueeze(1)?;
            Ok(vec![x.add(&row)?.mul(&column)?, x.lt(&row)?])
        });
        agrees("choices", tolerance, |device| {
            let x = matrix(device, dtype, 1)?;
            let mask = x.detach().gt(&Tensor::zeros(&[1], dtype, device)?)?;
            with_gradients(&[x], |x| x[0].masked_fill(&mask, -1.0))
        });
        agrees("copies", tolerance, |device| {
            let x = matrix(device, dtype, 1)?;
            Ok(vec![
                x.narrow(0, 7, 290)?.copy()?,
                x.narrow(1, 3, 251)?.copy()?,
                x.narrow(0, 0, 130)?.transpose(0, 1)?.copy()?,
                x.cast(DType::F32)?,
                x.cast(DType::BF16)?,
            ])
        });
    }
    agrees("constants", 0.0, |device| Ok(vec![Tensor::full(3.0, &[ROWS, COLS], DType::F32, device)?]));
    agrees("one long row", 1e-4, |device| {
        let x = Tensor::from_vec(values(100_001, 5), &[100_001], device)?;
        with_gradients(&[x], |x| x[0].sigmoid())
    });
}

#[test]
fn reductions_norms_and_softmax() {
    for (dtype, tolerance) in [(DType::F32, 1e-3), (DType::BF16, 0.05)] {
        agrees("sums", tolerance, |device| {
            let x = matrix(device, dtype, 1)?.mul_scalar(0.1)?;
            Ok(vec![
                x.sum(&[0], false)?,
                x.sum(&[1], false)?,
                x.sum_all()?,
                x.max(&[1], true)?,
                x.max(&[0], true)?,
                x.mean_all()?,
            ])
        });
        agrees("softmax", tolerance, |device| with_gradients(&[matrix(device, dtype, 1)?], |x| x[0].softmax(-1)));
        agrees("log softmax", tolerance, |device| {
            with_gradients(&[matrix(device, dtype, 1)?], |x| x[0].log_softmax(-1))
        });
    }
    agrees("layer norm", 1e-3, |device| {
        let (gain, bias) = (vector(device, DType::F32, COLS, 2)?, vector(device, DType::F32, COLS, 3)?);
        with_gradients(&[matrix(device, DType::F32, 1)?, gain, bias], |x| {
            x[0].layer_norm(Some(&x[1]), Some(&x[2]), 1e-5)
        })
    });
    agrees("rms norm", 1e-3, |device| {
        with_gradients(&[matrix(device, DType::F32, 1)?, vector(device, DType::F32, COLS, 2)?], |x| {
            x[0].rms_norm(Some(&x[1]), 1e-5)
        })
    });
}

#[test]
fn what_cannot_be_cut_says_so() {
    let Some(gpu) = gpu_with_bindings_of(BINDING) else { return };
    let x = matrix(&gpu, DType::F32, 1).unwrap();
    let refused = |result: Result<Tensor>| match result {
        Err(Error::TooLarge { bytes, limit, .. }) => assert!(limit == BINDING && bytes > limit, "{bytes}"),
        other => panic!("{other:?}"),
    };
    // A single row is longer than a binding.
    refused(Tensor::zeros(&[2, 40_000], DType::F32, &gpu).unwrap().softmax(-1));
    assert_eq!(x.to_vec::<f32>().unwrap(), values(ROWS * COLS, 1), "the device goes on");
}
