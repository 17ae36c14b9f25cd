// Two 16-bit floats in one 32-bit word, the first in the low half. Needs no f16 feature.

fn unpack_f16(word: u32) -> vec2<f32> {
    return unpack2x16float(word);
}

// Rounds to nearest, ties to even. What is too large becomes an infinity, which WGSL would leave open.
fn pack_f16(v: vec2<f32>) -> u32 {
    let large = abs(v) >= vec2<f32>(65520.0);
    let infinite = ((bitcast<vec2<u32>>(v) >> vec2<u32>(16u)) & vec2<u32>(0x8000u)) | vec2<u32>(0x7c00u);
    let halves = select(vec2<u32>(0u), infinite, large);
    return pack2x16float(select(v, vec2<f32>(0.0), large)) | halves.x | (halves.y << 16u);
}

fn unpack_bf16(word: u32) -> vec2<f32> {
    return vec2<f32>(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}

// Rounds to nearest, ties to even. A NaN keeps its sign and top bits and gets a bit that keeps it a NaN.
fn pack_bf16(v: vec2<f32>) -> u32 {
    let bits = bitcast<vec2<u32>>(v);
    let rounded = (bits + 0x7fffu + ((bits >> vec2<u32>(16u)) & vec2<u32>(1u))) >> vec2<u32>(16u);
    let quiet = (bits >> vec2<u32>(16u)) | vec2<u32>(0x40u);
    let is_nan = (bits & vec2<u32>(0x7fffffffu)) > vec2<u32>(0x7f800000u);
    let halves = select(rounded, quiet, is_nan);
    return halves.x | (halves.y << 16u);
}

// The halves as they are, for kernels that only move them.
fn unpack_bits(word: u32) -> vec2<u32> {
    return vec2<u32>(word & 0xffffu, word >> 16u);
}

fn pack_bits(v: vec2<u32>) -> u32 {
    return v.x | (v.y << 16u);
}
