// What an invocation that works on 4 x 4 scores asks of four queries and four keys.

const OF_Q: u32 = 0u;
const OF_K: u32 = 1u;
const OF_V: u32 = 2u;
const OF_D_O: u32 = 3u;

// Who of four queries and four keys see each other: bit 4 query + key.
fn sights(at: Head, i: u32, j: u32, tile: u32) -> u32 {
    if (tile == FULL && i + 4u <= p.queries && j + 4u <= p.keys) {
        return 0xffffu;
    }
    var bits = 0u;
    for (var n = 0u; n < 4u; n++) {
        bits |= bits4(sees4(at, i + n, j, tile)) << (4u * n);
    }
    return bits;
}

// Which weights dropout keeps, in the same bits.
fn keeps(at: Head, i: u32, j: u32) -> u32 {
    var bits = 0xffffu;
    if (HAS_DROPOUT) {
        bits = 0u;
        for (var n = 0u; n < 4u; n++) {
            bits |= bits4(kept4(at, i + n, j)) << (4u * n);
        }
    }
    return bits;
}

// The bits of one query, or of one key.
fn of_query(bits: u32, n: u32) -> vec4<bool> {
    return ((vec4<u32>(bits) >> vec4<u32>(4u * n)) & vec4<u32>(1u, 2u, 4u, 8u)) != vec4<u32>();
}

fn of_key(bits: u32, n: u32) -> vec4<bool> {
    return ((vec4<u32>(bits) >> vec4<u32>(n)) & vec4<u32>(1u, 16u, 256u, 4096u)) != vec4<u32>();
}

// What dropout multiplies weights by.
fn factor(kept: vec4<bool>) -> vec4<f32> {
    if (HAS_DROPOUT) {
        return select(vec4<f32>(), vec4<f32>(p.keep), kept);
    }
    return vec4<f32>(1.0);
}
