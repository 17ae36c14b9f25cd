// y[s, o, r, c] = base[o, r, c] + sum over part s of the entries e = order[starts[r]..starts[r + 1]] of src[o, e, c].
// src: [outer, entries, inner]; base: [outer, rows, inner]; y: [splits][outer, rows, inner], parts padded to fours.
// Every row sums its own entries in their order: no atomics, the same result each time. With few rows and many entries,
// each row's entries are cut into `splits` parts, which fold.wgsl adds up. Each invocation writes four elements.

const WORKGROUP: u32 = 64u;
// Whether `inner` and the offsets are multiples of 4, so that four elements have one row.
override ALIGNED: bool = false;
override HAS_BASE: bool = false;

alias T = f32;

struct Params {
    count: u32, // elements of a part of y
    entries: u32,
    rows: u32,
    inner: u32,
    src_offset: u32,
    base_offset: u32,
    skip: u32, // a row to which nothing is added
    splits: u32,
}

@group(0) @binding(0) var<storage, read> base: array<vec4<T>>;
@group(0) @binding(1) var<storage, read> src: array<vec4<T>>;
@group(0) @binding(2) var<storage, read> order: array<u32>;
@group(0) @binding(3) var<storage, read> starts: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<T>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_base(i: u32) -> T { return base[i >> 2u][i & 3u]; }
fn load_src(i: u32) -> T { return src[i >> 2u][i & 3u]; }
fn load4_src(i: u32) -> vec4<T> { return src[i]; }
fn store4_y(i: u32, v: vec4<T>) { y[i] = v; }

// Part `split` of the entries of a row: first and end.
fn part(row: u32, split: u32) -> vec2<u32> {
    let start = starts[row];
    let length = select(starts[row + 1u] - start, 0u, row == p.skip);
    let each = (length + p.splits - 1u) / p.splits;
    return start + vec2<u32>(min(split * each, length), min((split + 1u) * each, length));
}

fn sum_one(i: u32, split: u32) -> T {
    let at = i / p.inner;
    let column = i % p.inner;
    let first = at / p.rows * p.entries;
    let range = part(at % p.rows, split);
    var sum = T(0);
    for (var k = range.x; k < range.y; k++) {
        sum += load_src(p.src_offset + (first + order[k]) * p.inner + column);
    }
    return sum;
}

fn sum_four(i: u32, split: u32) -> vec4<T> {
    let at = i / p.inner;
    let column = i % p.inner;
    let first = at / p.rows * p.entries;
    let range = part(at % p.rows, split);
    var sum = vec4<T>(T(0));
    for (var k = range.x; k < range.y; k++) {
        sum += load4_src((p.src_offset + (first + order[k]) * p.inner + column) >> 2u);
    }
    return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let id = group * WORKGROUP + local;
    let quads = (p.count + 3u) / 4u;
    let split = id / quads;
    let first = 4u * (id % quads);
    if (split < p.splits) {
        var out = vec4<T>(T(0));
        if (ALIGNED) {
            out = sum_four(first, split);
        }
        for (var lane = 0u; lane < 4u; lane++) {
            if (first + lane < p.count) {
                if (!ALIGNED) {
                    out[lane] = sum_one(first + lane, split);
                }
                if (HAS_BASE) {
                    out[lane] += load_base(p.base_offset + first + lane);
                }
            }
        }
        store4_y(id, out);
    }
}
