//! Boxes of objects in images, as (middle x, middle y, width, height) in parts of the image: how well they fit, which prediction is to be which
//! object, and the losses of that.

use wgrad::nn::loss;
use wgrad::{Reduction, Tensor};

use crate::{Error, Result};

/// Objects of one image.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// A class for each.
    pub classes: Vec<usize>,
    /// A box for each.
    pub boxes: Vec<[f32; 4]>,
}

/// Weights and exponents of detection by matching (Carion et al., DETR, 2020, arXiv 2005.12872; focal terms of Lin et al., 2017; the varifocal
/// loss of Zhang et al., 2021, arXiv 2008.13367).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MatchConfig {
    /// Weights of class, distance and generalised overlap in the cost of a pair.
    pub costs: [f64; 3],
    /// Balance and exponent of the focal cost of a class; softmax probabilities are the cost if absent.
    pub focal: Option<[f64; 2]>,
    /// Weights of the varifocal loss, of distance, and of generalised overlap.
    pub weights: [f64; 3],
    /// Balance and exponent of the varifocal loss.
    pub varifocal: [f64; 2],
}

/// The losses of one set of predictions, weighted.
#[derive(Clone)]
pub struct DetectionLoss {
    /// Of the classes.
    pub class: Tensor,
    /// Of the distance of boxes.
    pub distance: Tensor,
    /// Of their overlap.
    pub overlap: Tensor,
}

impl DetectionLoss {
    /// All three.
    ///
    /// # Errors
    /// Never for losses of one set.
    pub fn sum(&self) -> Result<Tensor> {
        Ok(self.class.add(&self.distance)?.add(&self.overlap)?)
    }
}

fn corners([x, y, w, h]: [f64; 4]) -> [f64; 4] {
    [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0]
}

/// Overlap (intersection over union) of two boxes, and generalised overlap (Rezatofighi et al., 2019, arXiv 1902.09630).
pub fn overlap(a: [f64; 4], b: [f64; 4]) -> [f64; 2] {
    let (p, q) = (corners(a), corners(b));
    let side = |d: usize| (p[2 + d].min(q[2 + d]) - p[d].max(q[d])).max(0.0);
    let hull_side = |d: usize| p[2 + d].max(q[2 + d]) - p[d].min(q[d]);
    let shared = side(0) * side(1);
    let union = a[2] * a[3] + b[2] * b[3] - shared;
    let hull = hull_side(0) * hull_side(1);
    let iou = if union > 0.0 { shared / union } else { 0.0 };
    [iou, if hull > 0.0 { iou - (hull - union) / hull } else { iou }]
}

/// The generalised overlap of boxes `[n, 4]`, each with the one in its place: `[n]`, with gradients.
///
/// # Errors
/// If shapes do not fit.
pub fn generalised_overlap(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let ends = |x: &Tensor| {
        let (middle, half) = (x.narrow(1, 0, 2)?, x.narrow(1, 2, 2)?.mul_scalar(0.5)?);
        Ok::<_, Error>((middle.sub(&half)?, middle.add(&half)?))
    };
    let ((a0, a1), (b0, b1)) = (ends(a)?, ends(b)?);
    let area = |sides: &Tensor| sides.prod(&[1], false);
    let shared = area(&a1.minimum(&b1)?.sub(&a0.maximum(&b0)?)?.clamp(Some(0.0), None)?)?;
    let union = area(&a1.sub(&a0)?)?.add(&area(&b1.sub(&b0)?)?)?.sub(&shared)?;
    let hull = area(&a1.maximum(&b1)?.sub(&a0.minimum(&b0)?)?)?;
    Ok(shared.div(&union)?.sub(&hull.sub(&union)?.div(&hull)?)?)
}

/// The assignment of rows to columns of `cost [rows, columns]` (rows no more than columns) whose sum is least: the column of each row. By
/// shortest augmenting paths (Jonker and Volgenant, 1987).
pub fn assign(cost: &[f64], rows: usize, columns: usize) -> Vec<usize> {
    const FREE: usize = usize::MAX;
    let (mut of_row, mut of_column) = (vec![0.0; rows], vec![0.0; columns]);
    let mut owner = vec![FREE; columns];
    for row in 0..rows {
        // Dijkstra from this row, over columns, by reduced costs.
        let (mut least, mut from) = (vec![f64::INFINITY; columns], vec![FREE; columns]);
        let mut done = vec![false; columns];
        let (mut current, mut last, mut reached) = (row, FREE, 0.0);
        let end = loop {
            let mut next = FREE;
            for column in (0..columns).filter(|&column| !done[column]) {
                let length = reached + cost[current * columns + column] - of_row[current] - of_column[column];
                if length < least[column] {
                    (least[column], from[column]) = (length, last);
                }
                if next == FREE || least[column] < least[next] {
                    next = column;
                }
            }
            if next == FREE {
                return owner_rows(&owner, rows);
            }
            (done[next], last, reached) = (true, next, least[next]);
            match owner[next] {
                FREE => break next,
                other => current = other,
            }
        };
        of_row[row] += reached;
        for column in (0..columns).filter(|&column| done[column] && column != end) {
            of_row[owner[column]] += reached - least[column];
            of_column[column] -= reached - least[column];
        }
        let mut column = end;
        while column != FREE {
            let before = from[column];
            owner[column] = if before == FREE { row } else { owner[before] };
            column = before;
        }
    }
    owner_rows(&owner, rows)
}

fn owner_rows(owner: &[usize], rows: usize) -> Vec<usize> {
    let mut columns = vec![0; rows];
    for (column, &row) in owner.iter().enumerate().filter(|(_, row)| **row < rows) {
        columns[row] = column;
    }
    columns
}

/// The losses of logits `[batch, queries, classes]` and boxes `[batch, queries, 4]` against the objects of each image.
///
/// # Errors
/// If shapes do not fit, a class is out of range, or an image has more objects than queries.
pub fn detection_loss(c: &MatchConfig, logits: &Tensor, boxes: &Tensor, objects: &[Objects]) -> Result<DetectionLoss> {
    let (&[batch, queries, classes], [b, q, 4]) = (logits.shape(), boxes.shape()) else {
        let message = format!("of shape {:?} for logits of shape {:?}", boxes.shape(), logits.shape());
        return Err(Error::argument("boxes", message));
    };
    if [*b, *q, objects.len()] != [batch, queries, batch] {
        let message = format!("of {} images for {batch} with {queries} queries", objects.len());
        return Err(Error::argument("objects", message));
    }
    let (scores, places) = (logits.to_f64_vec()?, boxes.to_f64_vec()?);
    let (mut weight, mut target) = (Vec::with_capacity(scores.len()), vec![0f32; scores.len()]);
    let [balance, exponent] = c.varifocal;
    weight.extend(scores.iter().map(|&s| (balance * sigmoid(s).powf(exponent)) as f32));
    let (mut matched, mut wanted) = (Vec::new(), Vec::new());
    for (image, objects) in objects.iter().enumerate() {
        if objects.classes.len() != objects.boxes.len() || objects.classes.len() > queries {
            let (classes, boxes) = (objects.classes.len(), objects.boxes.len());
            return Err(Error::argument(
                "objects",
                format!("{classes} classes and {boxes} boxes for {queries} queries"),
            ));
        }
        if let Some(class) = objects.classes.iter().find(|&&class| class >= classes) {
            return Err(Error::argument("objects", format!("class {class} of {classes}")));
        }
        let first = image * queries;
        let place = |query: usize| std::array::from_fn(|i| places[4 * (first + query) + i]);
        let mut cost = Vec::new();
        for (&class, object) in objects.classes.iter().zip(&objects.boxes) {
            for query in 0..queries {
                let row = &scores[(first + query) * classes..][..classes];
                cost.push(pair_cost(c, row, class, place(query), object.map(f64::from)));
            }
        }
        let chosen = assign(&cost, objects.classes.len(), queries);
        for ((&query, &class), object) in chosen.iter().zip(&objects.classes).zip(&objects.boxes) {
            let [iou, _] = overlap(place(query), object.map(f64::from));
            let at = (first + query) * classes + class;
            (weight[at], target[at]) = (iou as f32, iou as f32);
            matched.push((first + query) as u32);
            wanted.extend(object);
        }
    }
    let count = matched.len();
    let share = 1.0 / count.max(1) as f64;
    let like =
        |values: Vec<f32>, shape: &[usize]| Tensor::from_vec(values, shape, logits.device())?.cast(logits.dtype());
    let (weight, target) = (like(weight, logits.shape())?, like(target, logits.shape())?);
    let class = loss::bce_with_logits(logits, &target, Some(&weight), None, Reduction::Sum)?;
    let index = Tensor::from_vec(matched, &[count], logits.device())?;
    let own = boxes.reshape(&[-1, 4])?.index_select(0, &index)?;
    let wanted = like(wanted, &[count, 4])?;
    let distance = loss::l1(&own, &wanted, Reduction::Sum)?;
    let overlap = generalised_overlap(&own, &wanted)?.affine(-1.0, 1.0)?.sum_all()?;
    let [of_class, of_distance, of_overlap] = c.weights.map(|weight| weight * share);
    Ok(DetectionLoss {
        class: class.mul_scalar(of_class)?,
        distance: distance.mul_scalar(of_distance)?,
        overlap: overlap.mul_scalar(of_overlap)?,
    })
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// What it costs to call a prediction this object.
fn pair_cost(c: &MatchConfig, scores: &[f64], class: usize, own: [f64; 4], object: [f64; 4]) -> f64 {
    let of_class = match c.focal {
        Some([balance, exponent]) => {
            let p = sigmoid(scores[class]);
            let hit = balance * (1.0 - p).powf(exponent) * -(p + 1e-8).ln();
            hit - (1.0 - balance) * p.powf(exponent) * -(1.0 - p + 1e-8).ln()
        }
        None => {
            let most = scores.iter().fold(f64::NEG_INFINITY, |m, &s| m.max(s));
            -(scores[class] - most).exp() / scores.iter().map(|s| (s - most).exp()).sum::<f64>()
        }
    };
    let distance: f64 = own.iter().zip(object).map(|(a, b)| (a - b).abs()).sum();
    let [_, generalised] = overlap(own, object);
    let cost = c.costs[0] * of_class + c.costs[1] * distance - c.costs[2] * generalised;
    // A prediction that is not a number is the last to be chosen.
    if cost.is_finite() { cost } else { 1e9 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least sum by trying all.
    fn least(cost: &[f64], row: usize, rows: usize, columns: usize, taken: &mut Vec<bool>) -> f64 {
        if row == rows {
            return 0.0;
        }
        let mut best = f64::INFINITY;
        for column in 0..columns {
            if !std::mem::replace(&mut taken[column], true) {
                best = best.min(cost[row * columns + column] + least(cost, row + 1, rows, columns, taken));
                taken[column] = false;
            }
        }
        best
    }

    #[test]
    fn assignments_cost_least() {
        let mut state = 1u64;
        let mut draw = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as f64 / f64::from(1u32 << 31)
        };
        for (rows, columns) in [(0, 3), (1, 1), (2, 2), (3, 5), (4, 4), (5, 7), (6, 6)] {
            for _ in 0..20 {
                let cost: Vec<f64> = (0..rows * columns).map(|_| (draw() * 8.0).floor() - 3.0).collect();
                let chosen = assign(&cost, rows, columns);
                let mut sorted = chosen.clone();
                sorted.sort_unstable();
                sorted.dedup();
                assert_eq!(sorted.len(), rows, "each column once");
                let sum: f64 = chosen.iter().enumerate().map(|(row, column)| cost[row * columns + column]).sum();
                assert_eq!(sum, least(&cost, 0, rows, columns, &mut vec![false; columns]));
            }
        }
    }

    #[test]
    fn overlaps() {
        let unit = [0.5, 0.5, 1.0, 1.0];
        assert_eq!(overlap(unit, unit), [1.0, 1.0]);
        assert_eq!(overlap(unit, [0.5, 0.5, 0.5, 1.0]), [0.5, 0.5]);
        // Apart by their own width: a third of the hull is empty.
        let [iou, generalised] = overlap([0.5, 0.5, 1.0, 1.0], [2.5, 0.5, 1.0, 1.0]);
        assert!(iou == 0.0 && (generalised + 1.0 / 3.0).abs() < 1e-12);
    }
}
