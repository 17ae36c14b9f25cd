//! The one factorisation that SparseGPT needs, in f64 on the host.

/// The upper triangular `U` with `H⁻¹ = Uᵀ U`, row by row, of a symmetric positive definite `H [n, n]`; None if it is not.
///
/// With the order of rows and columns reversed, Cholesky's factor `L` of `H` is upper triangular: `H = R Rᵀ`, and so `U = R⁻¹`, without
/// an inverse of `H`.
pub fn inverse_upper_factor(h: &[f64], n: usize) -> Option<Vec<f64>> {
    let mut l: Vec<f64> = h.iter().rev().copied().collect();
    for i in 0..n {
        let (above, row) = l.split_at_mut(i * n);
        for j in 0..i {
            let other = &above[j * n..j * n + j + 1];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let square = row[i] - dot(&row[..i], &row[..i]);
        if !(square > 0.0 && square.is_finite()) {
            return None;
        }
        row[i] = square.sqrt();
    }
    // The inverse of L by forward substitution, a row at a time.
    let mut inverse = vec![0.0; n * n];
    for i in 0..n {
        let (above, row) = inverse.split_at_mut(i * n);
        for k in 0..i {
            let factor = l[i * n + k];
            row[..=k].iter_mut().zip(&above[k * n..]).for_each(|(x, y)| *x -= factor * y);
        }
        let diagonal = l[i * n + i];
        row[..i].iter_mut().for_each(|x| *x /= diagonal);
        row[i] = diagonal.recip();
    }
    inverse.reverse();
    Some(inverse)
}

/// Four sums side by side, which the processor adds at once.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a4, b4) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest: f64 = a4.remainder().iter().zip(b4.remainder()).map(|(x, y)| x * y).sum();
    let mut sums = [0.0; 4];
    for (x, y) in a4.zip(b4) {
        (0..4).for_each(|i| sums[i] += x[i] * y[i]);
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use wgrad::rng::Philox;

    use super::*;

    #[test]
    fn the_factor_gives_the_inverse() {
        let n = 13;
        let mut rng = Philox::new(5, 0);
        let x: Vec<f64> = (0..40 * n).map(|_| f64::from(rng.next_f32()) - 0.5).collect();
        let mut h = vec![0.0; n * n];
        for row in x.chunks(n) {
            (0..n * n).for_each(|at| h[at] += row[at / n] * row[at % n]);
        }
        let u = inverse_upper_factor(&h, n).unwrap();
        for i in 0..n {
            assert!((0..i).all(|j| u[i * n + j] == 0.0));
            for j in 0..n {
                // H Uᵀ U = 1
                let inverse = |k: usize| (0..n).map(|m| u[m * n + k] * u[m * n + j]).sum::<f64>();
                let one: f64 = (0..n).map(|k| h[i * n + k] * inverse(k)).sum();
                assert!((one - f64::from(u8::from(i == j))).abs() < 1e-9, "{i} {j}: {one}");
            }
        }
        assert_eq!(inverse_upper_factor(&[4.0], 1).unwrap(), [0.5]);
        assert!(inverse_upper_factor(&[1.0, 2.0, 2.0, 1.0], 2).is_none());
        assert!(inverse_upper_factor(&[f64::NAN], 1).is_none());
    }
}
