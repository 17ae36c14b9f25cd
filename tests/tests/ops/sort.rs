//! Sorting.

use proptest::prelude::*;
use wgrad::{DType, Device, Tensor};
use wgrad_tests::{Input, Random, View, assert_equal, each_device, expect_error, gradcheck, same_on_devices};

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) }
}

#[test]
fn order_of_special_values() {
    each_device(|device| {
        let values = [1.0, f32::NAN, -0.0, f32::INFINITY, 0.0, -1.0, f32::NEG_INFINITY, -f32::NAN, 1.0];
        let x = Tensor::from_slice(&values, &[9], device).unwrap();
        let up = x.argsort(0, false).unwrap().to_vec::<u32>().unwrap();
        assert_equal("ascending", &up, &[6, 5, 2, 4, 0, 8, 3, 1, 7]);
        let down = x.argsort(0, true).unwrap().to_vec::<u32>().unwrap();
        assert_equal("descending", &down, &[1, 7, 3, 0, 8, 2, 4, 5, 6]);
        let (top, at) = x.topk(2, 0, false).unwrap();
        assert_equal("smallest", &at.to_vec::<u32>().unwrap(), &[6, 5]);
        assert_equal("smallest", &top.to_vec::<f32>().unwrap(), &[f32::NEG_INFINITY, -1.0]);
        let x = Tensor::from_slice(&[i32::MAX, -1, i32::MIN, 0, -1], &[5], device).unwrap();
        assert_equal("i32", &x.argsort(0, false).unwrap().to_vec::<u32>().unwrap(), &[2, 1, 4, 3, 0]);
        let x = Tensor::from_slice(&[1u32, u32::MAX, 0, 1], &[4], device).unwrap();
        assert_equal("u32", &x.argsort(0, true).unwrap().to_vec::<u32>().unwrap(), &[1, 0, 3, 2]);
    });
}

/// Against the stable sort of the standard library: rows of one tile, of several, with a last run that is short, and many rows.
#[test]
fn lengths() {
    each_device(|device| {
        for (rows, n) in [(1, 1), (3, 2), (2, 255), (2, 256), (2, 257), (3, 700), (1, 1025), (1, 5000), (1500, 3)] {
            let mut random = Random::new((rows * n) as u64);
            // Few different values, so that ties abound.
            let values: Vec<f32> = (0..rows * n).map(|_| random.below(n / 3 + 2) as f32 - 5.0).collect();
            let x = Tensor::from_slice(&values, &[rows, n], device).unwrap();
            for descending in [false, true] {
                let mut want = Vec::new();
                for row in values.chunks(n) {
                    let mut order: Vec<u32> = (0..n as u32).collect();
                    order.sort_by(|&a, &b| {
                        let (a, b) = (row[a as usize], row[b as usize]);
                        if descending { b.total_cmp(&a) } else { a.total_cmp(&b) }
                    });
                    want.push(order);
                }
                let (sorted, order) = x.sort(-1, descending).unwrap();
                assert_equal("argsort", &order.to_vec::<u32>().unwrap(), &want.concat());
                let picked: Vec<f32> =
                    values.chunks(n).zip(&want).flat_map(|(v, o)| o.iter().map(|&i| v[i as usize])).collect();
                assert_equal("sort", &sorted.to_vec::<f32>().unwrap(), &picked);
                let k = n.div_ceil(3);
                let (_, top) = x.topk(k, 1, descending).unwrap();
                let first: Vec<u32> = want.iter().flat_map(|o| o[..k].to_vec()).collect();
                assert_equal("topk", &top.to_vec::<u32>().unwrap(), &first);
                // Few of a long row are selected before they are sorted.
                let k = n.div_ceil(5);
                let first = || want.iter().map(|order| order[..k].to_vec());
                let (_, top) = x.topk(k, 1, descending).unwrap();
                assert_equal("few", &top.to_vec::<u32>().unwrap(), &first().flatten().collect::<Vec<_>>());
                let places = first().flat_map(|mut order| {
                    order.sort_unstable();
                    order
                });
                let got = x.topk_places(k, descending).unwrap().to_vec::<u32>().unwrap();
                assert_equal("places", &got, &places.collect::<Vec<_>>());
            }
        }
    });
}

#[test]
fn nothing_to_sort() {
    each_device(|device| {
        let x = Tensor::zeros(&[3, 0], DType::F32, device).unwrap();
        assert_eq!(x.sort(1, false).unwrap().0.shape(), [3, 0]);
        assert_eq!(x.argsort(0, true).unwrap().shape(), [3, 0]);
        let x = Tensor::zeros(&[3, 2], DType::F32, device).unwrap();
        assert_eq!(x.topk(0, 0, true).unwrap().1.shape(), [0, 2]);
    });
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn gradients_and_devices(a in 1usize..6, b in 1usize..40, c in 1usize..4, dim in 0usize..3, descending: bool, seed: u64) {
        let shape = [a, b, c];
        let k = shape[dim].div_ceil(2);
        let x = Input::distinct(0.25, &[c, a, b], seed).view(View::Permute(vec![1, 2, 0]));
        let dim = dim as isize;
        let f = |x: &[Tensor]| Ok(x[0].sort(dim, descending)?.0);
        gradcheck("sort", std::slice::from_ref(&x), f);
        same_on_devices("sort", std::slice::from_ref(&x), f);
        let f = |x: &[Tensor]| Ok(x[0].topk(k, dim, descending)?.0);
        gradcheck("topk", std::slice::from_ref(&x), f);
        same_on_devices("topk", std::slice::from_ref(&x), f);
        same_on_devices("argsort", &[x.constant()], |x| x[0].argsort(dim, descending));
    }
}

#[test]
fn bad_input() {
    let cpu = Device::cpu();
    let x = Tensor::zeros(&[2, 3], DType::F32, &cpu).unwrap();
    expect_error(x.topk(4, 1, true), &["topk", "k is 4", "dimension 1", "3 elements"]);
    expect_error(x.topk_places(4, true), &["topk_places", "k is 4", "3 elements"]);
    expect_error(x.sort(2, true), &["sort", "dimension 2", "rank 2"]);
    expect_error(Tensor::scalar(1.0, DType::F32, &cpu).unwrap().argsort(0, true), &["argsort", "rank 0"]);
    expect_error(Tensor::zeros(&[2], DType::Bool, &cpu).unwrap().argsort(0, true), &["argsort", "bool"]);
}
