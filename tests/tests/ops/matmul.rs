//! Matrix products, linear layers and einsum.

use proptest::prelude::*;
use wgrad::{DType, Device, Tensor, autograd};
use wgrad_tests::{
    Input, View, assert_close, each_device, expect_error, gradcheck, same_on_devices, same_on_devices_within,
};

/// The product of single matrices, written down.
fn plain(a: &[f64], b: &[f64], m: usize, n: usize, k: usize) -> Vec<f64> {
    let at = |i: usize| (0..k).map(|j| a[i / n * k + j] * b[j * n + i % n]).sum();
    (0..m * n).map(at).collect()
}

#[test]
fn matmul_of_any_size() {
    each_device(|device| {
        for (m, n, k) in [(1, 1, 1), (17, 65, 33), (17, 65, 333), (3, 0, 2), (3, 2, 0), (1, 40, 7), (40, 1, 7)] {
            let (a, b) = (Input::normal(&[m, k], 1), Input::normal(&[k, n], 2));
            let x = a.stored(device, DType::F32).unwrap();
            let y = x.matmul(&b.stored(device, DType::F32).unwrap()).unwrap();
            assert_eq!(y.shape(), [m, n]);
            assert_close("matmul", &y.to_f64_vec().unwrap(), &plain(&a.values, &b.values, m, n, k), 2e-5, 1e-5);
        }
    });
}

#[test]
fn matmul_shapes_follow_numpy() {
    let cpu = Device::cpu();
    let shapes: [(&[usize], &[usize], &[usize]); 9] = [
        (&[3], &[3], &[]),
        (&[3], &[3, 4], &[4]),
        (&[2, 3], &[3], &[2]),
        (&[5, 2, 3], &[3], &[5, 2]),
        (&[3], &[5, 3, 2], &[5, 2]),
        (&[5, 2, 3], &[3, 4], &[5, 2, 4]),
        (&[2, 3], &[5, 3, 4], &[5, 2, 4]),
        (&[2, 3], &[1, 1, 3, 4], &[1, 1, 2, 4]),
        (&[6, 1, 2, 3], &[5, 3, 4], &[6, 5, 2, 4]),
    ];
    for (a, b, want) in shapes {
        let y = Tensor::ones(a, DType::F32, &cpu).unwrap().matmul(&Tensor::ones(b, DType::F32, &cpu).unwrap()).unwrap();
        assert_eq!(y.shape(), want);
        assert!(y.to_f64_vec().unwrap().iter().all(|&v| v == 3.0));
    }
}

fn matmul(x: &[Tensor]) -> wgrad::Result<Tensor> {
    x[0].matmul(&x[1])
}

fn pairs() -> Vec<[Input; 2]> {
    let swap = |x: Input| x.view(View::Permute(vec![0, 2, 1]));
    vec![
        [Input::normal(&[5, 7], 1), Input::normal(&[7, 3], 2)],
        [Input::normal(&[7], 1), Input::normal(&[7], 2)],
        [Input::normal(&[7], 1), Input::normal(&[2, 7, 3], 2)],
        [Input::normal(&[2, 5, 7], 1), Input::normal(&[7], 2)],
        [Input::normal(&[2, 3, 5, 7], 1), Input::normal(&[7, 3], 2)],
        [Input::normal(&[5, 7], 1), Input::normal(&[3, 7, 2], 2)],
        [Input::normal(&[2, 1, 5, 7], 1), Input::normal(&[3, 7, 2], 2)],
        [swap(Input::normal(&[2, 7, 5], 1)), swap(Input::normal(&[2, 6, 7], 2))],
        // Heads of attention, read in place, and a step that makes a copy necessary.
        [
            Input::normal(&[2, 4, 3, 5], 1).view(View::Permute(vec![0, 2, 1, 3])),
            Input::normal(&[2, 6, 3, 5], 2).view(View::Permute(vec![0, 2, 3, 1])),
        ],
        [Input::normal(&[4, 6, 10], 1).view(View::Slice(2, 1, 10, 3)), Input::normal(&[1, 3, 2], 2)],
    ]
}

#[test]
fn matmul_gradients() {
    for inputs in pairs() {
        gradcheck("matmul", &inputs, matmul);
    }
}

#[test]
fn matmul_on_two_devices() {
    for inputs in pairs() {
        same_on_devices("matmul", &inputs, matmul);
    }
    let large = [Input::normal(&[130, 70], 1), Input::normal(&[70, 65], 2)];
    same_on_devices_within(4.0, "matmul", &large, matmul);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn matmul_of_drawn_shapes(
        batch in 1..4usize, m in 1..20usize, n in 1..40usize, k in 0..20usize,
        flips in any::<[bool; 2]>(), shared in any::<[bool; 2]>(), seed in any::<u64>(),
    ) {
        let side = |rows: usize, columns: usize, flip: bool, shared: bool, seed| {
            let lead = if shared { 1 } else { batch };
            let shape = if flip { [lead, columns, rows] } else { [lead, rows, columns] };
            let x = Input::normal(&shape, seed);
            if flip { x.view(View::Permute(vec![0, 2, 1])) } else { x }
        };
        let inputs = [side(m, k, flips[0], shared[0], seed), side(k, n, flips[1], shared[1], seed ^ 1)];
        same_on_devices_within(2.0, "matmul", &inputs, matmul);
    }
}

#[test]
fn linear_is_a_product_and_a_bias() {
    let inputs = [Input::normal(&[2, 5, 7], 1), Input::normal(&[3, 7], 2), Input::normal(&[3], 3)];
    let linear = |x: &[Tensor]| x[0].linear(&x[1], x.get(2));
    gradcheck("linear", &inputs, linear);
    gradcheck("linear", &inputs[..2], linear);
    same_on_devices("linear", &inputs, linear);
    same_on_devices("linear", &inputs[..2], linear);
    let vector = [Input::normal(&[7], 1), inputs[1].clone(), inputs[2].clone()];
    same_on_devices("linear of a vector", &vector, linear);
    let x: Vec<Tensor> = inputs.iter().map(|i| i.stored(&Device::cpu(), DType::F64).unwrap()).collect();
    let want = x[0].matmul(&x[1].transpose(0, 1).unwrap()).unwrap().add(&x[2]).unwrap().to_f64_vec().unwrap();
    assert_close("linear", &linear(&x).unwrap().to_f64_vec().unwrap(), &want, 1e-13, 1e-13);
}

#[test]
fn products_over_nothing_are_the_bias() {
    each_device(|device| {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, device).unwrap().requires_grad();
        let bias = Tensor::from_slice(&[1f32, 2.0], &[2], device).unwrap();
        let (x, w) = (zeros(&[3, 0]), zeros(&[2, 0]));
        let y = x.linear(&w, Some(&bias)).unwrap();
        assert_eq!(y.to_vec::<f32>().unwrap(), [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
        let seed = y.ones_like().unwrap();
        let gradients = autograd::backward(&[(&y, seed)], &[], false).unwrap();
        assert_eq!(gradients.get(&x).unwrap().shape(), [3, 0]);
        assert_eq!(gradients.get(&w).unwrap().shape(), [2, 0]);
        let none = zeros(&[0, 4]).matmul(&zeros(&[4, 2])).unwrap();
        assert_eq!(none.shape(), [0, 2]);
    });
}

#[test]
fn einsum_contractions() {
    let cases: [(&str, &[&[usize]]); 8] = [
        ("bqd,bkd->bqk", &[&[2, 3, 4], &[2, 5, 4]]),
        ("ij,jk", &[&[3, 4], &[4, 2]]),
        ("i,j->ji", &[&[3], &[4]]),
        ("bhqk,bkhd->bqhd", &[&[2, 3, 4, 5], &[2, 5, 3, 2]]),
        ("ij,kj->k", &[&[3, 4], &[2, 4]]),
        ("ij,ij->", &[&[3, 4], &[3, 4]]),
        ("ijk->ki", &[&[2, 3, 4]]),
        (" a b -> b a ", &[&[3, 4]]),
    ];
    for (equation, shapes) in cases {
        let inputs: Vec<Input> = shapes.iter().zip(1..).map(|(shape, seed)| Input::normal(shape, seed)).collect();
        let einsum = |x: &[Tensor]| Tensor::einsum(equation, &x.iter().collect::<Vec<_>>());
        gradcheck(equation, &inputs, einsum);
        same_on_devices(equation, &inputs, einsum);
    }
    let cpu = Device::cpu();
    let (a, b) = (Input::normal(&[2, 3, 4], 1), Input::normal(&[4, 5, 2], 2));
    let [x, w] = [&a, &b].map(|i| i.stored(&cpu, DType::F64).unwrap());
    let got = Tensor::einsum("aij,jka->ki", &[&x, &w]).unwrap();
    assert_eq!(got.shape(), [5, 3]);
    let mut want = vec![0.0; 15];
    for (k, i, l, j) in
        (0..5).flat_map(|k| (0..3).flat_map(move |i| (0..2).flat_map(move |l| (0..4).map(move |j| (k, i, l, j)))))
    {
        want[k * 3 + i] += a.values[(l * 3 + i) * 4 + j] * b.values[(j * 5 + k) * 2 + l];
    }
    assert_close("einsum", &got.to_f64_vec().unwrap(), &want, 1e-12, 1e-12);
}

#[test]
fn bad_input_is_refused() {
    each_device(|device| {
        let t = |shape: &[usize]| Tensor::zeros(shape, DType::F32, device).unwrap();
        expect_error(t(&[2, 3]).matmul(&t(&[4, 5])), &["matmul", "[2, 3]", "[4, 5]", "3 columns", "4 rows"]);
        expect_error(t(&[2, 3, 4]).matmul(&t(&[3, 4, 2])), &["matmul", "broadcast"]);
        expect_error(t(&[]).matmul(&t(&[1])), &["matmul", "scalar"]);
        let ints = Tensor::zeros(&[2, 2], DType::I32, device).unwrap();
        expect_error(ints.matmul(&ints), &["matmul", "i32", "float"]);
        let halves = Tensor::zeros(&[3, 2], DType::F16, device).unwrap();
        expect_error(t(&[2, 3]).matmul(&halves), &["matmul", "f16"]);
        expect_error(t(&[2, 3]).linear(&t(&[4, 5]), None), &["linear", "[2, 3]", "5 inputs"]);
        expect_error(t(&[2, 3]).linear(&t(&[3]), None), &["linear", "[3]", "[outputs, inputs]"]);
        expect_error(t(&[2, 3]).linear(&t(&[4, 3]), Some(&t(&[3]))), &["linear", "bias", "[3]", "[4]"]);
        let (a, b) = (t(&[2, 3]), t(&[3, 4]));
        expect_error(Tensor::einsum("ij,jk->il", &[&a, &b]), &["einsum", "'l'"]);
        expect_error(Tensor::einsum("ii,jk->k", &[&a, &b]), &["einsum", "'i'", "twice"]);
        expect_error(Tensor::einsum("ij->i", &[&a, &b]), &["einsum", "1 terms", "2 operands"]);
        expect_error(Tensor::einsum("ij,ik->jk", &[&a, &b]), &["einsum", "'i'", "2 and 3"]);
        expect_error(Tensor::einsum("ijk,jk->i", &[&a, &b]), &["einsum", "[2, 3]", "ijk"]);
        expect_error(Tensor::einsum("...j,jk->k", &[&a, &b]), &["einsum", "'.'"]);
        expect_error(Tensor::einsum("ij,jk,kl->il", &[&a, &b, &b]), &["einsum", "got 3"]);
    });
}
