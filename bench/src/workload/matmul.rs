//! Matrix products.

use wgrad::rng::Philox;
use wgrad::{DType, Device, Tensor};

use super::{Work, dtype, normal};
use crate::params::Params;
use crate::{Result, check};

/// `[b, m, k] x [b, k, n]`.
pub fn matmul(name: &str, params: &mut Params, device: &Device) -> Result<Work> {
    let (b, m) = (params.size("b", 1)?, params.size("m", 512)?);
    let (n, k) = (params.size("n", 512)?, params.size("k", 512)?);
    let dtype = dtype(params)?;
    let x = normal(&[b, m, k], dtype, device)?;
    let y = normal(&[b, k, n], dtype, device)?;
    let name = name.to_string();
    let (left, right) = (x.clone(), y.clone());
    Ok(Work {
        flops: Some(2.0 * (b * m) as f64 * (n * k) as f64),
        bytes: Some((b * (m * k + k * n + m * n) * dtype.size()) as f64),
        f32: dtype == DType::F32,
        wait: true,
        step: Box::new(move || Ok(vec![left.matmul(&right)?])),
        check: Box::new(move |step| {
            let host = |x: &Tensor| Ok::<_, crate::Error>(x.cast(DType::F32)?.to_vec::<f32>()?);
            freivalds(&name, &host(&x)?, &host(&y)?, &host(&step()?[0])?, [b, m, n, k], check::tolerance(dtype))
        }),
    })
}

/// Compares products `z` of `x` and `y` with `x (y w)` for random signs `w`: every element counts, in `O(n^2)`
/// (Freivalds, 1977). And some elements, first and last ones among them, with their sums.
fn freivalds(name: &str, x: &[f32], y: &[f32], z: &[f32], sizes: [usize; 4], tolerance: f64) -> Result<()> {
    let [b, m, n, k] = sizes;
    let mut random = Philox::new(7, 0);
    let signs: Vec<f64> = (0..n).map(|_| f64::from(random.below(2)) * 2.0 - 1.0).collect();
    let (mut got, mut want) = (Vec::with_capacity(b * m), Vec::with_capacity(b * m));
    for i in 0..b {
        got.extend(times(&z[i * m * n..], m, &signs));
        want.extend(times(&x[i * m * k..], m, &times(&y[i * k * n..], k, &signs)));
    }
    check::close(&format!("{name}, sums of rows"), &got, &want, tolerance)?;
    let mut places = vec![(0, 0, 0), (b - 1, m - 1, n - 1), (0, m - 1, 0), (b - 1, 0, n - 1)];
    let below = |random: &mut Philox, bound: usize| random.below(bound as u32) as usize;
    places.extend((0..60).map(|_| (below(&mut random, b), below(&mut random, m), below(&mut random, n))));
    let element = |&(i, r, c): &(usize, usize, usize)| {
        (0..k).map(|j| f64::from(x[(i * m + r) * k + j]) * f64::from(y[(i * k + j) * n + c])).sum()
    };
    let want: Vec<f64> = places.iter().map(element).collect();
    let got: Vec<f64> = places.iter().map(|&(i, r, c)| f64::from(z[(i * m + r) * n + c])).collect();
    check::close(&format!("{name}, elements"), &got, &want, tolerance)
}

/// `matrix [rows, v.len()]` times `v`.
fn times(matrix: &[f32], rows: usize, v: &[f64]) -> Vec<f64> {
    let dot = |row: &[f32]| row.iter().zip(v).map(|(a, b)| f64::from(*a) * b).sum();
    matrix.chunks_exact(v.len()).take(rows).map(dot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_element_is_found() {
        let sizes @ [b, m, n, k] = [2, 19, 23, 31];
        let device = Device::cpu();
        let x = normal(&[b, m, k], DType::F32, &device).unwrap();
        let y = normal(&[b, k, n], DType::F32, &device).unwrap();
        let [x, y, mut z] = [&x, &y, &x.matmul(&y).unwrap()].map(|t| t.to_vec::<f32>().unwrap());
        freivalds("matmul", &x, &y, &z, sizes, 1e-4).unwrap();
        for place in [0, b * m * n - 1, 3 * n + 5, m * n + 7] {
            let right = std::mem::replace(&mut z[place], 0.5);
            assert!(freivalds("matmul", &x, &y, &z, sizes, 1e-4).is_err(), "element {place}");
            z[place] = right;
        }
    }
}
