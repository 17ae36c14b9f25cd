//! Views: values, gradients, and what cannot be viewed.

use proptest::prelude::*;
use wgrad::{DType, Device, Tensor};
use wgrad_tests::{Input, each_device, expect_error, gradcheck, same_on_devices, strategy};

fn range(shape: &[usize], device: &Device) -> Tensor {
    let n = shape.iter().product::<usize>() as i64;
    let sizes: Vec<isize> = shape.iter().map(|&s| s as isize).collect();
    Tensor::arange(0, n, DType::F32, device).unwrap().reshape(&sizes).unwrap()
}

#[test]
fn views_show_the_right_elements() {
    each_device(|device| {
        let x = range(&[2, 3, 4], device);
        let values = |t: Tensor| t.to_f64_vec().unwrap();
        assert_eq!(values(x.permute(&[2, 0, 1]).unwrap().narrow(0, 1, 1).unwrap()), [1.0, 5.0, 9.0, 13.0, 17.0, 21.0]);
        assert_eq!(
            values(x.slice(1, 0, 3, 2).unwrap().select(0, 1).unwrap().slice(1, 1, 4, 2).unwrap()),
            [13.0, 15.0, 21.0, 23.0]
        );
        assert_eq!(values(x.select(2, 3).unwrap().transpose(0, 1).unwrap()), [3.0, 15.0, 7.0, 19.0, 11.0, 23.0]);
        let parts = x.split(&[1, 3], 2).unwrap();
        assert_eq!((parts[0].shape(), parts[1].shape()), (&[2, 3, 1][..], &[2, 3, 3][..]));
        assert_eq!(
            values(x.chunk(3, 1).unwrap()[1].flatten(0, -1).unwrap()),
            [4.0, 5.0, 6.0, 7.0, 16.0, 17.0, 18.0, 19.0]
        );
        let row = range(&[1, 2], device).expand(&[3, 1, 2]).unwrap();
        assert_eq!(values(row.reshape(&[-1]).unwrap()), [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
        assert_eq!(x.unsqueeze(-1).unwrap().shape(), [2, 3, 4, 1]);
        assert_eq!(x.unsqueeze(0).unwrap().squeeze(0).unwrap().shape(), [2, 3, 4]);
        let empty = x.narrow(1, 3, 0).unwrap();
        assert_eq!((empty.shape(), values(empty.clone()).len()), (&[2, 0, 4][..], 0));
    });
}

#[test]
fn gradients_of_views() {
    let x = || [Input::normal(&[2, 3, 4], 1)];
    gradcheck("permute", &x(), |x| x[0].permute(&[2, 0, 1])?.square());
    gradcheck("slice", &x(), |x| x[0].slice(2, 1, 4, 2)?.square());
    gradcheck("select", &x(), |x| x[0].select(1, 2)?.square());
    gradcheck("expand", &[Input::normal(&[3, 1], 2)], |x| x[0].expand(&[2, 3, 4])?.square());
    gradcheck("reshape of a permuted view", &x(), |x| x[0].permute(&[1, 0, 2])?.reshape(&[6, 4])?.square());
    gradcheck("split", &x(), |x| {
        let parts = x[0].split(&[1, 2], 1)?;
        parts[0].mul(&parts[1].narrow(1, 0, 1)?)
    });
    gradcheck("squeeze, unsqueeze, flatten", &x(), |x| x[0].unsqueeze(1)?.flatten(1, 3)?.square());
}

#[test]
fn impossible_views_are_named() {
    let x = range(&[2, 3], &Device::cpu());
    expect_error(x.reshape(&[4, 2]), &["reshape", "[2, 3]", "[4, 2]"]);
    expect_error(x.reshape(&[-1, -1]), &["reshape"]);
    expect_error(x.reshape(&[0, -1]), &["reshape"]);
    expect_error(x.permute(&[0, 0]), &["permute", "permutation"]);
    expect_error(x.transpose(0, 2), &["transpose", "dimension 2", "rank 2"]);
    expect_error(x.narrow(1, 2, 2), &["narrow", "size 3"]);
    expect_error(x.narrow(1, 2, usize::MAX), &["narrow"]);
    expect_error(x.slice(0, 0, 2, 0), &["slice", "step 0"]);
    expect_error(x.select(0, 2), &["select", "2"]);
    expect_error(x.expand(&[3, 3]), &["expand", "[3, 3]"]);
    expect_error(x.expand(&[3]), &["expand"]);
    expect_error(x.squeeze(0), &["squeeze"]);
    expect_error(x.split(&[1, 1], 1), &["split", "3"]);
    expect_error(x.chunk(2, 1), &["chunk", "3"]);
    expect_error(x.flatten(1, 0), &["flatten"]);
    expect_error(Tensor::zeros(&[1; 9], DType::F32, &Device::cpu()), &["rank 9", "maximum of 8"]);
    expect_error(Tensor::zeros(&[usize::MAX, 2], DType::F32, &Device::cpu()), &["too many"]);
    let huge = Tensor::ones(&[1], DType::F32, &Device::cpu()).unwrap().expand(&[1 << 50]).unwrap();
    expect_error(huge.copy(), &["copy", "out of memory"]);
    expect_error(Tensor::zeros(&[1 << 50], DType::F32, &Device::cpu()), &["full", "out of memory"]);
    expect_error(huge.expand(&[1 << 20, 1 << 50]), &["expand", "too many"]);
    expect_error(Tensor::from_slice(&[1.0f32; 5], &[2, 3], &Device::cpu()), &["5 values", "[2, 3]"]);
    expect_error(x.to_vec::<i32>(), &["to_vec", "f32"]);
    expect_error(x.item(), &["item", "[2, 3]"]);
}

#[test]
fn host_transfer_round_trips_every_dtype() {
    each_device(|device| {
        let f: Vec<f32> = (0..7).map(|i| i as f32 * 0.5 - 1.0).collect();
        let check = |dtype: DType| {
            let x = Tensor::from_slice(&f, &[7], device).unwrap().cast(dtype).unwrap();
            let want: Vec<f64> = x.to_f64_vec().unwrap();
            // An odd offset splits a word of two halves.
            assert_eq!(x.narrow(0, 3, 3).unwrap().to_f64_vec().unwrap(), want[3..6]);
            assert_eq!(x.to_device(&Device::cpu()).unwrap().to_f64_vec().unwrap(), want);
            assert_eq!(x.copy().unwrap().to_f64_vec().unwrap(), want);
        };
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::I32, DType::Bool] {
            check(dtype);
        }
        let big = Tensor::from_vec(vec![1u32 << 31 | 5], &[1], device).unwrap();
        assert_eq!(big.to_vec::<u32>().unwrap(), [1 << 31 | 5]);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A dense copy of any view has the elements that the view shows, and its gradient finds the way back.
    #[test]
    fn any_view_is_the_same_on_every_device(
        input in strategy::shape(1..=4).prop_flat_map(|shape| strategy::viewed(shape, Input::normal))
    ) {
        same_on_devices("contiguous", &[input], |x| x[0].contiguous()?.mul_scalar(2.0));
    }
}

#[test]
fn display_is_readable() {
    let x = range(&[2, 3], &Device::cpu());
    let text = format!("{x}");
    assert!(text.starts_with("Tensor [2, 3] f32 on cpu\n[[0.0000, 1.0000, 2.0000],"), "{text}");
}
