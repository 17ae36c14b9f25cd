// What the forward and the backward of a norm know of a row: which of its elements count in its statistics, the power of the
// statistics, and which elements dropout keeps. The file that imports this has the parameters that are used here.

override CENTRE: bool = true; // the mean is subtracted
override SCALE: bool = true; // the row is divided by the root of its mean power
override CLOSED: bool = false; // the row lacks its last element, which makes its sum zero
override SQUARES: bool = true; // the power is 2, else p.power
override PART: bool = false; // elements from p.counted on count only p.rest

//#import common/quads.wgsl
//#import common/math.wgsl
//#import common/philox.wgsl

// How much the elements of the k-th four of a row count.
fn shares(k: u32) -> vec4<f32> {
    let here = vec4<u32>(4u * k) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.counted);
    return select(vec4<f32>(p.rest), vec4<f32>(1.0), here);
}

// As much of a four as counts.
fn counted(v: vec4<f32>, k: u32) -> vec4<f32> {
    if (!PART) { return kept(v, k); }
    return kept(v * shares(k), k);
}

// |v|^power.
fn raised(v: vec4<f32>) -> vec4<f32> {
    if (SQUARES) { return v * v; }
    return pow_(abs(v), vec4<f32>(p.power));
}

// sign(v) |v|^(power - 1): the derivative of the power, over the power.
fn turned(v: vec4<f32>) -> vec4<f32> {
    if (SQUARES) { return v; }
    return sign(v) * pow_(abs(v), vec4<f32>(p.power - 1.0));
}

fn noise(block: u32) -> vec4<u32> {
    return philox(vec4<u32>(block, 0u, p.draw_low, p.draw_high), vec2<u32>(p.seed_low, p.seed_high));
}

// Dropout of the k-th four of a row, as random/dropout.wgsl does it: element i has word i % 4 of block i / 4.
fn dropped(v: vec4<f32>, row: u32, k: u32) -> vec4<f32> {
    let element = row * p.cols + 4u * k;
    var words = noise(element >> 2u);
    if (TAIL) {
        // Rows begin in the middle of blocks.
        let first = words;
        let second = noise((element >> 2u) + 1u);
        for (var lane = 0u; lane < 4u; lane++) {
            let at = (element & 3u) + lane;
            words[lane] = select(second[at & 3u], first[at & 3u], at < 4u);
        }
    }
    return select(v * p.keep, vec4<f32>(0.0), words < vec4<u32>(p.threshold));
}
