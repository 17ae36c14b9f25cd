//! Copies, casts, filled tensors, text.

use half::{bf16, f16};
use proptest::prelude::*;
use wgrad::{DType, Device, Element, Tensor};
use wgrad_tests::{Input, View, assert_equal, each_device, expect_error, gradcheck, same_on_devices, strategy};

const DTYPES: [DType; 6] = [DType::F32, DType::F16, DType::BF16, DType::I32, DType::U32, DType::Bool];

#[test]
fn filled() {
    each_device(|device| {
        for dtype in DTYPES {
            for shape in [&[][..], &[0], &[1], &[5], &[3, 7], &[1000]] {
                let n = shape.iter().product();
                assert_eq!(Tensor::full(1.0, shape, dtype, device).unwrap().to_f64_vec().unwrap(), vec![1.0; n]);
                assert_eq!(Tensor::zeros(shape, dtype, device).unwrap().to_f64_vec().unwrap(), vec![0.0; n]);
            }
        }
        for dtype in [DType::F32, DType::I32, DType::BF16] {
            let x = Tensor::arange(-3, 8, dtype, device).unwrap().to_f64_vec().unwrap();
            assert_eq!(x, (-3..8).map(f64::from).collect::<Vec<_>>());
        }
        assert_eq!(Tensor::arange(2, 2, DType::U32, device).unwrap().shape(), [0]);
        expect_error(Tensor::arange(3, 2, DType::U32, device), &["arange", "3", "2"]);
    });
}

#[test]
fn casts_between_all_dtypes() {
    // Values that every dtype holds, then each pair of dtypes.
    let values = [0.0, 1.0, 3.0, 100.0, 0.0, 1.0, 255.0];
    each_device(|device| {
        for from in DTYPES {
            for to in DTYPES {
                let x = Tensor::from_slice(&values, &[7], &Device::cpu()).unwrap().cast(from).unwrap();
                let x = x.to_device(device).unwrap();
                let truth = |v: f64| f64::from(u8::from(v != 0.0));
                let want = values.map(|v| if from == DType::Bool || to == DType::Bool { truth(v) } else { v });
                assert_eq!(x.cast(to).unwrap().to_f64_vec().unwrap(), want, "{from} to {to} on {device}");
                // From the middle, where halves share words and fours are not aligned.
                let part = x.narrow(0, 3, 4).unwrap().cast(to).unwrap();
                assert_eq!(part.to_f64_vec().unwrap(), want[3..], "{from} to {to} on {device}");
            }
        }
    });
}

#[test]
fn casts_at_the_ends_of_ranges() {
    each_device(|device| {
        let x = [2.9f32, -2.9, 3e9, -3e9, 5e9, f32::NAN, 2_147_483_648.0, -0.4];
        let x = Tensor::from_slice(&x, &[8], device).unwrap();
        let int = x.cast(DType::I32).unwrap().to_vec::<i32>().unwrap();
        assert_eq!(int, [2, -2, i32::MAX, i32::MIN, i32::MAX, 0, i32::MAX, 0]);
        let uint = x.cast(DType::U32).unwrap().to_vec::<u32>().unwrap();
        assert_eq!(uint, [2, 0, 3_000_000_000, 0, u32::MAX, 0, 1 << 31, 0]);
        let int = Tensor::from_slice(&[-1i32, 7], &[2], device).unwrap();
        assert_eq!(int.cast(DType::U32).unwrap().to_vec::<u32>().unwrap(), [0, 7]);
        let uint = Tensor::from_slice(&[u32::MAX, 7], &[2], device).unwrap();
        assert_eq!(uint.cast(DType::I32).unwrap().to_vec::<i32>().unwrap(), [i32::MAX, 7]);
    });
}

#[test]
fn halves_round_to_nearest_even() {
    // Between 1 and its successor, between that and the next: ties go to the even neighbour. NaN stays NaN.
    let step = |digits: i32| 2f32.powi(-digits);
    each_device(|device| {
        for (digits, dtype) in [(10, DType::F16), (7, DType::BF16)] {
            let (one, two) = (1.0 + step(digits), 1.0 + 2.0 * step(digits));
            let x = [1.0 + step(digits + 1), 1.0 + 3.0 * step(digits + 1), 1.0 + 1.01 * step(digits + 1), f32::NAN];
            let y = Tensor::from_slice(&x, &[4], device).unwrap().cast(dtype).unwrap().to_f64_vec().unwrap();
            assert_eq!(y[..3], [1.0, f64::from(two), f64::from(one)], "{dtype} on {device}");
            assert!(y[3].is_nan(), "{dtype} on {device}");
        }
        let wide = Tensor::from_slice(&[1e6f32, -1e6], &[2], device).unwrap().cast(DType::F16).unwrap();
        assert_eq!(wide.to_vec::<f16>().unwrap(), [f16::INFINITY, f16::NEG_INFINITY]);
    });
}

#[test]
fn gradient_through_casts() {
    let x = Input::normal(&[3, 5], 1);
    gradcheck("cast", std::slice::from_ref(&x), |x| x[0].cast(DType::F64)?.mul_scalar(2.0));
    same_on_devices("cast", std::slice::from_ref(&x), |x| x[0].cast(DType::BF16)?.cast(DType::F32));
    let ints = Tensor::ones(&[2], DType::F32, &Device::cpu()).unwrap().requires_grad().cast(DType::I32).unwrap();
    assert!(!ints.is_tracked());
    if let Some(gpu) = wgrad_tests::gpu() {
        let x = Tensor::ones(&[2], DType::F32, gpu).unwrap();
        expect_error(x.cast(DType::F64), &["cast", "f64", "CPU"]);
    }
}

/// Every bit pattern moves unchanged, NaN payloads too.
fn bits_survive<T: Element + PartialEq + std::fmt::Debug, B: PartialEq + std::fmt::Debug>(
    values: &[T],
    bits: impl Fn(&T) -> B,
) {
    each_device(|device| {
        let n = values.len();
        let x = Tensor::from_slice(values, &[n, 1], device).unwrap();
        let turned = x.expand(&[n, 3]).unwrap().transpose(0, 1).unwrap().copy().unwrap().to_vec::<T>().unwrap();
        let want: Vec<B> = (0..3 * n).map(|i| bits(&values[i % n])).collect();
        assert_equal("copy", &turned.iter().map(&bits).collect::<Vec<_>>(), &want);
    });
}

#[test]
fn copies_move_bits() {
    bits_survive(&[f32::NAN, -0.0, f32::from_bits(0x7f80_0001), 1e-42, f32::INFINITY], |v| v.to_bits());
    bits_survive(&[0x7e01u16, 0x7c01, 0x0001, 0x8000, 0xfc00].map(f16::from_bits), |v| v.to_bits());
    bits_survive(&[0x7fc1u16, 0x7f81, 0x0001, 0x8000, 0xff80].map(bf16::from_bits), |v| v.to_bits());
    bits_survive(&[true, false, true, true], |v| *v);
    bits_survive(&[u32::MAX, 0, 7], |v| *v);
}

#[test]
fn copies_of_many_dimensions() {
    let shape = [2, 3, 1, 2, 3, 2, 2, 2];
    let x = Input::normal(&shape, 1);
    let turn = |x: &[Tensor]| x[0].permute(&[7, 2, 5, 0, 3, 1, 6, 4])?.copy();
    gradcheck("copy", std::slice::from_ref(&x), turn);
    same_on_devices("copy", &[x], turn);
}

/// Fours, single elements for whole rows, halves that go in pairs and halves that do not.
#[test]
fn copies_of_every_kind() {
    let x = |shape: &[usize]| Input::normal(shape, 1);
    for input in [
        x(&[3, 4, 8]).view(View::Permute(vec![1, 0, 2])),
        x(&[3, 4, 6]).view(View::Permute(vec![1, 0, 2])),
        x(&[3, 4, 5]).view(View::Permute(vec![1, 0, 2])),
        x(&[5, 12]).view(View::Slice(1, 4, 12, 1)),
        x(&[5, 12]).view(View::Slice(1, 2, 8, 1)),
        x(&[5, 12]).view(View::Slice(1, 3, 12, 1)),
        x(&[5, 1]).view(View::Expand(vec![5, 8])),
        x(&[11]).view(View::Slice(0, 1, 11, 1)),
        x(&[37, 35]).view(View::Permute(vec![1, 0])),
        x(&[2, 3, 2, 3, 2, 8]).view(View::Permute(vec![4, 2, 0, 3, 1, 5])),
        x(&[2, 3, 2, 3, 2, 2]).view(View::Permute(vec![4, 2, 0, 3, 1, 5])),
    ] {
        same_on_devices("copy", &[input], |x| x[0].copy());
    }
}

#[test]
fn gradients_of_slices() {
    for (dim, start, stop, step) in [(0, 1, 4, 1), (1, 0, 7, 2), (2, 3, 5, 3), (1, 2, 2, 1), (-1, 0, 5, 1)] {
        let x = Input::normal(&[4, 7, 5], 1);
        gradcheck("slice", std::slice::from_ref(&x), |x| x[0].slice(dim, start, stop, step));
        same_on_devices("slice", &[x], |x| x[0].slice(dim, start, stop, step));
    }
    // In fours.
    for (dim, start, stop, step) in [(1, 1, 3, 1), (2, 4, 12, 1), (0, 0, 3, 2), (1, 1, 5, 3)] {
        same_on_devices("slice", &[Input::normal(&[4, 5, 12], 1)], |x| x[0].slice(dim, start, stop, step));
    }
}

/// Where in the stored values each element of an operand with at most one view stands, worked out index by index.
fn indices(input: &Input, shape: &[usize]) -> impl Iterator<Item = usize> {
    let strides: Vec<usize> = (0..input.shape.len()).map(|d| input.shape[d + 1..].iter().product()).collect();
    let (view, stored, shape) = (input.views.first().cloned(), input.shape.clone(), shape.to_vec());
    (0..shape.iter().product()).map(move |element| {
        let at: Vec<usize> =
            (0..shape.len()).map(|d| element / shape[d + 1..].iter().product::<usize>() % shape[d]).collect();
        let of = |d: usize| match &view {
            Some(View::Permute(axes)) => axes.iter().position(|&axis| axis == d as isize).map_or(0, |to| at[to]),
            Some(View::Slice(dim, start, _, step)) if *dim == d as isize => start + at[d] * step,
            Some(View::Expand(_)) if stored[d] == 1 => 0,
            _ => at[d],
        };
        (0..stored.len()).map(|d| of(d) * strides[d]).sum()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_view_copies(input in strategy::shape_with_zero(0..=6).prop_flat_map(|s| strategy::viewed(s, Input::normal))) {
        each_device(|device| {
            let operand = input.operand(&input.stored(device, DType::F32).unwrap().detach()).unwrap();
            let want: Vec<f64> = indices(&input, operand.shape()).map(|i| f64::from(input.values[i] as f32)).collect();
            assert_equal("copy", &operand.copy().unwrap().to_f64_vec().unwrap(), &want);
        });
        same_on_devices("copy", std::slice::from_ref(&input), |x| x[0].copy());
        gradcheck("copy", &[input], |x| x[0].copy());
    }
}

#[test]
fn text() {
    let device = Device::cpu();
    let x = Tensor::arange(0, 6, DType::F32, &device).unwrap().reshape(&[2, 3]).unwrap();
    assert_eq!(x.to_string(), "Tensor [2, 3] f32 on cpu\n[[0.0000, 1.0000, 2.0000],\n [3.0000, 4.0000, 5.0000]]");
    let scalar = Tensor::scalar(-2.5e-7, DType::F32, &device).unwrap();
    assert_eq!(scalar.to_string(), "Tensor [] f32 on cpu\n-2.500e-7");
    assert_eq!(Tensor::zeros(&[0, 2], DType::I32, &device).unwrap().to_string(), "Tensor [0, 2] i32 on cpu\n[]");
    let bools = Tensor::from_slice(&[true, false], &[2], &device).unwrap();
    assert_eq!(bools.to_string(), "Tensor [2] bool on cpu\n[ true, false]");

    // Long dimensions show their ends: 3 + 3 of 9 planes, all of 2 rows, 3 + 3 of 10 columns.
    let long = Tensor::arange(0, 180, DType::I32, &device).unwrap().reshape(&[9, 2, 10]).unwrap().to_string();
    let lines: Vec<&str> = long.lines().collect();
    assert_eq!(lines[1], "[[[  0,   1,   2, ...,   7,   8,   9],");
    assert_eq!(lines[2], "  [ 10,  11,  12, ...,  17,  18,  19]],");
    assert_eq!(lines.last(), Some(&"  [170, 171, 172, ..., 177, 178, 179]]]"));
    assert!(lines.contains(&" ...,") && !long.contains("100"), "{long}");
}
