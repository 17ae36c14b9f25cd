//! How long keys stay among the best, and the masks that follow from it.

use wgrad::{AttentionOptions, DType, Device, Mask, Tensor, reference};
use wgrad_tests::{Input, Random, assert_close, assert_equal, each_device, expect_error};

/// By the definition: the first query at which `window` keys up to it come before key `j`.
fn counted(row: &[f32], window: usize) -> Vec<i32> {
    let n = row.len();
    (0..n)
        .map(|j| {
            let ahead = |i: usize| (0..=i).filter(|&other| other != j && (row[other], other) > (row[j], j)).count();
            (j..n).find(|&i| ahead(i) >= window).unwrap_or(n) as i32
        })
        .collect()
}

#[test]
fn against_the_definition() {
    each_device(|device| {
        for (rows, keys, window) in [(1, 1, 1), (2, 1, 0), (3, 7, 3), (2, 65, 1), (4, 130, 16), (2, 40, 100)] {
            let mut random = Random::new((keys + window) as u64);
            let values: Vec<f32> = (0..rows * keys).map(|_| random.below(keys) as f32 / 2.0 - 3.0).collect();
            let want: Vec<i32> = values.chunks(keys).flat_map(|row| counted(row, window)).collect();
            let x = Tensor::from_vec(values, &[rows, 1, keys], device).unwrap();
            let got = x.kept_until(window).unwrap();
            assert_eq!((got.shape(), got.dtype()), ([rows, 1, keys].as_slice(), DType::I32));
            assert_equal("kept_until", &got.to_vec::<i32>().unwrap(), &want);
            // Halves of numbers like these are exact; a view is read where it lies.
            let half = x.cast(DType::BF16).unwrap().kept_until(window).unwrap();
            assert_equal("kept_until of bf16", &half.to_vec::<i32>().unwrap(), &want);
            let view = x.narrow(0, rows - 1, 1).unwrap().kept_until(window).unwrap();
            assert_equal("kept_until of a view", &view.to_vec::<i32>().unwrap(), &want[(rows - 1) * keys..]);
        }
        let none = Tensor::zeros(&[2, 0], DType::F32, device).unwrap().kept_until(3).unwrap();
        assert_eq!(none.shape(), [2, 0]);
    });
}

#[test]
fn bad_input() {
    let device = Device::cpu();
    let integers = Tensor::zeros(&[3], DType::I32, &device).unwrap();
    expect_error(integers.kept_until(1), &["kept_until", "i32"]);
    expect_error(Tensor::scalar(1.0, DType::F32, &device).unwrap().kept_until(1), &["kept_until", "scalar"]);
}

/// Attention under intervals that were made on the device, against the list of each query's best keys as a dense mask.
#[test]
fn intervals_of_the_device() {
    each_device(|device| {
        for (batch, heads, length) in [(1, 1, 33), (2, 1, 1), (1, 2, 64), (2, 2, 70)] {
            let at = |seed| Input::normal(&[batch, 2, length, 8], seed).constant().stored(device, DType::F32).unwrap();
            let (q, k, v) = (at(1), at(2), at(3));
            let scores = Input::normal(&[batch, heads, length], 4).constant().stored(device, DType::F32).unwrap();
            let window = 9;
            let places = Tensor::arange(0, length as i64, DType::I32, device).unwrap();
            let places = places.reshape(&[1, 1, -1]).unwrap();
            let mask = Mask::intervals(&places, &scores.kept_until(window).unwrap(), None);
            let rows = scores.to_vec::<f32>().unwrap();
            let mut seen = vec![false; batch * heads * length * length];
            for (row, seen) in rows.chunks(length).zip(seen.chunks_mut(length * length)) {
                for i in 0..length {
                    let mut best: Vec<usize> = (0..=i).collect();
                    best.sort_by(|&a, &b| (row[b], b).partial_cmp(&(row[a], a)).unwrap());
                    best.iter().take(window).for_each(|&j| seen[i * length + j] = true);
                }
            }
            let seen = Tensor::from_vec(seen, &[batch, heads, length, length], device).unwrap();
            let run = |mask: Mask| AttentionOptions { mask, ..Default::default() };
            let got = q.attention(&k, &v, &run(mask)).unwrap().to_f64_vec().unwrap();
            let want = reference::attention(&q, &k, &v, &run(Mask::dense(&seen))).unwrap().to_f64_vec().unwrap();
            assert_close(&format!("{batch} x {heads} x {length} on {device}"), &got, &want, 1e-5, 1e-5);
        }
    });
}
