// Philox4x32-10 (Salmon et al. 2011): the same function as `engine/src/rng.rs`.

//#import common/wide.wgsl

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
