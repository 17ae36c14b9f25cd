//! Packed 2:4 matrices: packing, positions, products, files.

mod pytorch;
mod stored;

use proptest::prelude::*;
use wgrad::{
    Activation, DType, Device, Epilogue, MatmulFamily, Sparse24, Sparse24Form, Tensor, force_matmul, force_sparse24,
    matmul_families,
};
use wgrad_tests::{
    Input, Random, assert_close, assert_equal, each_device, expect_error, gpu, gradcheck, same_on_devices_in,
    same_on_devices_within, strategy,
};

const FORMS: [Sparse24Form; 3] = [Sparse24Form::Packed, Sparse24Form::Tiled, Sparse24Form::Expanded];

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

#[test]
fn values_and_words_by_hand() {
    each_device(|device| {
        let dense = [
            0.5, -2.0, 0.0, 1.0, 0.0, 0.0, 3.0, 0.0, 1.0, 2.0, 3.0, 4.0, -1.0, -1.0, -1.0, -1.0, 0.0, 0.0, 0.0, 0.0,
            5.0, 0.0, 0.0, 6.0, 0.0, 7.0, 0.0, 8.0, 9.0, 0.0, 1.0, 0.0f32,
        ];
        let packed = Sparse24::magnitude(&Tensor::from_slice(&dense, &[1, 32], device).unwrap()).unwrap();
        let want = [-2.0, 1.0, 0.0, 3.0, 3.0, 4.0, -1.0, -1.0, 0.0, 0.0, 5.0, 6.0, 7.0, 8.0, 9.0, 1.0f32];
        assert_equal("values", &packed.values().to_vec::<f32>().unwrap(), &want);
        assert_equal("meta", &packed.meta().to_vec::<u32>().unwrap(), &[0x8DC4_4E8D]);
        packed.validate().unwrap();
        assert_eq!((packed.rows(), packed.cols(), packed.bytes()), (1, 32, 68));
    });
}

#[test]
fn memory() {
    let weight = Tensor::normal(0.0, 1.0, &[64, 256], DType::F32, &Device::cpu()).unwrap();
    let packed = Sparse24::magnitude(&weight).unwrap();
    assert_eq!(packed.bytes() * 32, 64 * 256 * 4 * 17);
    assert_eq!(packed.cast(DType::F16).unwrap().bytes() * 16, 64 * 256 * 2 * 9);
}

proptest! {
    #![proptest_config(config(16))]

    #[test]
    fn packing_and_unpacking(rows in 0usize..9, columns in 0usize..100, seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let mut dense: Vec<f32> = (0..rows * columns).map(|_| random.normal() as f32).collect();
        // At most two of each four, often fewer.
        for row in dense.chunks_mut(columns.max(1)) {
            for group in row.chunks_mut(4) {
                let mut order = [0, 1, 2, 3];
                random.shuffle(&mut order);
                let kept = random.below(3);
                for &column in &order[kept..] {
                    if let Some(value) = group.get_mut(column) {
                        *value = 0.0;
                    }
                }
            }
        }
        each_device(|device| {
            let x = Tensor::from_slice(&dense, &[rows, columns], device).unwrap();
            let packed = Sparse24::from_dense(&x).unwrap();
            packed.validate().unwrap();
            assert_equal("to_dense", &packed.to_dense().unwrap().to_vec::<f32>().unwrap(), &dense);
            let again = Sparse24::magnitude(&x).unwrap();
            assert_equal("magnitude", &again.to_dense().unwrap().to_vec::<f32>().unwrap(), &dense);
            let moved = packed.to_device(&Device::cpu()).unwrap().cast(DType::F16).unwrap();
            assert_eq!((moved.cols(), moved.dtype()), (columns, DType::F16));
            let parts = Sparse24::from_parts(packed.values(), packed.meta(), columns).unwrap();
            assert_equal("from_parts", &parts.to_dense().unwrap().to_vec::<f32>().unwrap(), &dense);
        });
    }

    #[test]
    fn gradients_of_packing(rows in 1usize..5, columns in 1usize..40, seed in any::<u64>()) {
        let weight = strategy::view_of(&[rows, columns], &|shape, seed| Input::normal(shape, seed), seed);
        let inputs = [weight, Input::normal(&[rows, columns], seed ^ 1).constant()];
        let f = |x: &[Tensor]| {
            let packed = Sparse24::from_mask(&x[0], &x[1].n_of_m_mask(2, 4)?)?;
            packed.with_values(&packed.values().square()?)?.to_dense()
        };
        gradcheck("to_dense", &inputs, f);
        same_on_devices_within(2.0, "to_dense", &inputs, f);
    }
}

proptest! {
    // Each case compiles many variants of kernels.
    #![proptest_config(config(5))]

    /// Few rows and many, in both forms, at odd sizes, of views.
    #[test]
    fn products(tokens in 1usize..20, outputs in 1usize..14, inputs in 1usize..80, bias: bool, seed in any::<u64>()) {
        let normal = |shape: &[usize], seed| Input::normal(shape, seed);
        let x = strategy::view_of(&[tokens, inputs], &normal, seed);
        let weight = strategy::view_of(&[outputs, inputs], &normal, seed ^ 1);
        let operands = [x, weight, Input::normal(&[outputs], seed ^ 2), Input::normal(&[outputs, inputs], seed ^ 3).constant()];
        let operands = if bias { operands.to_vec() } else { [0, 1, 3].map(|i| operands[i].clone()).to_vec() };
        let f = |x: &[Tensor]| {
            let packed = Sparse24::from_mask(&x[1], &x[x.len() - 1].n_of_m_mask(2, 4)?)?;
            x[0].linear_sparse24(&packed, bias.then(|| &x[2]))
        };
        for form in FORMS {
            force_sparse24(form, || {
                gradcheck("linear_sparse24", &operands, f);
                same_on_devices_within(2.0, "linear_sparse24", &operands, f);
            });
        }
        each_device(|device| {
            let x: Vec<Tensor> =
                operands.iter().map(|i| i.operand(&i.stored(device, DType::F32).unwrap()).unwrap()).collect();
            let mask = x[x.len() - 1].n_of_m_mask(2, 4).unwrap();
            let dense = Tensor::where_cond(&mask, &x[1], &Tensor::scalar(0.0, DType::F32, device).unwrap()).unwrap();
            let want = x[0].linear(&dense, bias.then(|| &x[2])).unwrap().to_f64_vec().unwrap();
            for form in FORMS {
                let got = force_sparse24(form, || f(&x)).unwrap().to_f64_vec().unwrap();
                assert_close("against dense", &got, &want, 1e-5, 1e-5);
            }
        });
    }
}

/// Rows over several units of every invocation, and more tokens than a workgroup takes.
#[test]
fn long_rows() {
    let inputs = [Input::normal(&[11, 2100], 1), Input::normal(&[7, 2100], 2), Input::normal(&[7, 2100], 3).constant()];
    for tokens in [1, 2, 3, 8, 11] {
        let f = |x: &[Tensor]| {
            let packed = Sparse24::from_mask(&x[1], &x[2].n_of_m_mask(2, 4)?)?;
            x[0].narrow(0, 0, tokens)?.linear_sparse24(&packed, None)
        };
        force_sparse24(Sparse24Form::Packed, || same_on_devices_within(4.0, "long rows", &inputs, f));
    }
}

/// Tiles of every size that the device runs, k whole and cut, rows and columns that are not whole tiles or fours.
#[test]
fn tiles() {
    let Some(gpu) = gpu() else { return };
    let shapes = [&[67, 150][..], &[90, 150], &[90], &[90, 150], &[67, 90]];
    let mut inputs: Vec<Input> = (1..).zip(shapes).map(|(seed, shape)| Input::normal(shape, seed)).collect();
    inputs[3] = inputs[3].clone().constant();
    let f = |x: &[Tensor]| {
        let packed = Sparse24::from_mask(&x[1], &x[3].n_of_m_mask(2, 4)?)?;
        let then = Epilogue { residual: Some(x[4].clone()), ..Epilogue::default() };
        x[0].linear_sparse24_then(&packed, Some(&x[2]), &then)
    };
    use MatmulFamily::{Coop, CoopLarge, Large, Medium, Small};
    for family in matmul_families(gpu).into_iter().filter(|f| matches!(f, Small | Medium | Large | Coop | CoopLarge)) {
        let dtypes = if family.on_units() { &[DType::F16][..] } else { &[DType::F32, DType::F16, DType::BF16] };
        for slices in [1, 3] {
            let agree = || same_on_devices_in(dtypes, 4.0, "tiles", &inputs, f);
            force_matmul(family, slices, || force_sparse24(Sparse24Form::Tiled, agree));
        }
    }
}

#[test]
fn sizes_without_elements() {
    each_device(|device| {
        for form in FORMS {
            for [tokens, outputs, inputs] in [[0, 3, 8], [3, 0, 8], [2, 3, 0], [0, 0, 0]] {
                let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, device).unwrap();
                let packed = Sparse24::magnitude(&zeros(&[outputs, inputs])).unwrap();
                let values = packed.values().requires_grad();
                let x = zeros(&[tokens, inputs]).requires_grad();
                let bias = Tensor::ones(&[outputs], DType::F32, device).unwrap();
                let gradients = force_sparse24(form, || {
                    let y = x.linear_sparse24(&packed.with_values(&values).unwrap(), Some(&bias)).unwrap();
                    assert_eq!(y.shape(), [tokens, outputs]);
                    assert!(y.to_f64_vec().unwrap().iter().all(|&y| y == 1.0));
                    y.sum_all().unwrap().backward().unwrap()
                });
                assert_eq!(gradients.get(&values).unwrap().shape(), values.shape());
                assert_eq!(gradients.get(&x).unwrap().shape(), x.shape());
            }
        }
    });
}

/// What fills the rows up to whole blocks may be anything.
#[test]
fn padding_counts_for_nothing() {
    each_device(|device| {
        let weight = Tensor::from_slice(&[1.0f32, 0.0, 2.0, 0.0, 0.0, 3.0], &[1, 6], device).unwrap();
        let packed = Sparse24::from_dense(&weight).unwrap();
        let mut values = packed.values().to_vec::<f32>().unwrap();
        values[4..].fill(1e6);
        let odd = packed.with_values(&Tensor::from_vec(values, &[1, 16], device).unwrap()).unwrap();
        assert_equal("dense", &odd.to_dense().unwrap().to_vec::<f32>().unwrap(), &weight.to_vec::<f32>().unwrap());
        let x = Tensor::ones(&[1, 6], DType::F32, device).unwrap();
        for form in FORMS {
            let values = odd.values().requires_grad();
            let (y, gradient) = force_sparse24(form, || {
                let y = x.linear_sparse24(&odd.with_values(&values).unwrap(), None).unwrap();
                let gradients = y.sum_all().unwrap().backward().unwrap();
                (y.item().unwrap(), gradients.get(&values).unwrap().to_vec::<f32>().unwrap())
            });
            assert_eq!(y, 6.0);
            assert_equal("gradient", &gradient[4..], &[0.0; 12]);
        }
    });
}

#[test]
fn what_follows_a_product() {
    let operands = [
        Input::normal(&[2, 3, 40], 1),
        Input::normal(&[6, 40], 2),
        Input::normal(&[6], 3),
        Input::normal(&[2, 3, 6], 4),
    ];
    let f = |x: &[Tensor]| {
        let packed = Sparse24::magnitude(&x[1])?;
        let then = Epilogue { scale: 0.5, activation: Some(Activation::Gelu), residual: Some(x[3].clone()) };
        x[0].linear_sparse24_then(&packed, Some(&x[2]), &then)
    };
    each_device(|device| {
        let x: Vec<Tensor> = operands.iter().map(|i| i.stored(device, DType::F32).unwrap()).collect();
        let plain: Vec<Tensor> = x.iter().map(Tensor::detach).collect();
        let y = x[0].detach().linear(&Sparse24::magnitude(&plain[1]).unwrap().to_dense().unwrap(), None).unwrap();
        let y = y.mul_scalar(0.5).unwrap().add(&plain[2]).unwrap().gelu().unwrap().add(&plain[3]).unwrap();
        for form in FORMS {
            for x in [&x, &plain] {
                let got = force_sparse24(form, || f(x)).unwrap().to_f64_vec().unwrap();
                assert_close("linear_sparse24_then", &got, &y.to_f64_vec().unwrap(), 1e-5, 1e-5);
            }
        }
    });
    for form in FORMS {
        force_sparse24(form, || gradcheck("linear_sparse24_then", &operands, f));
    }
}

/// With the transpose beside it, few rows take the gradient of the input from a packed matrix too.
#[test]
fn gradients_by_the_transpose() {
    let operands = [Input::normal(&[3, 40], 1), Input::normal(&[36, 40], 2)];
    let packed = |weight: &Tensor| {
        let kept = weight.detach().abs()?.transposable_mask()?;
        Sparse24::from_mask(weight, &kept)?.with_transpose()
    };
    let f = |x: &[Tensor]| x[0].linear_sparse24(&packed(&x[1])?, None);
    let plain = |x: &[Tensor]| {
        let kept = x[1].detach().abs()?.transposable_mask()?.cast(x[1].dtype())?;
        x[0].linear(&x[1].mul(&kept)?, None)
    };
    for form in FORMS {
        force_sparse24(form, || gradcheck("linear_sparse24", &operands, f));
    }
    each_device(|device| {
        for dtype in [DType::F32, DType::BF16] {
            let gradients = |f: &dyn Fn(&[Tensor]) -> wgrad::Result<Tensor>| {
                let x: Vec<Tensor> = operands.iter().map(|i| i.stored(device, dtype).unwrap()).collect();
                let gradients = f(&x).unwrap().square().unwrap().sum_all().unwrap().backward().unwrap();
                x.iter().flat_map(|x| gradients.get(x).unwrap().to_f64_vec().unwrap()).collect::<Vec<f64>>()
            };
            let tolerance = if dtype == DType::F32 { 1e-4 } else { 0.2 };
            let want = gradients(&plain);
            for form in FORMS {
                let got = force_sparse24(form, || gradients(&f));
                assert_close(&format!("{form:?} {dtype} on {device}"), &got, &want, tolerance, tolerance / 4.0);
            }
        }
    });
    let cpu = Device::cpu();
    let weight = operands[1].stored(&cpu, DType::F32).unwrap().detach();
    // By magnitude alone some column keeps more or fewer.
    expect_error(Sparse24::magnitude(&weight).unwrap().with_transpose(), &["with_transpose", "row", "2 of 4"]);
    let both = packed(&weight).unwrap();
    let transposed = both.transposed().unwrap();
    let dense = |x: &Sparse24| x.to_dense().unwrap();
    let turned = dense(&both).transpose(0, 1).unwrap().to_f64_vec().unwrap();
    assert_eq!((transposed.rows(), transposed.cols(), dense(transposed).to_f64_vec().unwrap()), (40, 36, turned));
    // It would be that of other values.
    assert!(both.with_values(&both.values().ones_like().unwrap()).unwrap().transposed().is_none());
    let by_scores = Sparse24::from_scores(&weight, &weight.abs().unwrap()).unwrap();
    assert_eq!(
        by_scores.meta().to_vec::<u32>().unwrap(),
        Sparse24::magnitude(&weight).unwrap().meta().to_vec::<u32>().unwrap()
    );
    expect_error(
        Sparse24::from_scores(&weight, &weight.narrow(0, 0, 4).unwrap()),
        &["from_scores", "[4, 40]", "[36, 40]"],
    );
}

/// The weight as a leaf of its own trains at the kept positions alone.
#[test]
fn values_train() {
    each_device(|device| {
        let normal = |shape: &[usize]| Tensor::normal(0.0, 1.0, shape, DType::F32, device).unwrap();
        let target = Sparse24::magnitude(&normal(&[8, 16])).unwrap();
        let mut packed = target.with_values(&normal(&[8, 16])).unwrap();
        let mut losses = Vec::new();
        for _ in 0..60 {
            let x = normal(&[32, 16]);
            let values = packed.values().detach().requires_grad();
            let y = x.linear_sparse24(&packed.with_values(&values).unwrap(), None).unwrap();
            let error = y.sub(&x.linear_sparse24(&target, None).unwrap()).unwrap();
            let loss = error.square().unwrap().mean_all().unwrap();
            let gradients = loss.backward().unwrap();
            let step = gradients.get(&values).unwrap().mul_scalar(-2.0).unwrap();
            packed = packed.with_values(&values.detach().add(&step).unwrap()).unwrap();
            losses.push(loss.item().unwrap());
        }
        assert!(losses[59] < 1e-3 * losses[0], "{losses:?}");
    });
}

#[test]
fn bad_input() {
    let cpu = Device::cpu();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &cpu).unwrap();
    let mut dense = vec![0.0f32; 3 * 10];
    dense[25..28].fill(1.0);
    let dense = Tensor::from_vec(dense, &[3, 10], &cpu).unwrap();
    expect_error(Sparse24::from_dense(&dense), &["Sparse24::from_dense", "row 2", "3 of columns 4 to 7", "2 of 4"]);
    let mask = Tensor::ones(&[1, 3], DType::Bool, &cpu).unwrap();
    expect_error(Sparse24::from_mask(&zeros(&[1, 3]), &mask), &["Sparse24::from_mask", "row 0", "3 of columns 0 to 2"]);
    expect_error(Sparse24::from_mask(&zeros(&[1, 4]), &mask), &["Sparse24::from_mask", "[1, 3]", "[1, 4]"]);
    expect_error(Sparse24::from_mask(&zeros(&[3]), &mask), &["Sparse24::from_mask", "[3]"]);
    expect_error(Sparse24::magnitude(&zeros(&[2, 2, 2])), &["Sparse24::magnitude", "[2, 2, 2]"]);
    expect_error(Sparse24::magnitude(&mask), &["Sparse24::magnitude", "bool"]);

    let packed = Sparse24::magnitude(&zeros(&[2, 40])).unwrap();
    let meta = |word: u32| Tensor::from_vec(vec![0x4444_4444, word, 0x4444_4444, 0x4444_4444], &[2, 2], &cpu).unwrap();
    for (word, nibble) in [(0x4444_0444u32, "0x0"), (0x4444_5444, "0x5"), (0x4444_1444, "0x1"), (0x4444_f444, "0xf")] {
        let made = Sparse24::from_parts(&zeros(&[2, 32]), &meta(word), 40);
        expect_error(made, &["Sparse24::from_parts", "row 0", "group 11", nibble]);
    }
    let meta = meta(0x4444_4444);
    expect_error(Sparse24::from_parts(&zeros(&[2, 32]), &meta, 65), &["Sparse24::from_parts", "[2, 2]", "65", "3"]);
    expect_error(Sparse24::from_parts(&zeros(&[2, 16]), &meta, 40), &["Sparse24::from_parts", "[2, 16]", "[2, 32]"]);
    let words = Tensor::zeros(&[2, 2], DType::I32, &cpu).unwrap();
    expect_error(Sparse24::from_parts(&zeros(&[2, 32]), &words, 40), &["Sparse24::from_parts", "i32"]);
    expect_error(packed.with_values(&zeros(&[32])), &["Sparse24::with_values", "[32]", "[2, 32]"]);
    expect_error(packed.cast(DType::U32), &["Sparse24::with_values", "u32"]);

    expect_error(zeros(&[3, 41]).linear_sparse24(&packed, None), &["linear_sparse24", "[3, 41]", "40", "[2, 40]"]);
    expect_error(zeros(&[]).linear_sparse24(&packed, None), &["linear_sparse24", "scalar"]);
    expect_error(zeros(&[3, 40]).linear_sparse24(&packed, Some(&zeros(&[3]))), &["linear_sparse24", "[3]", "[2]"]);
    let half = Tensor::zeros(&[3, 40], DType::F16, &cpu).unwrap();
    expect_error(half.linear_sparse24(&packed, None), &["linear_sparse24", "dtype"]);
    let then = Epilogue { residual: Some(zeros(&[3, 3])), ..Epilogue::default() };
    expect_error(zeros(&[3, 40]).linear_sparse24_then(&packed, None, &then), &["linear_sparse24", "[3, 3]", "[3, 2]"]);
}
