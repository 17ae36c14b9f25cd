//! Pooling, interpolation, sampling.

use proptest::prelude::*;
use wgrad::{DType, Device, GridPadding, Interpolation, Pool, Tensor};
use wgrad_tests::{
    Input, Random, assert_close, each_device, expect_error, gpu_with_bindings_of, gradcheck, same_on_devices,
    same_on_devices_within, strategy,
};

/// Images behind a view, and a pooling that fits them.
fn case(seed: u64, fill: &dyn Fn(&[usize], u64) -> Input) -> ([usize; 4], Input, Pool<2>) {
    let mut random = Random::new(seed);
    let mut pair = |low: usize, range: usize| [low + random.below(range), low + random.below(range)];
    let (kernel, stride, extra, lead) = (pair(1, 4), pair(1, 3), pair(0, 6), pair(1, 3));
    let padding = std::array::from_fn(|d| kernel[d] / 2 * ((seed >> d) as usize & 1));
    let shape = [lead[0], lead[1], kernel[0] + extra[0], kernel[1] + extra[1]];
    let pool = Pool { stride, padding, ceil_mode: seed & 4 > 0, count_include_pad: seed & 8 > 0, ..Pool::new(kernel) };
    (shape, strategy::view_of(&shape, fill, seed), pool)
}

/// What each window of one dimension covers: start and end, without padding, and elements with padding.
fn windows(size: usize, pool: &Pool<2>, d: usize) -> Vec<(usize, usize, usize)> {
    let (kernel, stride, padding) = (pool.kernel[d] as isize, pool.stride[d] as isize, pool.padding[d] as isize);
    let mut all = Vec::new();
    let mut start = -padding;
    let size = size as isize;
    while if pool.ceil_mode {
        start < size && (start == -padding || start + kernel < size + padding + stride)
    } else {
        start + kernel <= size + padding
    } {
        let end = (start + kernel).min(size + padding);
        all.push((start.max(0) as usize, end.min(size) as usize, (end - start) as usize));
        start += stride;
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(16) })]

    #[test]
    fn pools(seed in any::<u64>()) {
        let (shape, x, pool) = case(seed, &|shape, seed| Input::distinct(0.05, shape, seed));
        let dense = x.operand(&x.stored(&Device::cpu(), DType::F64).unwrap()).unwrap().to_f64_vec().unwrap();
        let (mut highest, mut means) = (Vec::new(), Vec::new());
        for plane in dense.chunks(shape[2] * shape[3]) {
            for &(top, bottom, rows) in &windows(shape[2], &pool, 0) {
                for &(left, right, columns) in &windows(shape[3], &pool, 1) {
                    let inside: Vec<f64> =
                        (top..bottom).flat_map(|r| &plane[r * shape[3] + left..r * shape[3] + right]).copied().collect();
                    let count = if pool.count_include_pad { rows * columns } else { inside.len() };
                    highest.push(inside.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(v)));
                    means.push(inside.iter().sum::<f64>() / count as f64);
                }
            }
        }
        let mean = |x: &[Tensor]| x[0].avg_pool2d(&pool);
        let most = |x: &[Tensor]| x[0].max_pool2d(&pool);
        let inputs = [x];
        each_device(|device| {
            let x = [inputs[0].operand(&inputs[0].stored(device, DType::F32).unwrap()).unwrap()];
            assert_close("max_pool2d", &most(&x).unwrap().to_f64_vec().unwrap(), &highest, 1e-6, 1e-6);
            assert_close("avg_pool2d", &mean(&x).unwrap().to_f64_vec().unwrap(), &means, 1e-5, 1e-5);
        });
        gradcheck("avg_pool2d", &inputs, mean);
        same_on_devices("avg_pool2d", &inputs, mean);
        same_on_devices("max_pool2d", &inputs, most);
        // Equal elements of an expanded view move together.
        if dense.len() == inputs[0].values.len() {
            gradcheck("max_pool2d", &inputs, most);
        }
    }

    #[test]
    fn interpolations(seed in any::<u64>(), rows in 1..9usize, columns in 1..9usize) {
        let (_, x, _) = case(seed, &|shape, seed| Input::normal(shape, seed));
        let inputs = [x];
        let align_corners = seed & 1 > 0;
        let all = [Interpolation::Nearest, Interpolation::Linear { align_corners }, Interpolation::Cubic { align_corners }];
        for how in all {
            let scaled = |x: &[Tensor]| x[0].interpolate(&[rows, columns], how);
            gradcheck("interpolate", &inputs, scaled);
            same_on_devices("interpolate", &inputs, scaled);
            // Weights of an element add up to one.
            let ones = Tensor::ones(&[1, 1, 5, 3], DType::F64, &Device::cpu()).unwrap();
            let y = ones.interpolate(&[rows, columns], how).unwrap().to_f64_vec().unwrap();
            assert_close("constant", &y, &vec![1.0; rows * columns], 1e-12, 0.0);
        }
        let pooled = |x: &[Tensor]| x[0].adaptive_avg_pool2d([rows, columns]);
        gradcheck("adaptive_avg_pool2d", &inputs, pooled);
        same_on_devices("adaptive_avg_pool2d", &inputs, pooled);
    }

    #[test]
    fn samples(seed in any::<u64>()) {
        let (shape, x, _) = case(seed, &|shape, seed| Input::normal(shape, seed));
        // Far enough from the lines between pixels, where the derivative jumps.
        let mut random = Random::new(seed ^ 9);
        let [n, rows, columns] = [shape[0], 1 + random.below(4), 1 + random.below(5)];
        for (padding, align_corners) in
            [(GridPadding::Zeros, true), (GridPadding::Zeros, false), (GridPadding::Border, seed & 1 > 0)]
        {
            let place = |size: usize, random: &mut Random| {
                let at = random.below(size + 3) as f64 - 2.0 + random.uniform(0.1, 0.9);
                let (at, size) = (at, size as f64);
                if align_corners { 2.0 * at / (size - 1.0).max(1.0) - 1.0 } else { (2.0 * at + 1.0) / size - 1.0 }
            };
            let places = (0..n * rows * columns).flat_map(|_| [place(shape[3], &mut random), place(shape[2], &mut random)]);
            let grid = Input::of(&places.collect::<Vec<_>>(), &[n, rows, columns, 2]);
            let inputs = [x.clone(), grid];
            let sampled = |x: &[Tensor]| x[0].grid_sample(&x[1], padding, align_corners);
            gradcheck("grid_sample", &inputs, sampled);
            each_device(|device| {
                let run = |device: &Device| {
                    let x: Vec<Tensor> = inputs.iter().map(|i| i.operand(&i.stored(device, DType::F32).unwrap()).unwrap()).collect();
                    sampled(&x).unwrap().to_f64_vec().unwrap()
                };
                assert_close("grid_sample", &run(device), &run(&Device::cpu()), 2e-5, 1e-5);
            });
        }
    }
}

/// On the pixels themselves a sample is a pixel, and gradients of image and grid agree on all devices.
#[test]
fn samples_of_pixels() {
    let identity: Vec<f64> = (0..12).flat_map(|i| [f64::from(i % 4) / 1.5 - 1.0, f64::from(i / 4) - 1.0]).collect();
    let inputs = [Input::normal(&[1, 2, 3, 4], 1), Input::of(&identity, &[1, 3, 4, 2]).constant()];
    same_on_devices_within(4.0, "grid_sample", &inputs, |x| x[0].grid_sample(&x[1], GridPadding::Border, true));
    let x = inputs[0].stored(&Device::cpu(), DType::F64).unwrap();
    let y = x.grid_sample(&inputs[1].stored(&Device::cpu(), DType::F64).unwrap(), GridPadding::Zeros, true).unwrap();
    assert_close("pixels", &y.to_f64_vec().unwrap(), &x.to_f64_vec().unwrap(), 1e-12, 1e-12);
    let inputs = [Input::normal(&[2, 3, 5, 4], 2), Input::uniform(-1.2, 1.2, &[2, 6, 2, 2], 3)];
    each_device(|device| {
        let run = |device: &Device| {
            let x: Vec<Tensor> = inputs.iter().map(|i| i.stored(device, DType::F32).unwrap()).collect();
            let y = x[0].grid_sample(&x[1], GridPadding::Zeros, false).unwrap();
            let gradients = y.square().unwrap().sum_all().unwrap().backward().unwrap();
            x.iter().flat_map(|x| gradients.get(x).unwrap().to_f64_vec().unwrap()).collect::<Vec<f64>>()
        };
        assert_close("gradients of grid_sample", &run(device), &run(&Device::cpu()), 1e-3, 1e-4);
        // Far outside, and not a number, is no reason to fail.
        let far = Tensor::from_slice(&[1e30f32, -1e30, f32::INFINITY, 0.0], &[1, 2, 1, 2], device).unwrap();
        let image = Tensor::ones(&[1, 1, 3, 3], DType::F32, device).unwrap();
        let y = image.grid_sample(&far, GridPadding::Zeros, false).unwrap();
        assert_eq!(y.to_vec::<f32>().unwrap(), [0.0, 0.0]);
    });
}

/// Of equal elements the first gets the gradient, over both dimensions.
#[test]
fn ties() {
    each_device(|device| {
        let x = Tensor::from_slice(&[1f32, 2.0, 2.0, 2.0, 0.0, 1.0], &[1, 1, 2, 3], device).unwrap().requires_grad();
        let y = x.max_pool2d(&Pool::new([2, 3])).unwrap();
        let gradient = y.sum_all().unwrap().backward().unwrap().get(&x).unwrap().to_vec::<f32>().unwrap();
        assert_eq!(gradient, [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    });
}

#[test]
fn nothing_dilated_and_in_pieces() {
    each_device(|device| {
        let none = Tensor::zeros(&[0, 2, 5], DType::F32, device).unwrap().requires_grad();
        for y in [none.max_pool1d(&Pool::new([2])).unwrap(), none.avg_pool1d(&Pool::new([2])).unwrap()] {
            assert_eq!(y.shape(), [0, 2, 2]);
            assert_eq!(y.sum_all().unwrap().backward().unwrap().get(&none).unwrap().shape(), [0, 2, 5]);
        }
        let x = Tensor::arange(0, 6, DType::F32, device).unwrap().reshape(&[1, 1, 6]).unwrap();
        let dilated = x.max_pool1d(&Pool { stride: [1], dilation: [2], ..Pool::new([2]) }).unwrap();
        assert_eq!(dilated.to_vec::<f32>().unwrap(), [2.0, 3.0, 4.0, 5.0]);
        assert_eq!(x.interpolate(&[0], Interpolation::Nearest).unwrap().shape(), [1, 1, 0]);
    });
    let Some(small) = gpu_with_bindings_of(1 << 10) else { return };
    let run = |device: &Device| {
        let x = Input::distinct(0.1, &[6, 3, 5, 7], 1).stored(device, DType::F32).unwrap();
        let y = x.max_pool2d(&Pool { stride: [1, 1], ..Pool::new([2, 2]) }).unwrap();
        let z = x.interpolate(&[4, 9], Interpolation::Linear { align_corners: false }).unwrap();
        let loss = y.square().unwrap().sum_all().unwrap().add(&z.square().unwrap().sum_all().unwrap()).unwrap();
        loss.backward().unwrap().get(&x).unwrap().to_f64_vec().unwrap()
    };
    assert_close("in pieces", &run(&small), &run(&Device::cpu()), 1e-3, 1e-5);
}

#[test]
fn bad_input() {
    let x = Tensor::zeros(&[1, 2, 5], DType::F32, &Device::cpu()).unwrap();
    expect_error(x.max_pool1d(&Pool::new([0])), &["max_pool1d", "kernel 0"]);
    expect_error(x.max_pool1d(&Pool::new([6])), &["max_pool1d", "6", "5"]);
    expect_error(x.max_pool1d(&Pool { padding: [2], ..Pool::new([2]) }), &["max_pool1d", "padding 2", "half"]);
    let lost = Pool { padding: [1], stride: [9], dilation: [6], ..Pool::new([2]) };
    expect_error(x.max_pool1d(&lost), &["max_pool1d", "padding"]);
    let wide = Pool { padding: [1 << 39], stride: [1], ..Pool::new([1 << 40]) };
    expect_error(x.max_pool1d(&wide), &["max_pool1d", "1099511627776", "2^31"]);
    expect_error(x.avg_pool1d(&wide), &["avg_pool1d", "1099511627776", "2^31"]);
    // As wide as may be: nothing is looked at but the elements.
    let wide = Pool { padding: [1 << 29], stride: [1 << 29], ..Pool::new([1 << 30]) };
    assert_eq!(x.max_pool1d(&wide).unwrap().shape(), [1, 2, 1]);
    expect_error(x.avg_pool1d(&Pool { dilation: [2], ..Pool::new([2]) }), &["avg_pool1d", "dilation", "2"]);
    expect_error(x.avg_pool2d(&Pool::new([1, 1])), &["avg_pool2d", "[1, 2, 5]", "4 dimensions"]);
    expect_error(x.cast(DType::I32).unwrap().avg_pool1d(&Pool::new([1])), &["avg_pool1d", "i32"]);
    expect_error(x.interpolate(&[1, 2, 3, 4], Interpolation::Nearest), &["interpolate", "[1, 2, 3, 4]", "[1, 2, 5]"]);
    let none = Tensor::zeros(&[1, 2, 0], DType::F32, &Device::cpu()).unwrap();
    expect_error(none.interpolate(&[3], Interpolation::Nearest), &["interpolate", "[0]"]);
    expect_error(x.interpolate(&[usize::MAX], Interpolation::Nearest), &["interpolate"]);
    let (image, grid) = (x.unsqueeze(2).unwrap(), x.unsqueeze(0).unwrap());
    expect_error(image.grid_sample(&grid, GridPadding::Zeros, true), &["grid_sample", "[1, 2, 1, 5]", "[1, 1, 2, 5]"]);
}
