//! Packed 2:4 rows times one vector of f32, on CPUs with AVX2: a permutation picks eight columns at once.

use std::arch::x86_64::{__m256, __m256i};

use pulp::x86::V3;
use pulp::{NullaryFnOnce, cast};

use crate::sparse24::BLOCK;

/// Eight columns of f32.
type Lanes = [f32; 8];

/// A vector in the order in which it is picked from.
pub(super) struct Picked {
    v3: V3,
    /// Of each 16 columns, groups 0 and 2, and groups 1 and 3.
    x: Vec<[Lanes; 2]>,
}

impl Picked {
    /// Of whole blocks of columns; `None` on a CPU without AVX2.
    pub fn new(x: &[f32]) -> Option<Self> {
        let v3 = V3::try_new()?;
        let (quarters, _) = x.as_chunks::<16>();
        let lanes = |x: &[f32; 16], first: usize| std::array::from_fn(|i| x[first + i % 4 + i / 4 * 8]);
        Some(Picked { v3, x: quarters.iter().map(|x| [lanes(x, 0), lanes(x, 4)]).collect() })
    }

    /// The products with rows of words and values.
    pub fn rows(&self, words: &[u32], values: &[f32], out: &mut [f32]) {
        self.v3.vectorize(Rows { picked: self, words, values, out });
    }
}

struct Rows<'a> {
    picked: &'a Picked,
    words: &'a [u32],
    values: &'a [f32],
    out: &'a mut [f32],
}

impl NullaryFnOnce for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Picked { v3, x } = self.picked;
        let (x, _) = x.as_chunks::<2>();
        let blocks = x.len();
        let [near, far]: [__m256i; 2] = [cast([0, 2, 4, 6, 8, 10, 12, 14]), cast([16, 18, 20, 22, 24, 26, 28, 30])];
        // Positions are the lower two bits of each lane of `places`. The first half of a lane picks from its even group, the second from the
        // odd one: so what is picked stands in the order of the values.
        let add = |places: __m256i, x: &[Lanes; 2], values: &Lanes, sum: __m256| {
            let even = v3.avx._mm256_permutevar_ps(cast(x[0]), places);
            let odd = v3.avx._mm256_permutevar_ps(cast(x[1]), places);
            v3.fma._mm256_fmadd_ps(cast(*values), v3.avx._mm256_blend_ps::<0b1100_1100>(even, odd), sum)
        };
        for (row, out) in self.out.iter_mut().enumerate() {
            let words = &self.words[row * blocks..][..blocks];
            let values = &self.values[row * blocks * BLOCK / 2..][..blocks * BLOCK / 2];
            let (values, _) = values.as_chunks::<8>();
            let (values, _) = values.as_chunks::<2>();
            let (mut left, mut right) = (v3.avx._mm256_setzero_ps(), v3.avx._mm256_setzero_ps());
            for ((&word, values), x) in words.iter().zip(values).zip(x) {
                let word = v3.avx._mm256_set1_epi32(word as i32);
                left = add(v3.avx2._mm256_srlv_epi32(word, near), &x[0], &values[0], left);
                right = add(v3.avx2._mm256_srlv_epi32(word, far), &x[1], &values[1], right);
            }
            let sums: Lanes = cast(v3.avx._mm256_add_ps(left, right));
            *out = ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
        }
    }
}
