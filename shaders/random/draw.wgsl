// y[i] = a random number that depends on the seed, the number of the draw, and i alone. Four elements for each invocation: one
// Philox block where an element needs one word, else two blocks of two elements each. engine/src/cpu/random.rs is the same.

const WORKGROUP: u32 = 64u;
// 0: uniform, 1: normal, 2: Gumbel, 3: Bernoulli, 4: integers.
override LAW: u32 = 0u;

alias T = f32;

struct Params {
    count: u32,
    seed_low: u32,
    seed_high: u32,
    draw_low: u32,
    draw_high: u32,
    a: f32, // uniform: low; normal: mean
    b: f32, // uniform: width; normal: standard deviation
    below: f32, // uniform: the greatest number below the end
    low: u32, // integers: bits of the least
    range: u32, // integers: how many; Bernoulli: words below are true
    first: u32, // which four elements of the draw are the first of y
}

@group(0) @binding(0) var<storage, read_write> y: array<vec4<T>>;
@group(1) @binding(0) var<uniform> p: Params;

//#import common/philox.wgsl
//#import common/exponential.wgsl

fn store4_y(i: u32, v: vec4<T>) { y[i] = v; }

fn block(number: u32) -> vec4<u32> {
    return philox(vec4<u32>(number, 0u, p.draw_low, p.draw_high), vec2<u32>(p.seed_low, p.seed_high));
}

// (cos, sin) of a turn in [0, 1), by Taylor series on an eighth of a turn: the built-in functions may be far off.
fn circle(turn: f32) -> vec2<f32> {
    let quarter = floor(4.0 * turn + 0.5);
    let angle = (4.0 * turn - quarter) * 1.5707963267948966;
    let q = angle * angle;
    let cosine = 1.0 + q * (-0.5 + q * (1.0 / 24.0 + q * (-1.0 / 720.0 + q * (1.0 / 40320.0))));
    let sine = angle * (1.0 + q * (-1.0 / 6.0 + q * (1.0 / 120.0 + q * (-1.0 / 5040.0 + q * (1.0 / 362880.0)))));
    switch (u32(quarter) & 3u) {
        case 0u: { return vec2<f32>(cosine, sine); }
        case 1u: { return vec2<f32>(-sine, cosine); }
        case 2u: { return vec2<f32>(-cosine, -sine); }
        default: { return vec2<f32>(sine, -cosine); }
    }
}

// The upper 32 bits of range times a 64-bit fraction.
fn scaled(high: u32, low: u32) -> u32 {
    let upper = wide_product(high, p.range);
    let carry = wide_product(low, p.range).x;
    let sum = upper.y + carry;
    return upper.x + select(0u, 1u, sum < carry);
}

fn pair(words: vec4<u32>) -> vec2<T> {
    if (LAW == 1u) {
        let radius = sqrt(2.0 * exponential(words.x, words.y));
        let v = p.a + p.b * radius * circle(f32(words.z >> 8u) / 16777216.0);
        return vec2<T>(T(v.x), T(v.y));
    }
    if (LAW == 2u) {
        return vec2<T>(T(-log(exponential(words.x, words.y))), T(-log(exponential(words.z, words.w))));
    }
    return vec2<T>(T(p.low + scaled(words.x, words.y)), T(p.low + scaled(words.z, words.w)));
}

fn single(word: u32) -> T {
    if (LAW == 0u) {
        return T(min(p.a + p.b * (f32(word >> 8u) / 16777216.0), p.below));
    }
    return T(select(0u, 1u, word < p.range));
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let quad = group * WORKGROUP + local;
    if (4u * quad < p.count) {
        if (LAW == 0u || LAW == 3u) {
            let words = block(p.first + quad);
            store4_y(quad, vec4<T>(single(words.x), single(words.y), single(words.z), single(words.w)));
        } else {
            let number = p.first + quad;
            store4_y(quad, vec4<T>(pair(block(2u * number)), pair(block(2u * number + 1u))));
        }
    }
}
