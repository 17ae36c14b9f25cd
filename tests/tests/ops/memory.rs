//! Results that cannot be had are errors, and the process goes on.

use wgrad::{DType, Device, Error, Interpolation, PadMode, Result, Tensor};
use wgrad_tests::each_device;

/// Operations whose small operands ask for 2^50 elements and more: petabytes.
const HUGE: &[(&str, fn(&Device) -> Result<Tensor>)] = &[
    ("full", |d| Tensor::zeros(&[1 << 26, 1 << 26], DType::F32, d)),
    ("outer sum", |d| tall(d)?.add(&tall(d)?.transpose(0, 1)?)),
    ("outer comparison", |d| tall(d)?.lt(&tall(d)?.transpose(0, 1)?)),
    ("product", |d| tall(d)?.matmul(&tall(d)?.transpose(0, 1)?)),
    ("choice", |d| {
        let condition = Tensor::zeros(&[], DType::Bool, d)?.expand(&[1 << 26, 1 << 26])?;
        Tensor::where_cond(&condition, &tall(d)?, &tall(d)?)
    }),
    ("dense copy", |d| tall(d)?.expand(&[1 << 26, 1 << 26])?.contiguous()),
    ("repetition", |d| Tensor::zeros(&[2, 2], DType::F32, d)?.repeat(&[1 << 25, 1 << 25])),
    ("padding", |d| Tensor::zeros(&[2, 2], DType::F32, d)?.pad(&[(0, 1 << 26); 2], PadMode::Constant(0.0))),
    ("classes", |d| Tensor::zeros(&[1 << 20], DType::U32, d)?.one_hot(u32::MAX as usize)),
    ("image", |d| Tensor::zeros(&[1, 1, 3, 3], DType::F32, d)?.interpolate(&[1 << 26; 2], Interpolation::Nearest)),
    ("adaptive pooling", |d| Tensor::zeros(&[1, 1, 3, 3], DType::F32, d)?.adaptive_avg_pool2d([1 << 28; 2])),
    ("noise", |d| Tensor::normal(0.0, 1.0, &[1 << 26, 1 << 26], DType::F32, d)),
];

/// A view of one number as `[2^26, 1]`.
fn tall(device: &Device) -> Result<Tensor> {
    Tensor::zeros(&[1, 1], DType::F32, device)?.expand(&[1 << 26, 1])
}

#[test]
fn results_beyond_all_memory_are_errors() {
    each_device(|device| {
        for (what, make) in HUGE {
            match make(device) {
                Err(Error::OutOfMemory { .. } | Error::TooLarge { .. }) => {}
                // More elements than a kernel counts.
                Err(Error::Shape { .. } | Error::Argument { .. }) if device.is_gpu() => {}
                Err(other) => panic!("{what} on {device}: {other}"),
                Ok(_) => panic!("{what} on {device} made a tensor"),
            }
            let one = Tensor::ones(&[3], DType::F32, device).unwrap();
            assert_eq!(one.sum_all().unwrap().item().unwrap(), 3.0, "after {what} on {device}");
        }
    });
}

#[test]
fn peaks_are_counted_anew() {
    let Some(device) = wgrad_tests::fresh_gpu() else { return };
    let make = |rows| Tensor::zeros(&[rows, 1 << 16], DType::F32, &device).unwrap();
    drop(make(8));
    assert!(device.memory().peak_bytes >= 8 << 18);
    device.reset_peaks();
    assert!(device.memory().peak_bytes < 1 << 18);
    drop(make(2));
    let peak = device.memory().peak_bytes;
    assert!((2 << 18..4 << 18).contains(&peak), "{peak}");
}
