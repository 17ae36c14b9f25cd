//! Keys that no query can choose: those in the convex hull of the others.

/// Keys so near each other, as a share of the largest distance, count as one: no query of finite length tells them apart.
const SAME: f64 = 1e-3;
/// A key so near the hull of the others, as a share of the largest distance, counts as inside.
const INSIDE: f64 = 1e-4;
/// Steps towards the nearest point of a hull.
const STEPS: usize = 20_000;

/// Of some keys those that are the best match of no query at all.
pub fn unselectable(keys: &[Vec<f64>]) -> usize {
    (0..keys.len()).filter(|&at| !selectable(keys, at)).count()
}

/// Whether there is a query whose product with the key is larger than those with all others: whether zero lies outside the hull of the
/// differences. The point of the hull nearest to zero is such a query, if there is one (Gilbert's algorithm, "An iterative procedure for
/// computing the minimum of a quadratic form on a convex set", 1966); on the way each point is tried. A key that stays undecided is one
/// that no query has been found for.
fn selectable(keys: &[Vec<f64>], at: usize) -> bool {
    let key = &keys[at];
    let mut away: Vec<Vec<f64>> =
        keys.iter().map(|other| key.iter().zip(other).map(|(a, b)| a - b).collect()).collect();
    let largest = away.iter().map(|x| dot(x, x)).fold(0.0, f64::max);
    away.retain(|x| dot(x, x) > SAME * SAME * largest);
    let worst = |query: &[f64]| {
        let products = away.iter().map(|x| dot(query, x)).enumerate();
        products.min_by(|a, b| a.1.total_cmp(&b.1))
    };
    let Some(mut point) = away.first().cloned() else { return true };
    // On a sphere this is the answer.
    if worst(key).is_none_or(|(_, product)| product > 0.0) {
        return true;
    }
    for _ in 0..STEPS {
        let Some((other, product)) = worst(&point) else { return true };
        if product > 0.0 {
            return true;
        }
        let square = dot(&point, &point);
        if square < INSIDE * INSIDE * largest {
            return false;
        }
        let step: Vec<f64> = away[other].iter().zip(&point).map(|(a, b)| a - b).collect();
        let share = ((square - product) / dot(&step, &step)).clamp(0.0, 1.0);
        point.iter_mut().zip(&step).for_each(|(x, step)| *x += share * step);
    }
    false
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_can_be_chosen_and_what_lies_between_cannot() {
        let square = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]];
        let keys = |more: &[[f64; 2]]| square.iter().chain(more).map(|key| key.to_vec()).collect::<Vec<_>>();
        assert_eq!(unselectable(&keys(&[])), 0);
        // Inside, on an edge, outside, and a corner once more.
        assert_eq!(unselectable(&keys(&[[0.2, -0.3]])), 1);
        assert_eq!(unselectable(&keys(&[[1.0, 0.5]])), 1);
        assert_eq!(unselectable(&keys(&[[1.05, 0.0]])), 0);
        assert_eq!(unselectable(&keys(&[[1.0, 1.0]])), 0);
        // Far from zero the key itself is no query that chooses it.
        let moved: Vec<Vec<f64>> = keys(&[[0.0, 0.9]]).iter().map(|key| vec![key[0] + 9.0, key[1] + 9.0]).collect();
        assert_eq!(unselectable(&moved), 1);
        assert_eq!(unselectable(&moved[..4]), 0);
        assert_eq!(unselectable(&moved[..1]), 0);
    }
}
