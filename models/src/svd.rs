//! Singular values of small matrices on the host, in f64.

use wgrad::{DType, Device, Tensor};

use crate::{Error, Result};

/// Sweeps over all pairs of columns after which the largest angle between two is far below what f64 tells apart; a few suffice mostly.
const SWEEPS: usize = 60;

/// `W = U diag(s) V^T` of a matrix `[rows, columns]`, the largest singular values first.
#[derive(Debug, Clone)]
pub struct Svd {
    rows: usize,
    columns: usize,
    /// Columns of U, each of `rows` numbers.
    pub left: Vec<Vec<f64>>,
    /// Not negative, falling.
    pub values: Vec<f64>,
    /// Columns of V, each of `columns` numbers.
    pub right: Vec<Vec<f64>>,
}

impl Svd {
    /// That of a matrix, by rotations of pairs of columns until all are orthogonal (Hestenes, Inversion of matrices by biorthogonalization,
    /// 1958): slow for large matrices, and as exact as f64 for small singular values too.
    ///
    /// # Errors
    /// If it is not of two dimensions, or not finite.
    pub fn of(matrix: &Tensor) -> Result<Self> {
        let &[rows, columns] = matrix.shape() else {
            let message = format!("shape {:?}, expected [rows, columns]", matrix.shape());
            return Err(Error::argument("svd", message));
        };
        let values = matrix.contiguous()?.to_f64_vec()?;
        if values.iter().any(|value| !value.is_finite()) {
            return Err(Error::argument("svd", "an element is not finite"));
        }
        let at = |i: usize, j: usize| values[i * columns + j];
        if rows < columns {
            // Fewer columns are fewer pairs: that of the transposed matrix, the sides exchanged.
            let lines = (0..rows).map(|i| (0..columns).map(|j| at(i, j)).collect()).collect();
            let Svd { left, values, right, .. } = Self::orthogonal(lines, columns);
            return Ok(Svd { rows, columns, left: right, values, right: left });
        }
        Ok(Self::orthogonal((0..columns).map(|j| (0..rows).map(|i| at(i, j)).collect()).collect(), rows))
    }

    /// From the columns of a matrix with as many rows or more.
    fn orthogonal(mut w: Vec<Vec<f64>>, rows: usize) -> Self {
        let n = w.len();
        let mut v: Vec<Vec<f64>> = (0..n).map(|j| (0..n).map(|i| f64::from(u8::from(i == j))).collect()).collect();
        for _ in 0..SWEEPS {
            let mut largest: f64 = 0.0;
            for j in 1..n {
                for i in 0..j {
                    let (a, b, c) = (dot(&w[i], &w[i]), dot(&w[j], &w[j]), dot(&w[i], &w[j]));
                    if c == 0.0 {
                        continue;
                    }
                    largest = largest.max(c.abs() / (a * b).sqrt());
                    // The rotation by which the two columns become orthogonal, the smaller of the two angles.
                    let zeta = (b - a) / (2.0 * c);
                    let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                    let cos = (1.0 + t * t).sqrt().recip();
                    rotate(&mut w, i, j, cos, cos * t);
                    rotate(&mut v, i, j, cos, cos * t);
                }
            }
            if largest < 1e-14 {
                break;
            }
        }
        let mut all: Vec<(f64, Vec<f64>, Vec<f64>)> =
            w.into_iter().zip(v).map(|(w, v)| (dot(&w, &w).sqrt(), w, v)).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut svd = Svd { rows, columns: n, left: vec![], values: vec![], right: vec![] };
        for (value, mut w, v) in all {
            // A column without length has no direction, and takes no part in the product.
            w.iter_mut().for_each(|x| *x /= if value > 0.0 { value } else { 1.0 });
            svd.left.push(w);
            svd.values.push(value);
            svd.right.push(v);
        }
        svd
    }

    /// The first `rank` columns of U as `[rows, rank]` of f32; all if there are fewer.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn left(&self, rank: usize, device: &Device) -> Result<Tensor> {
        sides(&self.left, rank, self.rows, device)
    }

    /// The first `rank` columns of V as `[columns, rank]` of f32; all if there are fewer.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn right(&self, rank: usize, device: &Device) -> Result<Tensor> {
        sides(&self.right, rank, self.columns, device)
    }

    /// The first `rank` singular values as `[rank]` of f32; all if there are fewer.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn values(&self, rank: usize, device: &Device) -> Result<Tensor> {
        let values: Vec<f32> = self.values.iter().take(rank).map(|&value| value as f32).collect();
        Ok(Tensor::from_slice(&values, &[values.len()], device)?)
    }

    /// The factors `[rows, rank]` and `[rank, columns]` of the best approximation of a rank, the roots of the singular values in both.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn factors(&self, rank: usize, device: &Device) -> Result<[Tensor; 2]> {
        let roots = self.values(rank, device)?.sqrt()?;
        let (left, right) = (self.left(rank, device)?, self.right(rank, device)?);
        Ok([left.mul(&roots)?, right.mul(&roots)?.transpose(0, 1)?.contiguous()?])
    }

    /// The best approximation `[rows, columns]` of a rank (Eckart and Young, 1936).
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn product(&self, rank: usize, device: &Device) -> Result<Tensor> {
        let [left, right] = self.factors(rank, device)?;
        Ok(left.matmul(&right)?)
    }
}

fn sides(columns: &[Vec<f64>], rank: usize, length: usize, device: &Device) -> Result<Tensor> {
    let rank = rank.min(columns.len());
    let values: Vec<f32> = columns.iter().take(rank).flatten().map(|&value| value as f32).collect();
    let rows = Tensor::from_vec(values, &[rank, length], device)?.cast(DType::F32)?;
    Ok(rows.transpose(0, 1)?.contiguous()?)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn rotate(columns: &mut [Vec<f64>], i: usize, j: usize, cos: f64, sin: f64) {
    let (before, after) = columns.split_at_mut(j);
    for (x, y) in before[i].iter_mut().zip(&mut after[0]) {
        (*x, *y) = (cos * *x - sin * *y, sin * *x + cos * *y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rows: usize, columns: usize, rank: usize) {
        let device = Device::new_cpu();
        device.set_seed(rows as u64 * 31 + columns as u64);
        let normal = |sizes: &[usize]| Tensor::normal(0.0, 1.0, sizes, DType::F64, &device).unwrap();
        let matrix = normal(&[rows, rank]).matmul(&normal(&[rank, columns])).unwrap();
        let svd = Svd::of(&matrix).unwrap();
        let least = rows.min(columns);
        assert_eq!((svd.values.len(), svd.left.len(), svd.right.len()), (least, least, least));
        assert!(svd.values.windows(2).all(|pair| pair[0] >= pair[1] && pair[1] >= 0.0));
        let scale = svd.values.first().copied().unwrap_or(1.0).max(1.0);
        let want = matrix.to_f64_vec().unwrap();
        for (i, j) in (0..rows * columns).map(|n| (n / columns, n % columns)) {
            let sum: f64 = (0..least).map(|k| svd.left[k][i] * svd.values[k] * svd.right[k][j]).sum();
            assert!((sum - want[i * columns + j]).abs() < 1e-12 * scale, "[{i}, {j}] of {rows} x {columns}");
        }
        for side in [&svd.left, &svd.right] {
            for (a, b) in (0..least * least).map(|n| (n / least, n % least)) {
                let wanted = if a == b { 1.0 } else { 0.0 };
                let real = svd.values[a] > 1e-9 * scale && svd.values[b] > 1e-9 * scale;
                assert!(!real || (dot(&side[a], &side[b]) - wanted).abs() < 1e-10, "columns {a} and {b}");
            }
        }
        assert!(svd.values.iter().skip(rank).all(|&value| value < 1e-12 * scale * least as f64));
    }

    #[test]
    fn products_are_the_matrix_and_sides_are_orthogonal() {
        for (rows, columns, rank) in [(1, 1, 1), (5, 3, 3), (3, 5, 3), (8, 8, 8), (6, 9, 2), (40, 17, 17), (3, 4, 0)] {
            check(rows, columns, rank);
        }
    }

    #[test]
    fn truncated_products_are_nearest() {
        let device = Device::new_cpu();
        let matrix = Tensor::normal(0.0, 1.0, &[7, 5], DType::F32, &device).unwrap();
        let svd = Svd::of(&matrix).unwrap();
        for rank in 0..=5 {
            let rest = svd.product(rank, &device).unwrap().sub(&matrix).unwrap();
            let error = rest.square().unwrap().sum_all().unwrap().item().unwrap();
            let left: f64 = svd.values.iter().skip(rank).map(|value| value * value).sum();
            assert!((error - left).abs() < 1e-4, "rank {rank}: {error} and {left}");
        }
    }

    #[test]
    fn other_shapes_and_infinities_are_refused() {
        let device = Device::new_cpu();
        let cube = Tensor::zeros(&[2, 2, 2], DType::F32, &device).unwrap();
        assert!(Svd::of(&cube).unwrap_err().to_string().contains("[2, 2, 2]"));
        let infinite = Tensor::full(f64::INFINITY, &[2, 2], DType::F32, &device).unwrap();
        assert!(Svd::of(&infinite).is_err());
        assert!(Svd::of(&Tensor::zeros(&[0, 3], DType::F32, &device).unwrap()).unwrap().values.is_empty());
    }
}
