//! Relative positions as a bias on scores by distance: what [`AttentionOptions::relative_bias`](crate::AttentionOptions) takes.

use crate::{Error, Result, Tensor};

/// The slopes of ALiBi for `heads` heads (Press et al., "Train short, test long", 2022): powers of `2^(-8 / n)` for a power of two,
/// else those of the next lower power of two, and then every second of twice that.
pub fn alibi_slopes(heads: usize) -> Vec<f64> {
    let whole = if heads.is_power_of_two() { heads } else { heads.next_power_of_two() / 2 };
    let slope = |n: usize, r: usize| 2f64.powf(-8.0 * (r + 1) as f64 / n as f64);
    let first = (0..whole).map(|r| slope(whole, r));
    first.chain((0..heads - whole).map(|r| slope(2 * whole, 2 * r))).collect()
}

/// ALiBi as a relative bias [heads, queries + keys - 1]: `-slope |i + offset - j|`, with gradient to `slopes [heads]`. The first query
/// stands at position `offset` among the keys.
///
/// # Errors
/// If `slopes` is no vector of floats, or there are no queries or keys.
pub fn alibi(slopes: &Tensor, queries: usize, keys: usize, offset: i64) -> Result<Tensor> {
    let op = "alibi";
    slopes.expect_float(op)?;
    let &[heads] = slopes.shape() else {
        return Err(Error::shape(op, format!("slopes of shape {:?}, expected [heads]", slopes.shape())));
    };
    let far: Vec<f32> = distances(op, queries, keys, offset)?.map(|d| -(d.unsigned_abs() as f32)).collect();
    let far = Tensor::from_vec(far, &[1, queries + keys - 1], slopes.device())?.cast(slopes.dtype())?;
    slopes.reshape(&[heads as isize, 1])?.mul(&far)
}

/// The bucket of a distance `j - i` in T5 (Raffel et al., 2020): half of the buckets for single distances, the others logarithmic up
/// to `max_distance`; `bidirectional`, later keys have half of all.
pub fn relative_bucket(distance: i64, buckets: usize, max_distance: usize, bidirectional: bool) -> usize {
    let side = if bidirectional { buckets / 2 } else { buckets };
    let (base, far) = match (bidirectional, distance > 0) {
        (true, true) => (side, distance),
        (true, false) => (0, -distance),
        (false, _) => (0, (-distance).max(0)),
    };
    let (far, exact) = (far as usize, side / 2);
    if far < exact.max(1) {
        return base + far.min(side.saturating_sub(1));
    }
    // In f32, as trained models have it: powers stand on the edges of buckets.
    let exact_f = exact.max(1) as f32;
    let steps = (max_distance as f32 / exact_f).ln().max(f32::MIN_POSITIVE);
    let rise = (far as f32 / exact_f).ln() / steps * (side - exact) as f32;
    base + (exact + rise as usize).min(side.saturating_sub(1))
}

/// The bucket of a distance from a key to a query in DeBERTa's second version (He et al., 2021): the distance itself up to half of `buckets`, then
/// logarithmic, so that `max_distance - 1` has the last of `buckets` on its side.
pub fn log_bucket(distance: i64, buckets: usize, max_distance: usize) -> i64 {
    let middle = (buckets / 2) as i64;
    if distance.abs() <= middle || middle == 0 {
        return distance;
    }
    // In f32, as trained models have it.
    let ratio = |n: i64| (n as f32 / middle as f32).ln();
    let far = (max_distance as i64 - 1).max(middle + 1);
    let rise = ratio(distance.abs()) / ratio(far) * (middle - 1) as f32;
    (middle + rise.ceil() as i64) * distance.signum()
}

/// T5's relative bias [heads, queries + keys - 1] from its `table` [buckets, heads], with gradient to the table. The first query stands at
/// position `offset` among the keys.
///
/// # Errors
/// If `table` is no matrix of floats, or there are no buckets, queries or keys.
pub fn relative_bias(
    table: &Tensor,
    queries: usize,
    keys: usize,
    offset: i64,
    max_distance: usize,
    bidirectional: bool,
) -> Result<Tensor> {
    let op = "relative_bias";
    table.expect_float(op)?;
    let buckets = match *table.shape() {
        [buckets, _] if buckets > 0 => buckets,
        _ => return Err(Error::shape(op, format!("table of shape {:?}, expected [buckets, heads]", table.shape()))),
    };
    let bucket = |d| relative_bucket(d, buckets, max_distance, bidirectional).min(buckets - 1) as u32;
    let places: Vec<u32> = distances(op, queries, keys, offset)?.map(bucket).collect();
    let places = Tensor::from_vec(places, &[queries + keys - 1], table.device())?;
    table.index_select(0, &places)?.transpose(0, 1)
}

/// `j - i` of the entries of a relative bias.
fn distances(op: &'static str, queries: usize, keys: usize, offset: i64) -> Result<impl Iterator<Item = i64>> {
    if queries == 0 || keys == 0 {
        return Err(Error::argument(op, format!("{queries} queries and {keys} keys have no distances")));
    }
    Ok((0..queries + keys - 1).map(move |at| at as i64 + 1 - queries as i64 - offset))
}
