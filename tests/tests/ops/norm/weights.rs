//! Matrices that are normalised themselves.

use wgrad::nn::{Build, Module};
use wgrad::{DType, Device, Result, Tensor};
use wgrad_models::norm::{NormedLinear, WeightView};
use wgrad_tests::{Input, assert_close, each_device, gradcheck, same_on_devices_within};

const EPS: f64 = 1e-4;
const VIEWS: [WeightView; 4] =
    [WeightView::WeightNorm, WeightView::Standardized { eps: EPS }, WeightView::UnitRows, WeightView::UnitColumns];

fn matrix(view: WeightView) -> impl Fn(&[Tensor]) -> Result<Tensor> {
    move |x| view.matrix(&x[0], x.get(1))
}

#[test]
fn gradients() {
    for (outputs, inputs) in [(3, 5), (4, 16), (1, 2)] {
        let inputs = [Input::normal(&[outputs, inputs], 1), Input::uniform(-2.0, 2.0, &[outputs], 2)];
        for view in VIEWS {
            let name = format!("{view:?}");
            let used = if matches!(view, WeightView::UnitRows | WeightView::UnitColumns) { 1 } else { 2 };
            gradcheck(&name, &inputs[..used], matrix(view));
            same_on_devices_within(8.0, &name, &inputs[..used], matrix(view));
        }
    }
}

/// Equations 2 and 3 of Salimans and Kingma, and the gradient of scaled standardization, in plain f64.
#[test]
fn gradients_by_the_formulas() {
    let (v, g, up) = ([0.3, -1.2, 0.7, 2.0], 1.7, [0.4, -0.1, 0.9, 0.2]);
    let device = Device::cpu();
    let weight = Tensor::from_slice(&v, &[1, 4], &device).unwrap().requires_grad();
    let gain = Tensor::from_slice(&[g], &[1], &device).unwrap().requires_grad();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let run = |view: WeightView| {
        let w = view.matrix(&weight, Some(&gain)).unwrap();
        let seed = Tensor::from_slice(&up, &[1, 4], &device).unwrap();
        let gradients = wgrad::autograd::backward(&[(&w, seed)], &[], false).unwrap();
        [&weight, &gain].map(|t| gradients.get(t).unwrap().to_f64_vec().unwrap())
    };
    let length = dot(&v, &v).sqrt();
    let [dv, dg] = run(WeightView::WeightNorm);
    let want_dg = dot(&up, &v) / length;
    let want: Vec<f64> = v.iter().zip(up).map(|(v, u)| g / length * u - g * want_dg / length.powi(2) * v).collect();
    assert_close("weight norm", &dv, &want, 1e-14, 1e-12);
    assert_close("weight norm", &dg, &[want_dg], 1e-14, 1e-12);
    assert!(dot(&dv, &v).abs() < 1e-14, "the gradient is orthogonal to the weight");

    let [dw, dg] = run(WeightView::Standardized { eps: EPS });
    let mean = v.iter().sum::<f64>() / 4.0;
    let r = 1.0 / v.iter().map(|v| (v - mean).powi(2)).sum::<f64>().sqrt();
    let z: Vec<f64> = v.iter().map(|v| (v - mean) * r).collect();
    let d: Vec<f64> = up.iter().map(|u| g * u).collect();
    let average = d.iter().sum::<f64>() / 4.0;
    let along = dot(&d, &z);
    let want: Vec<f64> = d.iter().zip(&z).map(|(d, z)| r * (d - average - z * along)).collect();
    assert_close("standardization", &dw, &want, 1e-14, 1e-12);
    assert_close("standardization", &dg, &[dot(&up, &z)], 1e-14, 1e-12);
}

/// Rows have the length of their gain; the scale of the parameters does not matter; rows of zeros stay finite.
#[test]
fn lengths() {
    each_device(|device| {
        let v = Input::normal(&[5, 12], 3).stored(device, DType::F32).unwrap();
        let gain = Input::uniform(-2.0, 2.0, &[5], 4).stored(device, DType::F32).unwrap();
        let gains: Vec<f64> = gain.to_f64_vec().unwrap().iter().map(|g| g.abs()).collect();
        for view in VIEWS {
            let (gain, along, want) = match view {
                WeightView::UnitRows => (None, -1, vec![1.0; 5]),
                WeightView::UnitColumns => (None, 0, vec![1.0; 12]),
                _ => (Some(&gain), -1, gains.clone()),
            };
            let w = view.matrix(&v, gain).unwrap();
            let lengths = w.norm(2.0, &[along], false).unwrap().to_f64_vec().unwrap();
            assert_close(&format!("{view:?}"), &lengths, &want, 1e-6, 1e-6);
            let larger = view.matrix(&v.mul_scalar(64.0).unwrap(), gain).unwrap().to_f64_vec().unwrap();
            assert_close(&format!("{view:?} of a larger matrix"), &larger, &w.to_f64_vec().unwrap(), 1e-6, 1e-5);
            let zeros = view.matrix(&v.zeros_like().unwrap(), gain).unwrap().to_f64_vec().unwrap();
            assert_eq!(zeros, [0.0; 60], "{view:?}");
        }
        let standardized = WeightView::Standardized { eps: EPS }.matrix(&v, None).unwrap();
        let sums = standardized.sum(&[-1], false).unwrap().to_f64_vec().unwrap();
        assert_close("rows sum to zero", &sums, &[0.0; 5], 1e-5, 0.0);
    });
}

/// After the initialisation by a batch, outputs have mean 0 and variance 1 on it.
#[test]
fn initialisation_by_data() {
    each_device(|device| {
        let build = Build::new(device);
        let layer = NormedLinear::new(WeightView::WeightNorm, 7, 4, &build).unwrap();
        let x = Input::uniform(-1.0, 5.0, &[2, 60, 7], 5).stored(device, DType::F32).unwrap();
        layer.init_from(&x).unwrap();
        let y = layer.forward(&x).unwrap();
        assert_close("mean", &y.mean(&[0, 1], false).unwrap().to_f64_vec().unwrap(), &[0.0; 4], 1e-5, 0.0);
        assert_close("variance", &y.var(&[0, 1], 0.0, false).unwrap().to_f64_vec().unwrap(), &[1.0; 4], 1e-4, 0.0);
        let names: Vec<String> = layer.named_parameters().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["weight", "gain", "bias"]);
        let unit = NormedLinear::new(WeightView::UnitRows, 7, 4, &build).unwrap();
        assert!(unit.init_from(&x).unwrap_err().to_string().contains("no gain"));
        let constant = layer.init_from(&x.zeros_like().unwrap());
        assert!(constant.unwrap_err().to_string().contains("same for the whole batch"));
    });
}
