// Philox4x32-10 (Salmon et al. 2011): the same function as `engine/src/rng.rs`.

// The 64-bit product, as upper and lower word, by halves of 16 bits.
fn wide_product(a: u32, b: u32) -> vec2<u32> {
    let low_low = (a & 0xffffu) * (b & 0xffffu);
    let low_high = (a & 0xffffu) * (b >> 16u);
    let high_low = (a >> 16u) * (b & 0xffffu);
    let middle = (low_low >> 16u) + (low_high & 0xffffu) + (high_low & 0xffffu);
    let high = (a >> 16u) * (b >> 16u) + (low_high >> 16u) + (high_low >> 16u) + (middle >> 16u);
    return vec2<u32>(high, a * b);
}

fn philox(start: vec4<u32>, seed: vec2<u32>) -> vec4<u32> {
    var counter = start;
    var key = seed;
    for (var round = 0u; round < 10u; round++) {
        let first = wide_product(counter.x, 0xd2511f53u);
        let second = wide_product(counter.z, 0xcd9e8d57u);
        counter = vec4<u32>(second.x ^ counter.y ^ key.x, second.y, first.x ^ counter.w ^ key.y, first.y);
        key += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
    }
    return counter;
}
