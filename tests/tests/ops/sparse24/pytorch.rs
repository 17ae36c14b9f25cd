//! PyTorch's layout, against what PyTorch recorded (`fixtures/sparse24/pytorch.py`).

use half::f16;
use wgrad::{DType, Device, Sparse24, Tensor};
use wgrad_tests::{assert_equal, expect_error};

#[derive(serde::Deserialize)]
struct Case {
    rows: usize,
    columns: usize,
    dtype: String,
    full: bool,
    dense: Vec<f32>,
    values: Vec<f32>,
    meta: Vec<i16>,
}

impl Case {
    fn all() -> Vec<Case> {
        serde_json::from_str(include_str!("../../../fixtures/sparse24/pytorch.json")).unwrap()
    }

    fn tensor(&self, values: &[f32], columns: usize) -> Tensor {
        let dtype = if self.dtype == "float16" { DType::F16 } else { DType::BF16 };
        Tensor::from_slice(values, &[self.rows, columns], &Device::cpu()).unwrap().cast(dtype).unwrap()
    }
}

#[test]
fn as_pytorch_recorded() {
    let cases = Case::all();
    assert!(cases.iter().any(|case| !case.full) && cases.iter().filter(|case| case.full).count() > 2);
    for case in cases {
        let values = case.tensor(&case.values, case.columns / 2);
        let packed = Sparse24::from_pytorch(&values, &case.meta).unwrap();
        assert_equal("dense", &packed.to_dense().unwrap().to_f64_vec().unwrap(), &wide(&case.dense));
        let (values, meta) = packed.to_pytorch().unwrap();
        assert_equal("values again", &values.to_f64_vec().unwrap(), &wide(&case.values));
        assert_equal("meta again", &meta, &case.meta);
        let own = Sparse24::from_dense(&case.tensor(&case.dense, case.columns)).unwrap();
        if case.full {
            // Where two of each four are kept there is but one way.
            let (values, meta) = own.to_pytorch().unwrap();
            assert_equal("values", &values.to_f64_vec().unwrap(), &wide(&case.values));
            assert_equal("meta", &meta, &case.meta);
        }
        let again = own.to_pytorch().and_then(|(values, meta)| Sparse24::from_pytorch(&values, &meta)).unwrap();
        assert_equal("there and back", &again.to_dense().unwrap().to_f64_vec().unwrap(), &wide(&case.dense));
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

#[test]
fn bad_input() {
    let cpu = Device::cpu();
    let values = |rows: usize, half: usize| Tensor::zeros(&[rows, half], DType::F16, &cpu).unwrap();
    expect_error(Sparse24::from_pytorch(&values(31, 16), &[0; 62]), &["Sparse24::from_pytorch", "31 rows", "32"]);
    expect_error(Sparse24::from_pytorch(&values(32, 24), &[0; 96]), &["Sparse24::from_pytorch", "48 columns", "32"]);
    expect_error(Sparse24::from_pytorch(&values(32, 16), &[0; 63]), &["Sparse24::from_pytorch", "63 words", "64"]);
    expect_error(Sparse24::from_pytorch(&values(32, 16), &[0; 64]), &["row 0", "0x0"]);
    let wide = Tensor::zeros(&[32, 16], DType::F32, &cpu).unwrap();
    expect_error(Sparse24::from_pytorch(&wide, &[0x4444; 64]), &["Sparse24::from_pytorch", "f32", "f16"]);
    let line = Tensor::from_vec(vec![f16::ONE; 32], &[32], &cpu).unwrap();
    expect_error(Sparse24::from_pytorch(&line, &[0x4444; 64]), &["Sparse24::from_pytorch", "[32]"]);
    let odd = Sparse24::magnitude(&Tensor::zeros(&[32, 40], DType::F16, &cpu).unwrap()).unwrap();
    expect_error(odd.to_pytorch(), &["Sparse24::to_pytorch", "40 columns"]);
}
