//! Convolutions and windows.

use proptest::prelude::*;
use wgrad::{Conv, DType, Device, Result, Tensor, autograd};
use wgrad_tests::{
    Input, Random, assert_close, each_device, expect_error, gpu_with_bindings_of, gradcheck, same_on_devices, strategy,
};

/// A convolution over two dimensions.
#[derive(Debug, Clone)]
struct Case {
    batch: usize,
    size: [usize; 2],
    /// Channels and outputs of a group.
    group: [usize; 2],
    kernel: [usize; 2],
    options: Conv<2>,
    seed: u64,
}

impl Case {
    fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut pair = |low: usize, range: usize| [low + random.below(range), low + random.below(range)];
        let (kernel, stride, dilation, padding, extra) = (pair(1, 3), pair(1, 3), pair(1, 2), pair(0, 3), pair(0, 5));
        let group = [[1, 1], [1, 2], [3, 2], [5, 6]][pair(0, 4)[0]];
        let groups = [1, 2, 3][pair(0, 3)[0]];
        let least = |d: usize| ((kernel[d] - 1) * dilation[d] + 1).saturating_sub(2 * padding[d]).max(1);
        let size = [least(0) + extra[0], least(1) + extra[1]];
        let options = Conv { stride, padding, dilation, groups, ..Conv::default() };
        Case { batch: 1 + pair(0, 3)[1], size, group, kernel, options, seed }
    }

    fn x_shape(&self) -> [usize; 4] {
        [self.batch, self.group[0] * self.options.groups, self.size[0], self.size[1]]
    }

    fn y_shape(&self) -> [usize; 4] {
        let out = |d: usize| {
            let span = (self.kernel[d] - 1) * self.options.dilation[d] + 1;
            (self.size[d] + 2 * self.options.padding[d] - span) / self.options.stride[d] + 1
        };
        [self.batch, self.group[1] * self.options.groups, out(0), out(1)]
    }

    /// x behind a view, weight, bias.
    fn inputs(&self) -> [Input; 3] {
        let outputs = self.y_shape()[1];
        let view = |shape: &[usize], seed| strategy::view_of(shape, &|shape, seed| Input::normal(shape, seed), seed);
        [
            view(&self.x_shape(), self.seed),
            view(&[outputs, self.group[0], self.kernel[0], self.kernel[1]], self.seed ^ 1),
            Input::normal(&[outputs], self.seed ^ 2),
        ]
    }

    /// The definition.
    fn value(&self, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let ([_, channels, height, width], [batch, outputs, rows, columns]) = (self.x_shape(), self.y_shape());
        let Conv { stride, padding, dilation, .. } = self.options;
        let mut y = Vec::new();
        for n in 0..batch {
            for o in 0..outputs {
                for at in 0..rows * columns {
                    let mut sum = bias[o];
                    for c in 0..self.group[0] {
                        for i in 0..self.kernel[0] {
                            for j in 0..self.kernel[1] {
                                let row = (at / columns * stride[0] + i * dilation[0]).wrapping_sub(padding[0]);
                                let column = (at % columns * stride[1] + j * dilation[1]).wrapping_sub(padding[1]);
                                if row < height && column < width {
                                    let channel = o / self.group[1] * self.group[0] + c;
                                    let v = x[((n * channels + channel) * height + row) * width + column];
                                    let tap = ((o * self.group[0] + c) * self.kernel[0] + i) * self.kernel[1] + j;
                                    sum += weight[tap] * v;
                                }
                            }
                        }
                    }
                    y.push(sum);
                }
            }
        }
        y
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn values_gradients_and_devices(seed in any::<u64>()) {
        let case = Case::draw(seed);
        let inputs = case.inputs();
        let options = case.options;
        let conv = |x: &[Tensor]| x[0].conv2d(&x[1], Some(&x[2]), &options);
        let cpu = Device::cpu();
        let stored: Vec<Tensor> =
            inputs.iter().map(|i| i.operand(&i.stored(&cpu, DType::F64).unwrap()).unwrap()).collect();
        let y = conv(&stored).unwrap();
        prop_assert_eq!(y.shape(), &case.y_shape()[..]);
        let values: Vec<Vec<f64>> = stored.iter().map(|x| x.to_f64_vec().unwrap()).collect();
        let want = case.value(&values[0], &values[1], &values[2]);
        assert_close("conv2d", &y.to_f64_vec().unwrap(), &want, 1e-11, 1e-11);
        gradcheck("conv2d", &inputs, conv);
        same_on_devices("conv2d", &inputs, conv);
    }

    #[test]
    fn transposed(seed in any::<u64>()) {
        let case = Case::draw(seed);
        let [_, weight, _] = case.inputs();
        let added = std::array::from_fn(|d| (seed as usize >> d) % case.options.stride[d].max(case.options.dilation[d]));
        let options = Conv { output_padding: added, ..case.options };
        let y = strategy::view_of(&case.y_shape(), &|shape, seed| Input::normal(shape, seed), seed ^ 5);
        let bias = Input::normal(&[case.x_shape()[1]], seed ^ 6);
        let back = |x: &[Tensor]| x[0].conv_transpose2d(&x[1], Some(&x[2]), &options);
        // An output of no elements is an error where the padding takes all.
        let small = (0..2).any(|d| {
            let span = (case.kernel[d] - 1) * options.dilation[d] + 1;
            (case.y_shape()[2 + d] - 1) * options.stride[d] + span + added[d] <= 2 * options.padding[d]
        });
        if !small {
            let inputs = [y, weight, bias];
            gradcheck("conv_transpose2d", &inputs, back);
            same_on_devices("conv_transpose2d", &inputs, back);
        }
    }
}

/// `<conv(x), y> = <x, conv_transpose(y)>`, with the output padding that gives the size of x.
#[test]
fn one_is_the_adjoint_of_the_other() {
    for (size, kernel, stride, padding, dilation, groups) in
        [(11, 3, 2, 1, 1, 1), (9, 4, 3, 2, 1, 2), (13, 3, 1, 0, 3, 4), (8, 1, 2, 0, 1, 1), (7, 7, 1, 3, 1, 4)]
    {
        let out = (size + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
        let added = size + 2 * padding - dilation * (kernel - 1) - 1 - (out - 1) * stride;
        let options =
            Conv { stride: [stride], padding: [padding], dilation: [dilation], groups, output_padding: [added] };
        each_device(|device| {
            let stored = |shape: &[usize], seed| Input::normal(shape, seed).stored(device, DType::F32).unwrap();
            let (x, w, y) = (stored(&[2, 4, size], 1), stored(&[8, 4 / groups, kernel], 2), stored(&[2, 8, out], 3));
            let dot = |a: Tensor, b: &Tensor| a.mul(b).unwrap().sum_all().unwrap().item().unwrap();
            let forward = dot(x.conv1d(&w, None, &options).unwrap(), &y);
            let back = dot(y.conv_transpose1d(&w, None, &options).unwrap(), &x);
            assert_close("adjoint", &[back], &[forward], 1e-3, 1e-5);
        });
    }
}

/// Batches in pieces that small bindings hold.
#[test]
fn pieces_of_a_batch() {
    let Some(small) = gpu_with_bindings_of(2 << 10) else { return };
    for (channels, outputs, groups) in [(3, 5, 1), (4, 4, 4), (10, 12, 2)] {
        let options = Conv { padding: [1, 1], groups, ..Conv::default() };
        let shapes: [&[usize]; 3] = [&[5, channels, 5, 4], &[outputs, channels / groups, 3, 2], &[outputs]];
        let run = |device: &Device| -> Result<Vec<Vec<f64>>> {
            let inputs: Vec<Tensor> = shapes
                .iter()
                .zip(1..)
                .map(|(shape, seed)| Input::normal(shape, seed).stored(device, DType::F32))
                .collect::<Result<_>>()?;
            let y = inputs[0].conv2d(&inputs[1], Some(&inputs[2]), &options)?;
            let gradients = autograd::backward(&[(&y, y.detach().sin()?)], &[], false)?;
            let mut all = vec![y.to_f64_vec()?];
            for x in &inputs {
                all.push(gradients.get(x).unwrap().to_f64_vec()?);
            }
            Ok(all)
        };
        let (got, want) = (run(&small).unwrap(), run(&Device::cpu()).unwrap());
        for (got, want) in got.iter().zip(&want) {
            assert_close("conv2d in pieces", got, want, 2e-5, 1e-5);
        }
    }
}

#[test]
fn nothing_and_one() {
    each_device(|device| {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, device).unwrap().requires_grad();
        let (w, b) = (zeros(&[2, 3, 2]), Tensor::ones(&[2], DType::F32, device).unwrap().requires_grad());
        let none = zeros(&[0, 3, 4]);
        let y = none.conv1d(&w, Some(&b), &Conv::default()).unwrap();
        assert_eq!(y.shape(), [0, 2, 3]);
        let gradients = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(gradients.get(&w).unwrap().to_vec::<f32>().unwrap(), [0.0; 12]);
        assert_eq!(gradients.get(&none).unwrap().shape(), [0, 3, 4]);
        assert_eq!(none.conv_transpose1d(&zeros(&[3, 2, 2]), None, &Conv::default()).unwrap().shape(), [0, 2, 5]);
        // The padding alone.
        let pad = Conv { padding: [2], ..Conv::default() };
        let y = zeros(&[1, 3, 0]).conv1d(&w, Some(&b), &pad).unwrap();
        assert_eq!((y.shape(), y.to_vec::<f32>().unwrap()), (&[1, 2, 3][..], vec![1.0; 6]));
        let x = Tensor::from_slice(&[3f32], &[1, 1, 1, 1], device).unwrap();
        let y = x.conv2d(&x, None, &Conv::default()).unwrap();
        assert_eq!(y.to_vec::<f32>().unwrap(), [9.0]);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(8) })]

    #[test]
    fn unfolded(shape in strategy::shape(1..=3), dim in 0..3usize, size in 1..5usize, step in 1..5usize, seed in any::<u64>()) {
        let dim = dim % shape.len();
        let size = size.min(shape[dim]);
        let x = [strategy::view_of(&shape, &|shape, seed| Input::normal(shape, seed), seed)];
        let windows = |x: &[Tensor]| x[0].unfold(dim as isize, size, step);
        gradcheck("unfold", &x, windows);
        same_on_devices("unfold", &x, windows);
        let cpu = x[0].operand(&x[0].stored(&Device::cpu(), DType::F64).unwrap()).unwrap();
        let got = windows(std::slice::from_ref(&cpu)).unwrap();
        for i in 0..got.shape()[dim] {
            let window = got.select(dim as isize, i).unwrap().to_f64_vec().unwrap();
            let last = (shape.len() - 1) as isize;
            let want = cpu.narrow(dim as isize, i * step, size).unwrap();
            // The dimension that was cut comes last.
            let axes: Vec<isize> = (0..=last).filter(|&d| d != dim as isize).chain([dim as isize]).collect();
            prop_assert_eq!(window, want.permute(&axes).unwrap().to_f64_vec().unwrap());
        }
    }
}

#[test]
fn bad_input() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::cpu()).unwrap();
    let (x, w) = (zeros(&[1, 4, 5]), zeros(&[6, 4, 3]));
    let plain = Conv::default();
    expect_error(x.conv1d(&zeros(&[6, 3, 3]), None, &plain), &["conv1d", "4 channels", "[6, 3, 3]", "3"]);
    expect_error(x.conv1d(&zeros(&[6, 4]), None, &plain), &["conv1d", "weight", "[6, 4]", "3 dimensions"]);
    expect_error(x.conv1d(&w, Some(&zeros(&[4])), &plain), &["conv1d", "bias", "[4]", "[6]"]);
    expect_error(x.conv1d(&zeros(&[6, 4, 7]), None, &plain), &["conv1d", "7", "5"]);
    expect_error(x.conv1d(&zeros(&[6, 4, 0]), None, &plain), &["conv1d", "0"]);
    expect_error(x.conv1d(&w, None, &Conv { stride: [0], ..plain }), &["conv1d", "stride", "0"]);
    expect_error(x.conv1d(&w, None, &Conv { groups: 4, ..plain }), &["conv1d", "4 groups", "6"]);
    expect_error(x.conv1d(&w, None, &Conv { groups: 0, ..plain }), &["conv1d", "0 groups"]);
    expect_error(x.conv1d(&w, None, &Conv { padding: [usize::MAX], ..plain }), &["conv1d", "padding"]);
    expect_error(x.conv1d(&w, None, &Conv { dilation: [usize::MAX], ..plain }), &["conv1d"]);
    expect_error(x.conv1d(&w.cast(DType::F16).unwrap(), None, &plain), &["conv1d", "f16"]);
    expect_error(x.conv2d(&w, None, &Conv::default()), &["conv2d", "[1, 4, 5]", "4 dimensions"]);
    let back = zeros(&[4, 2, 3]);
    expect_error(x.conv_transpose1d(&w, None, &plain), &["conv_transpose1d", "4 channels", "6"]);
    let options = Conv { output_padding: [1], ..plain };
    expect_error(x.conv_transpose1d(&back, None, &options), &["conv_transpose1d", "output padding 1", "stride 1"]);
    expect_error(x.conv_transpose1d(&back, None, &Conv { padding: [4], ..plain }), &["conv_transpose1d", "7", "8"]);
    expect_error(x.unfold(2, 6, 1), &["unfold", "6", "size 5"]);
    expect_error(x.unfold(2, 2, 0), &["unfold", "every 0"]);
    expect_error(x.unfold(3, 2, 1), &["unfold", "3"]);
}
