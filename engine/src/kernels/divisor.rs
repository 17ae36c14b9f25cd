//! Division by a size that is the same for all invocations: a multiplication and a shift.

/// What `quotient` of `shaders/common/wide.wgsl` needs to divide numbers below 2^31 by one size: Granlund and Montgomery,
/// "Division by invariant integers using multiplication" (1994), figure 4.1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Divisor {
    pub magic: u32,
    pub shift: u32,
}

impl Divisor {
    /// By `size`, at most 2^31; by 1 if it is 0.
    pub fn new(size: u32) -> Self {
        let size = size.max(1);
        let shift = 32 - (size - 1).leading_zeros();
        let magic = (((1u64 << shift) - u64::from(size)) << 32) / u64::from(size) + 1;
        Divisor { magic: magic as u32, shift }
    }
}

/// For four sizes: the magic numbers, and the shifts in one word, 8 bits each.
pub(crate) fn divisors(sizes: [u32; 4]) -> ([u32; 4], u32) {
    let by = sizes.map(Divisor::new);
    (by.map(|d| d.magic), u32::from_le_bytes(by.map(|d| d.shift as u8)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the shader.
    fn quotient(n: u32, by: Divisor) -> u32 {
        let high = (u64::from(n) * u64::from(by.magic)) >> 32;
        (high as u32).checked_add(n).unwrap() >> by.shift
    }

    #[test]
    fn quotients_are_exact() {
        let sizes =
            (1..300).chain((8..31).flat_map(|k| [(1 << k) - 1, 1 << k, (1 << k) + 1, 3 << (k - 2)])).chain([1 << 31]);
        for size in sizes {
            let by = Divisor::new(size);
            let most = (1u32 << 31) - 1;
            let edges = [0, 1, 2, most / size * size, most].into_iter();
            let around = (1..40)
                .map(|k| (most / size / k * size, size))
                .flat_map(|(n, size)| [n, n.saturating_sub(1), n + size / 2]);
            for n in edges.chain(around).filter(|&n| n <= most) {
                assert_eq!(quotient(n, by), n / size, "{n} / {size}");
            }
        }
    }
}
