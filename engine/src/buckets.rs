//! Distances between queries and keys, sorted into buckets.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use crate::nn::log_bucket;
use crate::{Device, Error, Result, Tensor};

const OP: &str = "Buckets";

/// The bucket of each pair of query `i` and key `j`, which depends on `j - i` alone. Clones share what was prepared for a device, so one
/// serves all layers.
#[derive(Clone, Debug)]
pub struct Buckets {
    /// Entry `j - i + queries - 1`.
    pub(crate) ids: Vec<u32>,
    count: usize,
    words: Arc<OnceLock<(Device, Tensor)>>,
}

impl Buckets {
    /// `of(j - i)`, below `count`, for so many queries and keys. The distances of one bucket must follow each other, so that the pairs of
    /// one query, or of one key, that share a bucket are neighbours.
    ///
    /// # Errors
    /// If a bucket is not below `count`, or comes back after others.
    pub fn new(queries: usize, keys: usize, count: usize, of: impl Fn(i64) -> usize) -> Result<Self> {
        let mut ids: Vec<u32> = Vec::with_capacity(queries + keys);
        let mut before = BTreeSet::new();
        for place in 0..(queries + keys).saturating_sub(1) {
            let distance = place as i64 + 1 - queries as i64;
            let bucket = of(distance);
            if bucket >= count {
                return Err(Error::argument(OP, format!("distance {distance} has bucket {bucket} of {count}")));
            }
            let id = u32::try_from(bucket).map_err(|_| Error::argument(OP, format!("{count} buckets are too many")))?;
            if ids.last() != Some(&id) && !before.insert(id) {
                let message =
                    format!("bucket {bucket} comes back at distance {distance}: its distances must follow each other");
                return Err(Error::argument(OP, message));
            }
            ids.push(id);
        }
        Ok(Buckets { ids, count, words: Arc::default() })
    }

    /// The buckets of DeBERTa (He et al., 2021, and its second version): of `2 * span`, bucket `span + d` has the distance `d = i - j` from query
    /// to key. With `max_distance`, distances beyond `span / 2` share buckets that grow with them, as
    /// [`log_bucket`] says; those that have none share the last one.
    ///
    /// # Errors
    /// If `span` is 0.
    pub fn disentangled(queries: usize, keys: usize, span: usize, max_distance: Option<usize>) -> Result<Self> {
        if span == 0 {
            return Err(Error::argument(OP, "a span of 0, expected at least 1"));
        }
        Self::new(queries, keys, 2 * span, |distance| {
            let d = match max_distance {
                None => -distance,
                Some(most) => log_bucket(-distance, span, most),
            };
            (d + span as i64).clamp(0, 2 * span as i64 - 1) as usize
        })
    }

    /// How many buckets there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The buckets on a device, u32 [queries + keys - 1].
    pub(crate) fn words(&self, device: &Device) -> Result<Tensor> {
        if let Some((_, words)) = self.words.get().filter(|(of, _)| of.same(device)) {
            return Ok(words.clone());
        }
        let words = Tensor::from_slice(&self.ids, &[self.ids.len()], device)?;
        let _ = self.words.set((device.clone(), words.clone()));
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deberta_as_published() {
        let known = [0, 127, 128, 129, 130, 150, 200, 256, 300, 400, 500, 510, 511, -129, -511];
        let want = [0, 127, 128, 129, 130, 143, 169, 192, 207, 233, 254, 255, 255, -129, -255];
        assert_eq!(known.map(|d| log_bucket(d, 256, 512)), want);
        let buckets = Buckets::disentangled(700, 700, 256, Some(512)).unwrap();
        // Query 699 and key 0, query 0 and key 699, query and key at one place.
        assert_eq!([0, 1398, 699].map(|at| buckets.ids[at]), [511, 0, 256]);
        assert_eq!(Buckets::disentangled(3, 3, 2, None).unwrap().ids, [3, 3, 2, 1, 0]);
        assert!(Buckets::new(3, 3, 2, |d| (d & 1) as usize).is_err());
    }
}
