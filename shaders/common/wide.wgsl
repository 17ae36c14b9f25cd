// The 64-bit product, as upper and lower word, by halves of 16 bits.
fn wide_product(a: u32, b: u32) -> vec2<u32> {
    let low_low = (a & 0xffffu) * (b & 0xffffu);
    let low_high = (a & 0xffffu) * (b >> 16u);
    let high_low = (a >> 16u) * (b & 0xffffu);
    let middle = (low_low >> 16u) + (low_high & 0xffffu) + (high_low & 0xffffu);
    let high = (a >> 16u) * (b >> 16u) + (low_high >> 16u) + (high_low >> 16u) + (middle >> 16u);
    return vec2<u32>(high, a * b);
}

// n / size without a division, n below 2^31, for a size whose `magic` and `shift` are those of engine/src/kernels/divisor.rs.
fn quotient(n: u32, magic: u32, shift: u32) -> u32 {
    return (wide_product(n, magic).x + n) >> shift;
}
