// y[o, s, i] = scale * fold of f(x[o, k, i]) over the k of part s.
// x: [outer, n, inner]; y: [outer, splits, inner]. A second launch folds the parts.
//
// LANES invocations work on one result. Each folds every LANES-th element in order; then the lanes meet in a tree. So the
// order is fixed by the sizes, and neighbouring invocations read neighbouring elements: along k where inner is 1 and
// LANES > 1, along i where LANES is 1.

alias T = f32;

override WORKGROUP: u32 = 256u;
override LANES: u32 = 32u; // a power of two that divides WORKGROUP, which is at most 256
override FOLD: u32 = 0u; // 0 sum, 1 sum of |x|, 2 sum of squares, 3 product, 4 maximum, 5 minimum

struct Params {
    results: u32,
    n: u32,
    inner: u32,
    splits: u32,
    chunk: u32, // elements of one part; the last may be shorter
    offset: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read_write> y: array<T>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x(i: u32) -> T { return x[i]; }
fn store_y(i: u32, v: T) { y[i] = v; }

var<workgroup> parts: array<T, 256>;

// What is folded of an element.
fn term(v: T) -> T {
    switch FOLD {
        case 1u: { return abs(v); }
        case 2u: { return v * v; }
        default: { return v; }
    }
}

fn join(a: T, b: T) -> T {
    switch FOLD {
        case 3u: { return a * b; }
        case 4u: { return max(a, b); }
        case 5u: { return min(a, b); }
        default: { return a + b; }
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let lane = local % LANES;
    let result = group * (WORKGROUP / LANES) + local / LANES;
    let row = result / p.inner;
    let base = p.offset + (row / p.splits) * p.n * p.inner + result % p.inner;
    let start = (row % p.splits) * p.chunk;
    let end = min(start + p.chunk, p.n);

    // A lane without elements of its own repeats the first one for the extremes: no infinities are needed.
    var folded = T(0);
    if (result < p.results && start < end) {
        if (FOLD == 3u) { folded = T(1); }
        if (FOLD >= 4u) { folded = load_x(base + start * p.inner); }
        for (var k = start + lane; k < end; k += LANES) {
            folded = join(folded, term(load_x(base + k * p.inner)));
        }
    }
    parts[local] = folded;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            parts[local] = join(parts[local], parts[local + half]);
        }
    }
    if (lane == 0u && result < p.results) {
        store_y(result, T(p.scale) * parts[local]);
    }
}
