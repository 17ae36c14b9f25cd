//! Norms of a sum, and of a sum after dropout.

use proptest::prelude::*;
use wgrad::{DType, Device, NormKind, NormOptions, Result, Tensor, reference};
use wgrad_tests::{
    Input, assert_close, assert_equal, each_device, expect_error, gradcheck, same_on_devices, same_on_devices_within,
    strategy,
};

use super::{EPS, Norm, affine, inputs};
use crate::random::at;

/// A product of both outputs, so that the gradients of both meet.
const SUMS: [(&str, Norm, Norm); 2] = [
    (
        "add_layer_norm",
        |x| x[0].add_layer_norm(&x[3], Some(&x[1]), Some(&x[2]), EPS).and_then(|(y, sum)| y.add(&sum.mul_scalar(0.5)?)),
        |x| {
            let sum = x[0].add(&x[3])?;
            reference::norm(&sum, &affine(NormKind::Layer, Some(&x[1]), Some(&x[2])))?.add(&sum.mul_scalar(0.5)?)
        },
    ),
    (
        "add_rms_norm",
        |x| x[0].add_rms_norm(&x[3], Some(&x[1]), EPS).and_then(|(y, sum)| y.mul(&sum)?.add(&x[2])),
        |x| {
            let sum = x[0].add(&x[3])?;
            reference::norm(&sum, &affine(NormKind::Rms, Some(&x[1]), None))?.mul(&sum)?.add(&x[2])
        },
    ),
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(6) })]

    #[test]
    fn of_a_sum(rows in 1..40usize, cols in strategy::size(), seed in any::<u64>()) {
        let [x, gain, bias] = inputs(rows, cols, seed);
        let residual = strategy::view_of(&[rows, cols], &|shape, seed| Input::normal(shape, seed), seed ^ 3);
        let inputs = [x, gain, bias, residual];
        for (name, fused, composed) in SUMS {
            gradcheck(name, &inputs, fused);
            same_on_devices_within(if cols < 4 { 50.0 } else { 4.0 }, name, &inputs, fused);
            each_device(|device| {
                let x: Vec<Tensor> = inputs.iter().map(|i| i.stored(device, DType::F32).unwrap()).collect();
                let x: Vec<Tensor> = inputs.iter().zip(&x).map(|(i, x)| i.operand(x).unwrap()).collect();
                let (a, b) = (fused(&x).unwrap().to_f64_vec().unwrap(), composed(&x).unwrap().to_f64_vec().unwrap());
                let largest = b.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
                assert_close(name, &a, &b, 1e-5 * largest, 1e-5);
            });
        }
    }
}

/// Each output alone, and none of a gradient that nobody wants.
#[test]
fn one_output_of_a_sum() {
    let inputs = [Input::normal(&[5, 6], 1), Input::normal(&[5, 6], 2), Input::uniform(0.5, 1.5, &[6], 3)];
    let both = |x: &[Tensor]| x[0].add_layer_norm(&x[1], Some(&x[2]), None, EPS);
    gradcheck("norm of a sum", &inputs, |x| Ok(both(x)?.0));
    same_on_devices("norm of a sum", &inputs, |x| Ok(both(x)?.0));
    each_device(|device| {
        let x = Tensor::ones(&[2, 3], DType::F32, device).unwrap().requires_grad();
        let (y, sum) = x.add_layer_norm(&x, None, None, EPS).unwrap();
        let gradients = sum.sum_all().unwrap().backward().unwrap();
        assert_eq!(gradients.get(&x).unwrap().to_vec::<f32>().unwrap(), [2.0; 6]);
        assert!(y.is_tracked());
        let empty = Tensor::zeros(&[0, 3], DType::F32, device).unwrap();
        assert_eq!(empty.add_rms_norm(&empty, None, EPS).unwrap().1.shape(), &[0, 3]);
        let wrong = Tensor::zeros(&[3], DType::F32, device).unwrap();
        expect_error(x.add_rms_norm(&wrong, None, EPS), &["add_rms_norm", "residual", "[3]", "[2, 3]"]);
    });
}

/// The gradients of both outputs meet in a product. Which elements fall depends on the seed alone.
fn dropped(x: &[Tensor], p: f64, options: &NormOptions) -> Result<Tensor> {
    let (y, sum) = at(x[0].device(), 5, || x[0].add_row_norm(&x[1], p, options))?;
    y.mul(&sum)
}

fn composed(x: &[Tensor], p: f64, options: &NormOptions) -> Result<Tensor> {
    let sum = at(x[0].device(), 5, || x[0].dropout(p))?.add(&x[1])?;
    reference::norm(&sum, options)?.mul(&sum)
}

/// Rows that are whole blocks of random numbers, and rows that begin in the middle of one.
#[test]
fn after_dropout() {
    for (rows, cols) in [(5, 8), (7, 9), (40, 3)] {
        let x = [Input::normal(&[rows, cols], 1), Input::normal(&[rows, cols], 2)];
        let parameters = [Input::uniform(0.5, 1.5, &[cols], 3), Input::normal(&[cols], 4)];
        let inputs = [x, parameters].concat();
        for p in [0.3, 1.0] {
            let fused = |x: &[Tensor]| dropped(x, p, &affine(NormKind::Layer, Some(&x[2]), Some(&x[3])));
            gradcheck("norm of a sum after dropout", &inputs, fused);
            same_on_devices_within(if cols < 4 { 50.0 } else { 4.0 }, "norm of a sum after dropout", &inputs, fused);
            each_device(|device| {
                let x: Vec<Tensor> = inputs.iter().map(|i| i.stored(device, DType::F32).unwrap()).collect();
                let options = affine(NormKind::Layer, Some(&x[2]), Some(&x[3]));
                let all = [dropped(&x, p, &options), composed(&x, p, &options)].map(|y| {
                    let y = y.unwrap();
                    let gradients = y.square().unwrap().sum_all().unwrap().backward().unwrap();
                    let gradient = |x: &Tensor| gradients.get(x).unwrap().to_f64_vec().unwrap();
                    [vec![y.to_f64_vec().unwrap()], x.iter().map(gradient).collect()].concat()
                });
                for (fused, composed) in all[0].iter().zip(&all[1]) {
                    let largest = composed.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
                    assert_close("norm of a sum after dropout", fused, composed, 2e-5 * largest, 1e-5);
                }
            });
        }
    }
}

/// The CPU device does both in one pass over each piece of the rows, to the bit as one after the other; pieces begin in the middle of a block.
#[test]
fn after_dropout_in_pieces_on_the_cpu() {
    let device = Device::new_cpu();
    for dtype in [DType::F32, DType::F64] {
        let inputs =
            [Input::normal(&[77, 801], 1), Input::normal(&[77, 801], 2)].map(|i| i.stored(&device, dtype).unwrap());
        let options = NormOptions::new(NormKind::Rms, EPS);
        let run = |f: &dyn Fn(&[Tensor]) -> Result<(Tensor, Tensor)>| {
            let x = inputs.each_ref().map(|x| x.detach().requires_grad());
            let (y, sum) = at(&device, 5, || f(&x)).unwrap();
            let gradients = y.mul(&sum).unwrap().sum_all().unwrap().backward().unwrap();
            let gradients = x.each_ref().map(|x| gradients.get(x).unwrap().clone());
            [vec![y, sum], gradients.to_vec()].concat()
        };
        let fused = run(&|x| x[0].add_row_norm(&x[1], 0.3, &options));
        let apart = run(&|x| x[0].dropout(0.3)?.add_row_norm(&x[1], 0.0, &options));
        for (fused, apart) in fused.iter().zip(&apart) {
            assert_equal("a norm after dropout", &fused.to_f64_vec().unwrap(), &apart.to_f64_vec().unwrap());
        }
    }
}

/// The rate of dropout, its scale, and the gradient of what fell.
#[test]
fn dropout_is_dropout() {
    each_device(|device| {
        let x = Tensor::ones(&[33, 65], DType::F32, device).unwrap().requires_grad();
        let zeros = x.zeros_like().unwrap();
        let options = NormOptions::new(NormKind::Rms, EPS);
        let (_, sum) = at(device, 3, || x.add_row_norm(&zeros, 0.25, &options)).unwrap();
        let values = sum.to_f64_vec().unwrap();
        let fallen = values.iter().filter(|&&v| v == 0.0).count();
        assert!(fallen.abs_diff(33 * 65 / 4) < 4 * 20, "{fallen}");
        assert!(values.iter().all(|&v| v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-6));
        let gradients = sum.sum_all().unwrap().backward().unwrap();
        assert_equal("the same mask", &gradients.get(&x).unwrap().to_f64_vec().unwrap(), &values);
        // Without dropout, and where all falls.
        let (_, same) = x.add_row_norm(&zeros, 0.0, &options).unwrap();
        assert_equal("p = 0", &same.to_vec::<f32>().unwrap(), &[1.0; 33 * 65]);
        let (_, gone) = x.add_row_norm(&zeros, 1.0, &options).unwrap();
        assert_equal("p = 1", &gone.to_vec::<f32>().unwrap(), &[0.0; 33 * 65]);
    });
    let x = Tensor::zeros(&[2, 0], DType::F32, &Device::cpu()).unwrap();
    let (y, sum) = x.add_row_norm(&x, 0.5, &NormOptions::new(NormKind::Unit(2.0), EPS)).unwrap();
    assert_eq!((y.shape(), sum.shape()), (&[2, 0][..], &[2, 0][..]));
}
