// Packed 2:4 rows (engine/src/sparse24/mod.rs): a word of positions has a nibble for each group of four columns, of which the lower two
// bits are the column of the group's first value and the upper two that of its second, which is larger. Here a unit is two groups: eight
// columns, one vec4 of values, and a byte of positions.

// The byte of unit `unit` of a row, in the word of its block.
fn byte_of(word: u32, unit: u32) -> u32 {
    return word >> (8u * (unit & 3u));
}

// What stands at a nibble's two columns of a group. The first column is never the last, nor the second the first.
fn kept(x: vec4<f32>, nibble: u32) -> vec2<f32> {
    let low = nibble & 3u;
    let high = (nibble >> 2u) & 3u;
    return vec2<f32>(
        select(select(x.z, x.y, low == 1u), x.x, low == 0u),
        select(select(x.w, x.z, high == 2u), x.y, high == 1u),
    );
}

// What stands at the columns of a unit.
fn kept_of_unit(first: vec4<f32>, second: vec4<f32>, byte: u32) -> vec4<f32> {
    return vec4<f32>(kept(first, byte), kept(second, byte >> 4u));
}

// Two values at a nibble's columns, zeros beside them.
fn spread(values: vec2<f32>, nibble: u32) -> vec4<f32> {
    let at = vec4<u32>(0u, 1u, 2u, 3u);
    let first = select(vec4<f32>(), vec4<f32>(values.x), at == vec4<u32>(nibble & 3u));
    return select(first, vec4<f32>(values.y), at == vec4<u32>((nibble >> 2u) & 3u));
}
