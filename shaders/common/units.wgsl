// The slabs of the matrix products on matrix units (matmul/coop.wgsl and coop_large.wgsl), whose operands are f16: LINES rows of `a` and as many
// columns of `b`, 32 deep, by LINES x 2 invocations. They lie in workgroup memory as they lie in global memory (k fast or slow), in fours, with
// eight spare halves a line against bank conflicts.

//#import common/product.wgsl
//#import common/packed.wgsl

override A_ALONG_K: u32 = 1u;
override B_ALONG_K: u32 = 0u;
override A_FOURS: u32 = 0u;
override B_FOURS: u32 = 0u;

@group(0) @binding(4) var<storage, read> a: array<vec4<f16>>;
@group(0) @binding(5) var<storage, read> b: array<vec4<f16>>;

const STEP = 32u;
// Pitches of lines in fours: of LINES halves, and of 32.
const WIDE = LINES / 4u + 2u;
const NARROW = 10u;
const SLAB = LINES * NARROW;
// Invocations, which bring four fours of each slab.
const INVOCATIONS = 2u * LINES;

// The slab of a, and from SLAB on that of b: [LINES][NARROW] where k is fast, [32][WIDE] where it is slow.
var<workgroup> halves: array<vec4<f16>, 2u * SLAB>;
// One fragment of each subgroup.
var<workgroup> floats: array<vec4<f32>, 4u * LINES>;

fn four_of_b(i: u32) -> vec4<f16> {
    if (B_PACKED == 1u) {
        let pairs = b[i >> 1u];
        let pair = select(pairs.xy, pairs.zw, (i & 1u) == 1u);
        return vec4<f16>(spread(vec2<f32>(pair), nibble_of(i)));
    }
    return b[i];
}

struct Fours {
    x: vec4<f16>,
    y: vec4<f16>,
    z: vec4<f16>,
    w: vec4<f16>,
}

// The `cell`-th four of a slab: its first line and k.
fn line_of(cell: u32, along_k: u32) -> u32 {
    return select(4u * (cell % (LINES / 4u)), cell / 8u, along_k == 1u);
}

fn depth_of(cell: u32, along_k: u32) -> u32 {
    return select(cell / (LINES / 4u), 4u * (cell % 8u), along_k == 1u);
}

fn bring_a(at: Place, start: u32, k: u32, cell: u32) -> vec4<f16> {
    let row = at.row + line_of(cell, A_ALONG_K);
    let d = k + depth_of(cell, A_ALONG_K);
    var v = vec4<f16>();
    if (row < p.m && d < at.end) {
        let i = start + row * p.a_row + d * p.a_column;
        if (A_FOURS == 1u) {
            v = a[i >> 2u];
        } else {
            let step = select(p.a_row, p.a_column, A_ALONG_K == 1u);
            let count = select(p.m - row, at.end - d, A_ALONG_K == 1u);
            for (var j = 0u; j < min(count, 4u); j++) {
                let e = i + j * step;
                v[j] = a[e >> 2u][e & 3u];
            }
        }
    }
    return v;
}

fn bring_b(at: Place, start: u32, k: u32, cell: u32) -> vec4<f16> {
    let column = at.column + line_of(cell, B_ALONG_K);
    let d = k + depth_of(cell, B_ALONG_K);
    var v = vec4<f16>();
    if (column < p.n && d < at.end) {
        let i = start + d * p.b_row + column * p.b_column;
        if (B_FOURS == 1u) {
            v = four_of_b(i >> 2u);
        } else {
            let step = select(p.b_column, p.b_row, B_ALONG_K == 1u);
            let count = select(p.n - column, at.end - d, B_ALONG_K == 1u);
            for (var j = 0u; j < min(count, 4u); j++) {
                let e = i + j * step;
                v[j] = b[e >> 2u][e & 3u];
            }
        }
    }
    return v;
}

fn all_of_a(at: Place, start: u32, k: u32, local: u32) -> Fours {
    return Fours(
        bring_a(at, start, k, local),
        bring_a(at, start, k, local + INVOCATIONS),
        bring_a(at, start, k, local + 2u * INVOCATIONS),
        bring_a(at, start, k, local + 3u * INVOCATIONS),
    );
}

fn all_of_b(at: Place, start: u32, k: u32, local: u32) -> Fours {
    return Fours(
        bring_b(at, start, k, local),
        bring_b(at, start, k, local + INVOCATIONS),
        bring_b(at, start, k, local + 2u * INVOCATIONS),
        bring_b(at, start, k, local + 3u * INVOCATIONS),
    );
}

// Where a four goes in its slab.
fn slot(cell: u32, along_k: u32) -> u32 {
    let line = line_of(cell, along_k);
    let d = depth_of(cell, along_k);
    return select(d * WIDE + line / 4u, line * NARROW + d / 4u, along_k == 1u);
}

fn put_slabs(of_a: Fours, of_b: Fours, local: u32) {
    halves[slot(local, A_ALONG_K)] = of_a.x;
    halves[slot(local + INVOCATIONS, A_ALONG_K)] = of_a.y;
    halves[slot(local + 2u * INVOCATIONS, A_ALONG_K)] = of_a.z;
    halves[slot(local + 3u * INVOCATIONS, A_ALONG_K)] = of_a.w;
    halves[SLAB + slot(local, B_ALONG_K)] = of_b.x;
    halves[SLAB + slot(local + INVOCATIONS, B_ALONG_K)] = of_b.y;
    halves[SLAB + slot(local + 2u * INVOCATIONS, B_ALONG_K)] = of_b.z;
    halves[SLAB + slot(local + 3u * INVOCATIONS, B_ALONG_K)] = of_b.w;
}

// The fragment of sixteen rows of a, or columns of b, from `line` on and as much of k from `d` on.
fn left(line: u32, d: u32) -> Left {
    if (A_ALONG_K == 1u) {
        return left_of_rows(line * NARROW + d / 4u, NARROW);
    }
    return left_of_columns(d * WIDE + line / 4u, WIDE);
}

fn right(line: u32, d: u32) -> Right {
    if (B_ALONG_K == 1u) {
        return right_of_columns(SLAB + line * NARROW + d / 4u, NARROW);
    }
    return right_of_rows(SLAB + d * WIDE + line / 4u, WIDE);
}

// Finishes a fragment of each subgroup, which lies at (down, aside) in its part of the tile, and whose results go from `own` on.
fn finish(sums: Sums, at: Place, local: u32, own: u32, down: u32, aside: u32) {
    put(sums, own, 4u);
    workgroupBarrier();
    for (var four = local; four < 4u * LINES; four += INVOCATIONS) {
        let part = four / 64u;
        let row = at.row + (part >> 1u) * 32u + down + four % 64u / 4u;
        let column = at.column + (part & 1u) * (LINES / 2u) + aside + 4u * (four % 4u);
        store4(at, row, column, floats[four]);
    }
    workgroupBarrier();
}
