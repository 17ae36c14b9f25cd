//! Keys that neighbouring queries list, together: so that a tile of queries can go over them as over those of dense attention.

/// Queries of a tile.
const TILE: usize = 32;
/// Times that a tile may multiply what each of its queries and keys needs, on average. Above, every query goes over its own list.
const SPREAD: usize = 4;

/// For each tile of each matrix where its entries begin and how many there are, and then the entries: a key, in ascending order, and the queries of
/// the tile that list it, as bits. None where neighbours share too little. `lists` are [matrices, queries, k], ascending, with `padding` behind.
pub(super) fn unions(lists: &[u32], queries: usize, k: usize, padding: u32) -> Option<Vec<u32>> {
    let tiles: Vec<&[u32]> = lists.chunks(queries * k).flat_map(|matrix| matrix.chunks(TILE * k)).collect();
    let mut words = vec![0; 2 * tiles.len()];
    let listed = lists.iter().filter(|&&key| key != padding).count();
    let most = 2 * tiles.len() + 2 * (SPREAD * listed).div_ceil(TILE);
    let mut pairs: Vec<(u32, u32)> = Vec::new();
    for (n, tile) in tiles.into_iter().enumerate() {
        pairs.clear();
        for (row, list) in tile.chunks(k).enumerate() {
            pairs.extend(list.iter().filter(|&&key| key != padding).map(|&key| (key, 1 << row)));
        }
        pairs.sort_unstable();
        let start = words.len();
        for &(key, bit) in &pairs {
            match words.len() {
                end if end > start && words[end - 2] == key => words[end - 1] |= bit,
                _ => words.extend([key, bit]),
            }
        }
        if words.len() > most {
            return None;
        }
        words[2 * n] = u32::try_from(start).ok()?;
        words[2 * n + 1] = ((words.len() - start) / 2) as u32;
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_bits() {
        let none = u32::MAX;
        // Two matrices of 33 queries: of the second tile of each there is one.
        let mut lists: Vec<u32> = std::iter::repeat_n([2, 7], 33).flatten().collect();
        lists[..2].copy_from_slice(&[7, none]);
        lists.extend(std::iter::repeat_n([5, none], 33).flatten());
        let words = unions(&lists, 33, 2, none).unwrap();
        assert_eq!(words[..8], [8, 2, 12, 2, 16, 1, 18, 1]);
        assert_eq!(words[8..], [2, !1, 7, !0, 2, 1, 7, 1, 5, !0, 5, 1]);
        let apart: Vec<u32> = (0..64).collect();
        assert!(unions(&apart, 64, 1, none).is_none());
        assert_eq!(unions(&[none; 4], 4, 1, none).unwrap(), [2, 0]);
    }
}
