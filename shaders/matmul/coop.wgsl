// Matrix product (common/product.wgsl) of f16 operands on matrix units: 16 x 16 x 16 products of f16 with sums in f32. Where the adapter has
// them, and only after a test against matmul/naive.wgsl on the very device.
//
// A workgroup of four subgroups of 32 computes a tile of 64 x 64, each subgroup 32 x 32 as 2 x 2 fragments. The sum over k goes in steps of 32,
// whose slabs of a and b lie in workgroup memory as they lie in global memory (k fast or slow), with eight spare halves a line
// against bank conflicts. What comes next is loaded into registers meanwhile. Fragments have no elements to speak of, so results
// pass through workgroup memory to be finished, one fragment of each subgroup at a time.
//
// Every subgroup executes the same matrix operations in the same order; what differs is addresses.

enable f16;
enable wgpu_cooperative_matrix;

//#import common/product.wgsl

override A_ALONG_K: u32 = 1u;
override B_ALONG_K: u32 = 0u;
override A_FOURS: u32 = 0u;
override B_FOURS: u32 = 0u;

@group(0) @binding(4) var<storage, read> a: array<vec4<f16>>;
@group(0) @binding(5) var<storage, read> b: array<vec4<f16>>;

const STEP = 32u;
const WIDE = 72u; // pitch of lines of 64
const NARROW = 40u; // pitch of lines of 32

// [64][NARROW] where k is fast, [32][WIDE] where it is slow.
var<workgroup> slab_a: array<f16, 2560>;
var<workgroup> slab_b: array<f16, 2560>;
var<workgroup> results: array<f32, 1024>;

// The `cell`-th four of a slab of 64 lines: its first line and k.
fn line_of(cell: u32, along_k: u32) -> u32 {
    return select(4u * (cell % 16u), cell / 8u, along_k == 1u);
}

fn depth_of(cell: u32, along_k: u32) -> u32 {
    return select(cell / 16u, 4u * (cell % 8u), along_k == 1u);
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
            v = b[i >> 2u];
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

// Where a four goes in its slab.
fn slot(cell: u32, along_k: u32) -> u32 {
    let line = line_of(cell, along_k);
    let d = depth_of(cell, along_k);
    return select(d * WIDE + line, line * NARROW + d, along_k == 1u);
}

fn put_a(cell: u32, v: vec4<f16>) {
    let i = slot(cell, A_ALONG_K);
    slab_a[i] = v.x; slab_a[i + 1u] = v.y; slab_a[i + 2u] = v.z; slab_a[i + 3u] = v.w;
}

fn put_b(cell: u32, v: vec4<f16>) {
    let i = slot(cell, B_ALONG_K);
    slab_b[i] = v.x; slab_b[i + 1u] = v.y; slab_b[i + 2u] = v.z; slab_b[i + 3u] = v.w;
}

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    // naga must see that the condition is the same for all invocations, which it does not through a function.
    if (group < p.slices * p.batch * ((p.m + 63u) / 64u) * ((p.n + 63u) / 64u)) {
        let at = place_of(group, 64u, 64u);
        let a_start = a_matrix(at.matrix);
        let b_start = b_matrix(at.matrix);
        // Of this subgroup: first row and column inside the tile, and the offset of its part of the results.
        let top = (subgroup >> 1u) * 32u;
        let left = (subgroup & 1u) * 32u;
        let own = subgroup * 256u;

        var c00 = coop_mat16x16<f32, C>();
        var c01 = coop_mat16x16<f32, C>();
        var c10 = coop_mat16x16<f32, C>();
        var c11 = coop_mat16x16<f32, C>();

        var next_a: array<vec4<f16>, 4>;
        var next_b: array<vec4<f16>, 4>;
        for (var j = 0u; j < 4u; j++) {
            next_a[j] = bring_a(at, a_start, at.first, local + j * 128u);
            next_b[j] = bring_b(at, b_start, at.first, local + j * 128u);
        }
        for (var k = at.first; k < at.end; k += STEP) {
            workgroupBarrier();
            for (var j = 0u; j < 4u; j++) {
                put_a(local + j * 128u, next_a[j]);
                put_b(local + j * 128u, next_b[j]);
            }
            workgroupBarrier();
            for (var j = 0u; j < 4u; j++) {
                next_a[j] = bring_a(at, a_start, k + STEP, local + j * 128u);
                next_b[j] = bring_b(at, b_start, k + STEP, local + j * 128u);
            }
            for (var d = 0u; d < STEP; d += 16u) {
                var a0: coop_mat16x16<f16, A>;
                var a1: coop_mat16x16<f16, A>;
                var b0: coop_mat16x16<f16, B>;
                var b1: coop_mat16x16<f16, B>;
                // Row-major fragments are loaded with T, column-major ones without.
                if (A_ALONG_K == 1u) {
                    a0 = coopLoadT<coop_mat16x16<f16, A>>(&slab_a[top * NARROW + d], NARROW);
                    a1 = coopLoadT<coop_mat16x16<f16, A>>(&slab_a[(top + 16u) * NARROW + d], NARROW);
                } else {
                    a0 = coopLoad<coop_mat16x16<f16, A>>(&slab_a[d * WIDE + top], WIDE);
                    a1 = coopLoad<coop_mat16x16<f16, A>>(&slab_a[d * WIDE + top + 16u], WIDE);
                }
                if (B_ALONG_K == 1u) {
                    b0 = coopLoad<coop_mat16x16<f16, B>>(&slab_b[left * NARROW + d], NARROW);
                    b1 = coopLoad<coop_mat16x16<f16, B>>(&slab_b[(left + 16u) * NARROW + d], NARROW);
                } else {
                    b0 = coopLoadT<coop_mat16x16<f16, B>>(&slab_b[d * WIDE + left], WIDE);
                    b1 = coopLoadT<coop_mat16x16<f16, B>>(&slab_b[d * WIDE + left + 16u], WIDE);
                }
                c00 = coopMultiplyAdd(a0, b0, c00);
                c01 = coopMultiplyAdd(a0, b1, c01);
                c10 = coopMultiplyAdd(a1, b0, c10);
                c11 = coopMultiplyAdd(a1, b1, c11);
            }
        }
        // The value and the address of a store must be names: naga fails on expressions there.
        let r00 = c00;
        let r01 = c01;
        let r10 = c10;
        let r11 = c11;
        let mine = &results[own];
        coopStoreT(r00, mine, 16u);
        workgroupBarrier();
        finish(at, local, 0u, 0u);
        workgroupBarrier();
        coopStoreT(r01, mine, 16u);
        workgroupBarrier();
        finish(at, local, 0u, 16u);
        workgroupBarrier();
        coopStoreT(r10, mine, 16u);
        workgroupBarrier();
        finish(at, local, 16u, 0u);
        workgroupBarrier();
        coopStoreT(r11, mine, 16u);
        workgroupBarrier();
        finish(at, local, 16u, 16u);
    }
}

// Finishes the fragments that now lie in `results`: four, of 16 x 16, those at (down, right) in the part of each subgroup.
fn finish(at: Place, local: u32, down: u32, right: u32) {
    for (var four = local; four < 256u; four += 128u) {
        let part = four / 64u;
        let row = at.row + (part >> 1u) * 32u + down + four % 64u / 4u;
        let column = at.column + (part & 1u) * 32u + right + 4u * (four % 4u);
        let i = 4u * four;
        store4(at, row, column, vec4<f32>(results[i], results[i + 1u], results[i + 2u], results[i + 3u]));
    }
}
