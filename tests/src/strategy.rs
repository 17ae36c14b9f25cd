//! Strategies for proptest: shapes with their odd corners, broadcastable pairs, and operands behind random views.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::{Input, Random, View};

/// Elements that a drawn shape may hold; enough to fill more than one workgroup.
const MOST: usize = 3000;

/// One size: often one, odd or a power of two, at times larger than a workgroup.
pub fn size() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(1usize), 6 => 2..=9usize, 2 => Just(16usize), 2 => 17..=70usize, 1 => 250..=600usize]
}

/// A shape with `ranks` dimensions and at least one element.
pub fn shape(ranks: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<usize>> {
    vec(size(), ranks).prop_map(|mut shape| {
        // The largest size is halved until the whole is small enough.
        while shape.iter().product::<usize>() > MOST {
            if let Some(largest) = shape.iter_mut().max() {
                *largest = largest.div_ceil(2);
            }
        }
        shape
    })
}

/// As [`shape`], where now and then a dimension is of size zero.
pub fn shape_with_zero(ranks: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<usize>> {
    (shape(ranks), any::<u64>()).prop_map(|(mut shape, seed)| {
        let mut random = Random::new(seed);
        if !shape.is_empty() && random.below(6) == 0 {
            let dim = random.below(shape.len());
            shape[dim] = 0;
        }
        shape
    })
}

/// Two shapes that broadcast by numpy's rules: some dimensions of one or the other are 1 or missing.
pub fn broadcast_pair(ranks: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
    (shape(ranks), any::<u64>()).prop_map(|(whole, seed)| {
        let mut random = Random::new(seed);
        let (mut a, mut b) = (whole.clone(), whole.clone());
        for dim in 0..whole.len() {
            match random.below(4) {
                0 => a[dim] = 1,
                1 => b[dim] = 1,
                _ => {}
            }
        }
        let missing = random.below(whole.len() + 1);
        match random.below(3) {
            0 => a.drain(..missing),
            1 => b.drain(..missing),
            _ => a.drain(..0),
        };
        (a, b)
    })
}

/// The same operand shape behind a random view: dense, permuted, cut from the middle, every n-th slice, or expanded.
/// `fill(stored shape, seed)` makes the stored values, for instance `|shape, seed| Input::normal(shape, seed)`.
pub fn viewed(shape: Vec<usize>, fill: impl Fn(&[usize], u64) -> Input) -> impl Strategy<Value = Input> {
    any::<u64>().prop_map(move |seed| view_of(&shape, &fill, seed))
}

/// As [`viewed`], from a seed.
pub fn view_of(shape: &[usize], fill: &dyn Fn(&[usize], u64) -> Input, seed: u64) -> Input {
    let mut random = Random::new(seed);
    let rank = shape.len();
    if rank == 0 {
        return fill(shape, seed);
    }
    let dim = random.below(rank);
    match random.below(5) {
        0 => fill(shape, seed),
        1 => {
            let mut axes: Vec<usize> = (0..rank).collect();
            random.shuffle(&mut axes);
            let mut stored = vec![0; rank];
            axes.iter().enumerate().for_each(|(to, &from)| stored[from] = shape[to]);
            fill(&stored, seed).view(View::Permute(axes.iter().map(|&a| a as isize).collect()))
        }
        2 => {
            let (before, after) = (random.below(3), random.below(3));
            let mut stored = shape.to_vec();
            stored[dim] += before + after;
            fill(&stored, seed).view(View::Slice(dim as isize, before, before + shape[dim], 1))
        }
        3 => {
            let (start, step) = (random.below(3), 2 + random.below(2));
            let mut stored = shape.to_vec();
            let stop = start + shape[dim] * step;
            stored[dim] = stop;
            fill(&stored, seed).view(View::Slice(dim as isize, start, stop, step))
        }
        _ => {
            let mut stored = shape.to_vec();
            stored[dim] = 1;
            fill(&stored, seed).view(View::Expand(shape.to_vec()))
        }
    }
}
