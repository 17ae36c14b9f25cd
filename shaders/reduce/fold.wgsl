// y[o, s, i] = scale * fold of f(x[o, k, i]) over the k of part s.
// x: [outer, n, inner]; y: [outer, splits, inner]. A second launch folds the parts.
//
// SHAPE says how: a row by LANES invocations, four neighbours at a time, each every LANES-th four in order, until the lanes meet in a
// tree; four columns by one invocation; or, where sizes are no multiples of four, a single result by LANES invocations. So the
// order is fixed by the sizes, and neighbouring invocations read neighbouring memory.

alias T = f32;

override WORKGROUP: u32 = 256u;
override LANES: u32 = 32u; // a power of two that divides WORKGROUP, which is at most 256; 1 for columns
override FOLD: u32 = 0u; // 0 sum, 1 sum of |x|, 2 sum of squares, 3 product, 4 maximum, 5 minimum
override SHAPE: u32 = 0u;

const ANY = 0u;
const ROWS = 1u; // inner is 1; offset, chunk, and n where there are several rows, are multiples of four
const COLUMNS = 2u; // offset and inner are multiples of four

struct Params {
    results: u32,
    n: u32,
    inner: u32,
    splits: u32,
    chunk: u32, // elements of one part; the last may be shorter
    offset: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<T>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<T>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x(i: u32) -> T { return x[i >> 2u][i & 3u]; }
fn load4_x(i: u32) -> vec4<T> { return x[i]; }
fn store_y(i: u32, v: T) { y[i >> 2u][i & 3u] = v; }
fn store4_y(i: u32, v: vec4<T>) { y[i] = v; }

var<workgroup> parts: array<T, 256>;

// What is folded of an element.
fn term(v: vec4<T>) -> vec4<T> {
    switch FOLD {
        case 1u: { return abs(v); }
        case 2u: { return v * v; }
        default: { return v; }
    }
}

fn join(a: vec4<T>, b: vec4<T>) -> vec4<T> {
    switch FOLD {
        case 3u: { return a * b; }
        case 4u: { return max(a, b); }
        case 5u: { return min(a, b); }
        default: { return a + b; }
    }
}

// What changes nothing; for the extremes one of the elements, so that no infinities are needed.
fn neutral(first: u32) -> vec4<T> {
    if (FOLD == 3u) { return vec4<T>(T(1)); }
    if (FOLD >= 4u) { return vec4<T>(load_x(first)); }
    return vec4<T>();
}

fn across(v: vec4<T>) -> T {
    let pairs = join(v, v.zwxy);
    return join(pairs, pairs.yxwz).x;
}

fn row(first: u32, length: u32, lane: u32) -> T {
    let unfolded = neutral(first);
    var folded = unfolded;
    let start = first >> 2u;
    let whole = length >> 2u;
    var k = lane;
    // Four loads at a time, none of which waits for another.
    for (; k + 3u * LANES < whole; k += 4u * LANES) {
        let a = join(term(load4_x(start + k)), term(load4_x(start + k + LANES)));
        let b = join(term(load4_x(start + k + 2u * LANES)), term(load4_x(start + k + 3u * LANES)));
        folded = join(folded, join(a, b));
    }
    for (; k < whole; k += LANES) {
        folded = join(folded, term(load4_x(start + k)));
    }
    // The last four of the last row may not be whole.
    let rest = length & 3u;
    if (rest != 0u && lane == 0u) {
        let v = term(load4_x(start + whole));
        folded = join(folded, select(unfolded, v, vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(rest)));
    }
    return across(folded);
}

fn single(first: u32, length: u32, lane: u32) -> T {
    var folded = neutral(first);
    for (var k = lane; k < length; k += LANES) {
        folded = join(folded, term(vec4<T>(load_x(first + k * p.inner))));
    }
    return folded.x;
}

fn columns(first: u32, length: u32) -> vec4<T> {
    let start = first >> 2u;
    let step = p.inner >> 2u;
    var folded = term(load4_x(start));
    var k = 1u;
    for (; k + 3u < length; k += 4u) {
        let a = join(term(load4_x(start + k * step)), term(load4_x(start + (k + 1u) * step)));
        let b = join(term(load4_x(start + (k + 2u) * step)), term(load4_x(start + (k + 3u) * step)));
        folded = join(folded, join(a, b));
    }
    for (; k < length; k++) {
        folded = join(folded, term(load4_x(start + k * step)));
    }
    return folded;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let lane = local % LANES;
    let number = group * (WORKGROUP / LANES) + local / LANES;
    let result = select(number, 4u * number, SHAPE == COLUMNS);
    let line = result / p.inner;
    let start = (line % p.splits) * p.chunk;
    let length = min(p.chunk, p.n - min(start, p.n));
    let first = p.offset + ((line / p.splits) * p.n + start) * p.inner + result % p.inner;
    let exists = length > 0u && result < p.results;

    if (SHAPE == COLUMNS) {
        if (exists) {
            store4_y(number, T(p.scale) * columns(first, length));
        }
    } else {
        var folded = T(0);
        if (exists && SHAPE == ROWS) { folded = row(first, length, lane); }
        if (exists && SHAPE == ANY) { folded = single(first, length, lane); }
        if (LANES > 1u) {
            parts[local] = folded;
            for (var half = LANES / 2u; half > 0u; half /= 2u) {
                workgroupBarrier();
                if (lane < half) {
                    parts[local] = join(vec4<T>(parts[local]), vec4<T>(parts[local + half])).x;
                }
            }
            folded = parts[local];
        }
        if (lane == 0u && result < p.results) {
            store_y(result, T(p.scale) * folded);
        }
    }
}
