// An operand `b` of a matrix product that is a packed 2:4 matrix (common/sparse24.wgsl), or its transpose. Strides and indices are those of the
// dense matrix, with its columns padded to whole blocks, of which a kernel takes aligned fours along a row: groups.

//#import common/sparse24.wgsl

override B_PACKED: u32 = 0u;

@group(0) @binding(6) var<storage, read> words: array<u32>;

// The positions of the four at dense index 4 `four`, whose values are a pair.
fn nibble_of(four: u32) -> u32 {
    let at = four - (p.b_start >> 2u);
    return words[p.words_start + (at >> 3u)] >> (4u * (at & 7u));
}
