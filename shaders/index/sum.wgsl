// y[o, r, c] = base[o, r, c] + sum over the entries e = order[starts[r]..starts[r + 1]] of src[o, e, c].
// src: [outer, entries, inner]; base, y: [outer, rows, inner]; blocks: [outer, entries / 64, inner], the sums that blocks.wgsl made.
// Every row sums its own entries, in a fixed order: no atomics, and the same result each time. Whole blocks of a long row
// are taken from `blocks`. Each invocation writes four elements.

//#import common/wide.wgsl

const WORKGROUP: u32 = 64u;
const BLOCK: u32 = 64u;
// Whether `inner` and the offset of src are multiples of 4, so that four elements have one row.
override ALIGNED: bool = false;
override HAS_BASE: bool = false;
override HAS_BLOCKS: bool = false;

alias T = f32;

struct Params {
    count: u32, // elements of y
    entries: u32,
    rows: u32,
    inner: u32,
    src_offset: u32,
    base_offset: u32,
    skip: u32, // a row to which nothing is added
    inner_magic: u32,
    inner_shift: u32,
    rows_magic: u32,
    rows_shift: u32,
}

@group(0) @binding(0) var<storage, read> base: array<vec4<T>>;
@group(0) @binding(1) var<storage, read> src: array<vec4<T>>;
@group(0) @binding(2) var<storage, read> blocks: array<vec4<T>>;
@group(0) @binding(3) var<storage, read> order: array<u32>;
@group(0) @binding(4) var<storage, read> starts: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<vec4<T>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_base(i: u32) -> T { return base[i >> 2u][i & 3u]; }
fn load_src(i: u32) -> T { return src[i >> 2u][i & 3u]; }
fn load4_src(i: u32) -> vec4<T> { return src[i]; }
fn load_blocks(i: u32) -> T { return blocks[i >> 2u][i & 3u]; }
fn load4_blocks(i: u32) -> vec4<T> { return blocks[i]; }
fn store4_y(i: u32, v: vec4<T>) { y[i] = v; }

// The entries of a row: x..y one by one, blocks y / 64 .. z / 64, then z..w one by one.
fn ranges(row: u32) -> vec4<u32> {
    let start = starts[row];
    let end = select(starts[row + 1u], start, row == p.skip);
    let first = (start + BLOCK - 1u) / BLOCK * BLOCK;
    let last = end / BLOCK * BLOCK;
    if (!HAS_BLOCKS || first >= last) {
        return vec4<u32>(start, end, 0u, 0u);
    }
    return vec4<u32>(start, first, last, end);
}

// Element i of y, by its coordinates.
struct Place {
    outer: u32,
    row: u32,
    column: u32,
}

fn place_of(i: u32) -> Place {
    let line = quotient(i, p.inner_magic, p.inner_shift);
    let outer = quotient(line, p.rows_magic, p.rows_shift);
    return Place(outer, line - outer * p.rows, i - line * p.inner);
}

fn sum_one(i: u32) -> T {
    let at = place_of(i);
    let range = ranges(at.row);
    let of_src = p.src_offset + at.outer * p.entries * p.inner + at.column;
    let of_blocks = at.outer * (p.entries / BLOCK) * p.inner + at.column;
    var sum = T(0);
    for (var k = range.x; k < range.y; k++) {
        sum += load_src(of_src + order[k] * p.inner);
    }
    for (var b = range.y / BLOCK; BLOCK * b < range.z; b++) {
        sum += load_blocks(of_blocks + b * p.inner);
    }
    for (var k = range.z; k < range.w; k++) {
        sum += load_src(of_src + order[k] * p.inner);
    }
    return sum;
}

fn sum_four(i: u32) -> vec4<T> {
    let at = place_of(i);
    let range = ranges(at.row);
    let of_src = p.src_offset + at.outer * p.entries * p.inner + at.column;
    let of_blocks = at.outer * (p.entries / BLOCK) * p.inner + at.column;
    var sum = vec4<T>(T(0));
    for (var k = range.x; k < range.y; k++) {
        sum += load4_src((of_src + order[k] * p.inner) >> 2u);
    }
    for (var b = range.y / BLOCK; BLOCK * b < range.z; b++) {
        sum += load4_blocks((of_blocks + b * p.inner) >> 2u);
    }
    for (var k = range.z; k < range.w; k++) {
        sum += load4_src((of_src + order[k] * p.inner) >> 2u);
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
    let quad = group * WORKGROUP + local;
    let first = 4u * quad;
    if (first < p.count) {
        var out = vec4<T>(T(0));
        if (ALIGNED) {
            out = sum_four(first);
        }
        for (var lane = 0u; lane < 4u; lane++) {
            if (first + lane < p.count) {
                if (!ALIGNED) {
                    out[lane] = sum_one(first + lane);
                }
                if (HAS_BASE) {
                    out[lane] += load_base(p.base_offset + first + lane);
                }
            }
        }
        store4_y(quad, out);
    }
}
