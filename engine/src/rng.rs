//! Counter-based random numbers: Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
//!
//! A draw is a pure function of a key and a counter. So any thread of a kernel finds its own number without a
//! shared state, a dropout mask is drawn again in the backward instead of being stored, and a run that is resumed
//! at a saved position goes on exactly. The kernels compute the same function as this file.

/// Multipliers of the two lanes of a round.
const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// Weyl increments of the key, from the golden ratio and from the square root of 3.
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Ten rounds of Philox with four 32-bit words: 128 random bits for each `counter` under a `key`.
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut a, mut b, mut c, mut d] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let first = u64::from(a) * u64::from(MULTIPLIER[0]);
        let second = u64::from(c) * u64::from(MULTIPLIER[1]);
        (a, b, c, d) = (high(second) ^ b ^ k0, second as u32, high(first) ^ d ^ k1, first as u32);
        k0 = k0.wrapping_add(WEYL[0]);
        k1 = k1.wrapping_add(WEYL[1]);
    }
    [a, b, c, d]
}

fn high(x: u64) -> u32 {
    (x >> 32) as u32
}

/// A uniform number in [0, 1) from the upper 24 bits of a word, so that every value is exact in f32.
pub fn unit_f32(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / (1u32 << 24) as f32)
}

/// One random stream: `seed` is the key, `stream` the upper half of the counter, and the lower half counts blocks of
/// four words. Streams of one seed never overlap.
///
/// ```
/// use wgrad::rng::Philox;
/// let mut rng = Philox::new(7, 0);
/// let first = rng.next_u32();
/// let saved = rng.position();
/// let second = rng.next_u32();
/// assert_eq!(Philox::at_position(7, 0, saved).next_u32(), second);
/// assert_eq!(rng.at(0)[..2], [first, second]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Philox {
    seed: u64,
    stream: u64,
    /// Words drawn so far; the next one is word `position % 4` of block `position / 4`.
    position: u64,
}

impl Philox {
    /// The stream's beginning.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self::at_position(seed, stream, 0)
    }

    /// The stream after `position` words: the way back to a saved state.
    pub fn at_position(seed: u64, stream: u64, position: u64) -> Self {
        Self { seed, stream, position }
    }

    /// The seed, which is Philox's key.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Number of this stream among those of the seed.
    pub fn stream(&self) -> u64 {
        self.stream
    }

    /// Words drawn so far. Together with the seed and the stream this is the whole state.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Block number `block` of this stream, whatever was drawn before.
    pub fn at(&self, block: u64) -> [u32; 4] {
        let counter = [block as u32, high(block), self.stream as u32, high(self.stream)];
        philox4x32_10(counter, [self.seed as u32, high(self.seed)])
    }

    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        let word = self.at(self.position / 4)[(self.position % 4) as usize];
        self.position = self.position.wrapping_add(1);
        word
    }

    /// The next uniform number in [0, 1), a multiple of 2^-24.
    pub fn next_f32(&mut self) -> f32 {
        unit_f32(self.next_u32())
    }

    /// A uniform integer below `bound`, without bias; 0 where `bound` is 0. Mostly one word is drawn, rarely more
    /// (the method of Lemire, "Fast random integer generation in an interval", 2019).
    pub fn below(&mut self, bound: u32) -> u32 {
        if bound == 0 {
            return 0;
        }
        let rejected = bound.wrapping_neg() % bound;
        loop {
            let product = u64::from(self.next_u32()) * u64::from(bound);
            if product as u32 >= rejected {
                return high(product);
            }
        }
    }

    /// Shuffles `items` so that every order is equally likely (Fisher and Yates). At most 2^32 - 1 items are moved.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len().min(u32::MAX as usize)).rev() {
            items.swap(end, self.below(end as u32 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that the authors publish with Random123 (`kat_vectors`).
    #[test]
    fn known_answers() {
        let ones = u32::MAX;
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([ones; 4], [ones; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox4x32_10(counter, key), expected);
        }
    }

    #[test]
    fn reader_follows_the_blocks_and_resumes_anywhere() {
        let mut rng = Philox::new(0x0123_4567_89ab_cdef, 3);
        let words: Vec<u32> = (0..11).map(|_| rng.next_u32()).collect();
        let blocks: Vec<u32> = (0..3).flat_map(|block| rng.at(block)).collect();
        assert_eq!(words, blocks[..11]);
        for position in 0..10 {
            let mut resumed = Philox::at_position(rng.seed(), rng.stream(), position);
            assert_eq!(resumed.next_u32(), words[position as usize]);
        }
        assert_ne!(Philox::new(rng.seed(), 4).at(0), rng.at(0));
    }

    #[test]
    fn below_is_uniform_and_in_range() {
        let mut rng = Philox::new(1, 0);
        let mut counts = [0u32; 6];
        for _ in 0..60_000 {
            counts[rng.below(6) as usize] += 1;
        }
        // The standard deviation of each count is 91.
        assert!(counts.iter().all(|&n| n.abs_diff(10_000) < 400), "{counts:?}");
        assert_eq!((rng.below(0), rng.below(1)), (0, 0));
        // Here a third of the words has to be rejected; a biased method would favour small numbers.
        let bound = 3 << 30;
        let small = (0..30_000).filter(|_| rng.below(bound) < 1 << 30).count();
        assert!(small.abs_diff(10_000) < 350, "{small}");
    }

    #[test]
    fn floats_stay_below_one() {
        assert_eq!(unit_f32(0), 0.0);
        assert!(unit_f32(u32::MAX) < 1.0);
        let mut rng = Philox::new(2, 0);
        let mean = (0..40_000).map(|_| f64::from(rng.next_f32())).sum::<f64>() / 40_000.0;
        assert!((mean - 0.5).abs() < 0.006, "{mean}");
    }

    #[test]
    fn shuffle_reaches_every_order_equally() {
        let mut rng = Philox::new(3, 0);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..24_000 {
            let mut order = [0, 1, 2, 3];
            rng.shuffle(&mut order);
            *counts.entry(order).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        assert!(counts.values().all(|&n| n.abs_diff(1000) < 160), "{counts:?}");
    }
}
