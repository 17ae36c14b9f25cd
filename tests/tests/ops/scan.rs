//! Running sums and products.

use proptest::prelude::*;
use wgrad::{DType, Device, Tensor};
use wgrad_tests::{
    Input, assert_close, assert_equal, each_device, expect_error, gradcheck, gradcheck_within, same_on_devices,
    strategy,
};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(10) })]

    #[test]
    fn gradients_and_devices(shape in strategy::shape(1..=3), dim in 0..3usize, seed in any::<u64>()) {
        let dim = (dim % shape.len()) as isize;
        let sums = [strategy::view_of(&shape, &|shape, seed| Input::normal(shape, seed), seed)];
        gradcheck("cumsum", &sums, |x| x[0].cumsum(dim));
        same_on_devices("cumsum", &sums, |x| x[0].cumsum(dim));
        let products = [strategy::view_of(&shape, &|shape, seed| Input::uniform(0.9, 1.1, shape, seed), seed)];
        // Behind an expanded view it is a power with a large exponent, of strong curvature.
        gradcheck_within(30.0, "cumprod", &products, |x| x[0].cumprod(dim));
        same_on_devices("cumprod", &products, |x| x[0].cumprod(dim));
    }
}

#[test]
fn values() {
    each_device(|device| {
        let x = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3], device).unwrap();
        let vec = |t: Tensor| t.to_vec::<f32>().unwrap();
        assert_equal("cumsum", &vec(x.cumsum(1).unwrap()), &[1.0, 3.0, 6.0, 4.0, 9.0, 15.0]);
        assert_equal("cumsum", &vec(x.cumsum(0).unwrap()), &[1.0, 2.0, 3.0, 5.0, 7.0, 9.0]);
        assert_equal("cumprod", &vec(x.cumprod(-1).unwrap()), &[1.0, 2.0, 6.0, 4.0, 20.0, 120.0]);
        let mask = Tensor::from_slice(&[1i32, 0, 1, 1], &[4], device).unwrap();
        assert_equal("positions", &mask.cumsum(0).unwrap().to_vec::<i32>().unwrap(), &[1, 1, 2, 3]);
        let long = Tensor::ones(&[2, 5000], DType::F32, device).unwrap().cumsum(1).unwrap();
        let want: Vec<f64> = (0..10_000).map(|i| f64::from(i % 5000 + 1)).collect();
        assert_close("long cumsum", &long.to_f64_vec().unwrap(), &want, 0.0, 0.0);
        assert_eq!(Tensor::zeros(&[3, 0], DType::F32, device).unwrap().cumsum(1).unwrap().shape(), &[3, 0]);
    });
}

#[test]
fn products_with_zeros() {
    let x = Input::of(&[2.0, 0.0, 3.0, 4.0, 0.0, 0.0, 5.0, 1.0], &[2, 4]);
    gradcheck("cumprod with zeros", std::slice::from_ref(&x), |x| x[0].cumprod(1));
    same_on_devices("cumprod with zeros", &[x], |x| x[0].cumprod(1));
}

#[test]
fn bad_input() {
    let x = Tensor::zeros(&[2], DType::Bool, &Device::cpu()).unwrap();
    expect_error(x.cumsum(0), &["cumsum", "bool"]);
    expect_error(Tensor::zeros(&[2], DType::F32, &Device::cpu()).unwrap().cumprod(1), &["cumprod", "1", "rank 1"]);
}
