// Rotary positions (Su et al., "RoFormer", 2021): pairs of elements are turned by an angle that grows with the position, and scaled,
//
//   (y_a, y_b) = magnitude (x_a cos - x_b sin, x_b cos + x_a sin),  angle = position[b, axis_k, t] frequency_k
//
// where pair k is the elements (k, k + pairs), or (2 k, 2 k + 1) if interleaved; the others pass through. turns: [pairs, 3], the frequency in
// turns as a fraction of 64 bits (two words, the upper first), and its axis. Products with whole numbers are then exact but for
// whole turns, which do not count: no position is too large.
//
// x: [batch, heads, time, width] of any strides; positions: [batch, axes, time]; y: [batch, time, heads, 4 fours], zeros beyond width.
// An invocation has the same four elements of a row of some heads, which turn alike.

alias P = u32; // takes u32, i32

override INTERLEAVED: bool = false;
override SIGNED: bool = false;
// Whether rows lie in whole aligned fours, and no four has elements of both halves of pairs.
override FOURS: bool = false;

const WORKGROUP: u32 = 64u;

struct Params {
    batch: u32,
    heads: u32,
    time: u32,
    width: u32,
    pairs: u32,
    axes: u32,
    magnitude: f32,
    direction: f32, // 1, or -1 to turn back
    x_start: u32,
    x_batch: u32,
    x_head: u32,
    x_row: u32,
    x_column: u32,
    positions_start: u32,
    positions_batch: u32,
    positions_axis: u32,
    positions_step: u32,
    each: u32, // heads of an invocation
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> positions: array<P>;
@group(0) @binding(2) var<storage, read> turns: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

//#import common/math.wgsl
//#import common/philox.wgsl

fn load_x(i: u32) -> f32 { return x[i >> 2u][i & 3u]; }
fn load4_x(i: u32) -> vec4<f32> { return x[i]; }
fn load_positions(i: u32) -> P { return positions[i]; }
fn store4_y(i: u32, v: vec4<f32>) { y[i] = v; }

// The angle of a pair, between -pi and pi.
fn angle(batch: u32, time: u32, pair: u32) -> f32 {
    let at = p.positions_start + batch * p.positions_batch + turns[3u * pair + 2u] * p.positions_axis + time * p.positions_step;
    var position = bitcast<u32>(load_positions(at));
    var direction = p.direction;
    if (SIGNED && (position >> 31u) == 1u) {
        position = 0u - position;
        direction = -direction;
    }
    let phase = position * turns[3u * pair] + wide_product(position, turns[3u * pair + 1u]).x;
    return direction * f32(bitcast<i32>(phase)) * 1.4629180792671596e-9;
}

// The other element of the pair of a column, if there is one.
fn partner_of(column: u32) -> u32 {
    if (INTERLEAVED) { return column ^ 1u; }
    return select(column + p.pairs, column - p.pairs, column >= p.pairs);
}

// Four elements of a row from a column on, and their partners; zeros where there are none.
fn own(start: u32, first: u32) -> vec4<f32> {
    if (FOURS) { return load4_x((start + first) >> 2u); }
    var elements = vec4<f32>();
    for (var n = 0u; n < 4u; n++) {
        if (first + n < p.width) { elements[n] = load_x(start + (first + n) * p.x_column); }
    }
    return elements;
}

fn partners(start: u32, first: u32, own: vec4<f32>) -> vec4<f32> {
    if (FOURS && INTERLEAVED) { return own.yxwz; }
    var elements = vec4<f32>();
    if (FOURS) {
        if (first < 2u * p.pairs) { elements = load4_x((start + partner_of(first)) >> 2u); }
        return elements;
    }
    for (var n = 0u; n < 4u; n++) {
        if (first + n < 2u * p.pairs) { elements[n] = load_x(start + partner_of(first + n) * p.x_column); }
    }
    return elements;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let cell = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    let fours = (p.width + 3u) / 4u;
    let parts = (p.heads + p.each - 1u) / p.each;
    let row = cell / (fours * parts);
    let time = row % p.time;
    let batch = row / p.time;
    if (batch < p.batch) {
        let first = cell % fours * 4u;
        var angles = vec4<f32>();
        var signs = vec4<f32>();
        var scales = vec4<f32>(1.0);
        for (var n = 0u; n < 4u; n++) {
            let column = first + n;
            if (column < 2u * p.pairs) {
                let second = select(column >= p.pairs, (column & 1u) == 1u, INTERLEAVED);
                angles[n] = angle(batch, time, select(column % p.pairs, column / 2u, INTERLEAVED));
                signs[n] = select(-p.magnitude, p.magnitude, second);
                scales[n] = p.magnitude;
            }
        }
        let cosines = scales * sin_of(angles, 1);
        let sines = signs * sin_of(angles, 0);
        let head = cell / fours % parts * p.each;
        for (var h = head; h < min(head + p.each, p.heads); h++) {
            let start = p.x_start + batch * p.x_batch + h * p.x_head + time * p.x_row;
            let x = own(start, first);
            store4_y((row * p.heads + h) * fours + first / 4u, x * cosines + partners(start, first, x) * sines);
        }
    }
}
