//! Matrix products, linear layers and einsum.

use half::{bf16, f16};
use proptest::prelude::*;
use wgrad::{
    Activation, DType, Device, Epilogue, MatmulFamily, Tensor, autograd, force_matmul, matmul_families, no_grad,
    reference,
};
use wgrad_tests::{
    Input, View, assert_close, each_device, expect_error, gpu, gradcheck, portable_gpu, same_on_devices,
    same_on_devices_within,
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

/// Few rows times halves that are widened piece by piece on the CPU, of layers stored by outputs or by inputs, whole or a part of a buffer.
#[test]
fn few_rows_times_halves() {
    let cpu = Device::cpu();
    for (m, k, n) in [(1, 5, 7), (1, 700, 300), (3, 130, 260), (16, 33, 65), (17, 64, 9), (2, 40_000, 3)] {
        for dtype in [DType::F16, DType::BF16] {
            for (by_inputs, part) in [(false, false), (false, true), (true, false), (true, true)] {
                let half = |shape: &[usize], seed| Input::normal(shape, seed).stored(&cpu, dtype).unwrap();
                let (x, bias, residual) = (half(&[m, k], 1), half(&[n], 2), half(&[m, n], 3));
                let rows = if by_inputs { [k, n] } else { [n, k] };
                let weight = match part {
                    false => half(&rows, 4),
                    true => half(&[rows[0] + 2, rows[1] + 3], 4)
                        .narrow(0, 1, rows[0])
                        .unwrap()
                        .narrow(1, 2, rows[1])
                        .unwrap(),
                };
                let weight = if by_inputs { weight.transpose(0, 1).unwrap() } else { weight };
                let run = |x: &Tensor, weight: &Tensor, bias: &Tensor, residual: &Tensor| {
                    let residual = Some(residual.clone());
                    let then = Epilogue { scale: 0.5, activation: Some(Activation::Silu), residual };
                    no_grad(|| x.linear_then(weight, Some(bias), &then)).unwrap()
                };
                let wide = |x: &Tensor| x.cast(DType::F32).unwrap();
                let want = run(&wide(&x), &wide(&weight), &wide(&bias), &wide(&residual));
                let got = run(&x, &weight, &bias, &residual);
                assert_eq!(got.dtype(), dtype);
                let eps = if dtype == DType::F16 { 1e-3 } else { 8e-3 };
                assert_close("linear", &got.to_f64_vec().unwrap(), &want.to_f64_vec().unwrap(), eps, eps);
            }
        }
    }
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

/// Small integers, exact in every dtype, so that every order of summation gives the same sum, rounded once to the dtype of the result.
pub(crate) fn integers(shape: &[usize], salt: usize) -> Input {
    let values: Vec<f64> =
        (0..shape.iter().product()).map(|i: usize| ((i * 37 + salt * 11 + i / 7) % 13) as f64 - 6.0).collect();
    Input::of(&values, shape).constant()
}

fn rounded(values: Vec<f64>, dtype: DType) -> Vec<f64> {
    let round = |v: f64| match dtype {
        DType::F16 => f16::from_f64(v).to_f64(),
        DType::BF16 => bf16::from_f64(v).to_f64(),
        _ => v,
    };
    values.into_iter().map(round).collect()
}

/// Runs `f` by every kernel that `device` has, in one pass and with k cut into three, and compares with the CPU in f64, bit by bit.
fn every_family(device: &Device, dtype: DType, inputs: &[Input], f: &dyn Fn(&[Tensor]) -> wgrad::Result<Tensor>) {
    by_families(&matmul_families(device), device, dtype, inputs, f);
}

/// The same by some of them.
pub(crate) fn by_families(
    families: &[MatmulFamily],
    device: &Device,
    dtype: DType,
    inputs: &[Input],
    f: &dyn Fn(&[Tensor]) -> wgrad::Result<Tensor>,
) {
    let on = |device: &Device, dtype: DType| {
        let stored =
            |i: &Input| i.views.iter().try_fold(i.stored(device, dtype).unwrap(), |x, view| view.of(&x)).unwrap();
        inputs.iter().map(stored).collect::<Vec<_>>()
    };
    let want = rounded(f(&on(&Device::cpu(), DType::F64)).unwrap().to_f64_vec().unwrap(), dtype);
    let x = on(device, dtype);
    for &family in families {
        if family.on_units() && dtype != DType::F16 {
            continue;
        }
        for slices in [1, 3] {
            let got = force_matmul(family, slices, || no_grad(|| f(&x))).unwrap().to_f64_vec().unwrap();
            let wrong = got.iter().zip(&want).position(|(g, w)| g != w);
            let what = format!(
                "{family:?}, {slices} slices, {dtype} on {device}, shapes {:?}",
                inputs.iter().map(|i| &i.shape)
            );
            assert!(got.len() == want.len() && wrong.is_none(), "{what}: differs at {wrong:?}");
        }
    }
    device.check_guards().unwrap();
}

#[test]
fn every_family_on_every_size() {
    let (Some(gpu), Some(portable)) = (gpu(), portable_gpu()) else { return };
    for (m, n, k) in [
        (1, 1, 1),
        (1, 70, 40),
        (70, 1, 40),
        (17, 65, 33),
        (5, 3, 0),
        (4, 0, 3),
        (0, 4, 3),
        (36, 132, 20),
        (1, 540, 20),
    ] {
        every_family(gpu, DType::F32, &[integers(&[m, k], 1), integers(&[k, n], 2)], &matmul);
    }
    every_family(portable, DType::F32, &[integers(&[17, 33], 1), integers(&[33, 65], 2)], &matmul);
    // Halves in whole fours, in whole pairs, and rows that are neither.
    for (n, dtype) in [(36, DType::F16), (34, DType::F16), (35, DType::F16), (34, DType::BF16)] {
        every_family(gpu, dtype, &[integers(&[3, 9, 12], 1), integers(&[3, 12, n], 2)], &matmul);
    }
}

#[test]
fn every_family_on_views() {
    let Some(gpu) = gpu() else { return };
    let swap = |x: Input| x.view(View::Permute(vec![0, 2, 1]));
    for (m, n, k, dtype) in [(19, 35, 21, DType::F32), (20, 36, 24, DType::F16)] {
        every_family(gpu, dtype, &[swap(integers(&[2, k, m], 1)), integers(&[2, k, n], 2)], &matmul);
        every_family(gpu, dtype, &[integers(&[2, m, k], 1), swap(integers(&[2, n, k], 2))], &matmul);
        every_family(gpu, dtype, &[swap(integers(&[2, k, m], 1)), swap(integers(&[2, n, k], 2))], &matmul);
    }
    // Attention heads: two batch dimensions that do not merge, with an offset, against a broadcast matrix.
    let heads = integers(&[2, 9, 3, 4], 1).view(View::Slice(1, 2, 8, 1)).view(View::Permute(vec![0, 2, 1, 3]));
    every_family(gpu, DType::BF16, &[heads, integers(&[3, 4, 7], 2).view(View::Expand(vec![2, 3, 4, 7]))], &matmul);
    // Neither rows nor columns are dense.
    let sparse = integers(&[5, 6, 8], 1).view(View::Slice(2, 0, 8, 2)).view(View::Slice(1, 0, 6, 3));
    every_family(gpu, DType::F32, &[sparse, integers(&[5, 4, 6], 2)], &matmul);
    // Three batch dimensions that do not merge.
    let deep = integers(&[2, 3, 2, 5, 4], 1).view(View::Permute(vec![2, 0, 1, 3, 4]));
    every_family(gpu, DType::F32, &[deep, integers(&[3, 4, 6], 2).view(View::Expand(vec![2, 2, 3, 4, 6]))], &matmul);
}

#[test]
fn more_matrices_than_one_dimension_of_a_grid() {
    let Some(gpu) = gpu() else { return };
    let [a, b] = [integers(&[66_000, 2, 1], 1), integers(&[66_000, 1, 1], 2)];
    let want = (0..132_000).map(|i| a.values[i] * b.values[i / 2]).collect::<Vec<_>>();
    let (x, w) = (a.stored(gpu, DType::F32).unwrap(), b.stored(gpu, DType::F32).unwrap());
    assert!(x.matmul(&w).unwrap().to_f64_vec().unwrap() == want);
    let by_tiles = force_matmul(MatmulFamily::Small, 1, || x.matmul(&w)).unwrap();
    assert!(by_tiles.to_f64_vec().unwrap() == want);
}

#[test]
fn a_family_that_cannot_run_says_so() {
    let Some(gpu) = gpu() else { return };
    let x = Tensor::ones(&[2, 2], DType::F32, gpu).unwrap();
    expect_error(force_matmul(MatmulFamily::Coop, 1, || x.matmul(&x)), &["matmul", "Coop", "f32"]);
}

/// What may follow a linear layer, and the inputs for it: x, weight, bias, residual.
fn epilogues() -> Vec<(Epilogue, bool, bool)> {
    let then = |scale, activation| Epilogue { scale, activation, residual: None };
    let mut all: Vec<_> = [
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Silu,
        Activation::Relu,
        Activation::ReluSquared,
        Activation::Tanh,
        Activation::Sigmoid,
    ]
    .into_iter()
    .map(|f| (then(1.0, Some(f)), true, false))
    .collect();
    all.push((then(0.25, None), false, false));
    all.push((then(1.0, None), true, true));
    all.push((then(0.5, Some(Activation::Gelu)), true, true));
    all.push((then(2.0, Some(Activation::Silu)), false, true));
    all
}

fn linear_then(then: &Epilogue, with_bias: bool, with_residual: bool, x: &[Tensor]) -> wgrad::Result<Tensor> {
    let (then, bias) = with_inputs(then, with_bias, with_residual, x);
    x[0].linear_then(&x[1], bias, &then)
}

fn with_inputs<'a>(
    then: &Epilogue,
    with_bias: bool,
    with_residual: bool,
    x: &'a [Tensor],
) -> (Epilogue, Option<&'a Tensor>) {
    (Epilogue { residual: with_residual.then(|| x[3].clone()), ..then.clone() }, with_bias.then(|| &x[2]))
}

fn layer(rows: usize, outputs: usize) -> [Input; 4] {
    [
        Input::normal(&[2, rows, 7], 1),
        Input::normal(&[outputs, 7], 2),
        Input::normal(&[outputs], 3),
        Input::normal(&[2, rows, outputs], 4),
    ]
}

#[test]
fn what_follows_a_linear_layer() {
    for (then, bias, residual) in epilogues() {
        let name = format!("linear, bias {bias}, {then:?}");
        let [x, w, b, r] = layer(5, 3);
        let b = if bias { b } else { b.constant() };
        let r = if residual { r } else { r.constant() };
        gradcheck(&name, &[x, w, b, r], |x| linear_then(&then, bias, residual, x));
    }
    // Rows of odd length, of whole fours, of pairs, and a vector.
    let then = |f| Epilogue { scale: 0.5, activation: f, residual: None };
    for (rows, outputs, activation) in
        [(5, 3, Some(Activation::Silu)), (3, 8, Some(Activation::Gelu)), (9, 6, Some(Activation::Tanh)), (1, 5, None)]
    {
        same_on_devices_within(2.0, "linear_then", &layer(rows, outputs), |x| {
            linear_then(&then(activation), true, true, x)
        });
    }
}

#[test]
fn a_fused_linear_layer_is_its_reference() {
    let inputs = layer(4, 6);
    for (then, bias, residual) in epilogues() {
        let leaves: Vec<Tensor> = inputs.iter().map(|i| i.stored(&Device::cpu(), DType::F64).unwrap()).collect();
        let (then, bias) = with_inputs(&then, bias, residual, &leaves);
        let fused = leaves[0].linear_then(&leaves[1], bias, &then).unwrap();
        let composed = reference::linear(&leaves[0], &leaves[1], bias, &then).unwrap();
        let close = |what: &str, a: &Tensor, b: &Tensor| {
            assert_close(what, &a.to_f64_vec().unwrap(), &b.to_f64_vec().unwrap(), 1e-12, 1e-12);
        };
        close("value", &fused, &composed);
        let weights = Input::normal(fused.shape(), 9).stored(&Device::cpu(), DType::F64).unwrap();
        let [got, want] = [&fused, &composed].map(|y| autograd::backward(&[(y, weights.clone())], &[], false).unwrap());
        for leaf in &leaves {
            match (got.get(leaf), want.get(leaf)) {
                (Some(g), Some(w)) => close("gradient", g, w),
                (g, w) => assert_eq!(g.is_some(), w.is_some()),
            }
        }
    }
}

#[test]
fn every_family_finishes_its_sums() {
    let (Some(gpu), Some(portable)) = (gpu(), portable_gpu()) else { return };
    let then = Epilogue { scale: 2.0, activation: Some(Activation::Relu), residual: None };
    for (rows, outputs, device, dtype) in
        [(5, 36, gpu, DType::F32), (5, 36, gpu, DType::F16), (3, 34, gpu, DType::BF16), (5, 35, portable, DType::F32)]
    {
        let inputs = [
            integers(&[rows, 12], 1),
            integers(&[outputs, 12], 2),
            integers(&[outputs], 3),
            integers(&[rows, outputs], 4),
        ];
        every_family(device, dtype, &inputs, &|x| linear_then(&then, true, true, x));
    }
    // Gradients too: z comes out of the one pass or of the second one.
    let gelu = Epilogue::of(Activation::Gelu);
    for family in [MatmulFamily::Dot, MatmulFamily::Small] {
        force_matmul(family, 2, || {
            same_on_devices_within(2.0, &format!("{family:?}"), &layer(3, 6), |x| linear_then(&gelu, true, true, x));
        });
    }
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
        let then = Epilogue { residual: Some(t(&[2, 5])), ..Epilogue::default() };
        expect_error(t(&[2, 3]).linear_then(&t(&[4, 3]), None, &then), &["linear", "residual", "[2, 5]", "[2, 4]"]);
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
