// Matrix product (common/product.wgsl) of f16 operands on matrix units: 16 x 16 x 16 products of f16 with sums in f32. Where the adapter has
// them, and only after a test against matmul/naive.wgsl on the very device.
//
// A workgroup of eight subgroups of 32 computes a tile of 128 x 128, each subgroup 32 x 64 as 2 x 4 fragments. The sum over k goes in
// steps of 32, whose slabs of a and b lie in workgroup memory (common/units.wgsl). What comes next is loaded into registers meanwhile.
// Fragments have no elements to speak of, so results pass through workgroup memory to be finished, one fragment of each subgroup at a time.
//
// Every subgroup executes the same matrix operations in the same order; what differs is addresses.

enable f16;
enable wgpu_cooperative_matrix;

const LINES = 128u;

//#import common/units.wgsl

var<workgroup> results: array<vec4<f32>, 512>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    // naga must see that the condition is the same for all invocations, which it does not through a function.
    if (group < p.slices * p.batch * ((p.m + LINES - 1u) / LINES) * ((p.n + LINES - 1u) / LINES)) {
        let at = place_of(group, LINES, LINES);
        let a_start = a_matrix(at.matrix);
        let b_start = b_matrix(at.matrix);
        // Of this subgroup: first row and column inside the tile, and the offset of its part of the results.
        let top = (subgroup >> 1u) * 32u;
        let left = (subgroup & 1u) * 64u;
        let own = subgroup * 64u;

        var c00 = coop_mat16x16<f32, C>();
        var c01 = coop_mat16x16<f32, C>();
        var c02 = coop_mat16x16<f32, C>();
        var c03 = coop_mat16x16<f32, C>();
        var c10 = coop_mat16x16<f32, C>();
        var c11 = coop_mat16x16<f32, C>();
        var c12 = coop_mat16x16<f32, C>();
        var c13 = coop_mat16x16<f32, C>();

        var next_a = all_of_a(at, a_start, at.first, local);
        var next_b = all_of_b(at, b_start, at.first, local);
        for (var k = at.first; k < at.end; k += STEP) {
            workgroupBarrier();
            put_slabs(next_a, next_b, local);
            workgroupBarrier();
            next_a = all_of_a(at, a_start, k + STEP, local);
            next_b = all_of_b(at, b_start, k + STEP, local);
            for (var d = 0u; d < STEP; d += 16u) {
                var a0: coop_mat16x16<f16, A>;
                var a1: coop_mat16x16<f16, A>;
                var b0: coop_mat16x16<f16, B>;
                var b1: coop_mat16x16<f16, B>;
                var b2: coop_mat16x16<f16, B>;
                var b3: coop_mat16x16<f16, B>;
                // Row-major fragments are loaded with T, column-major ones without.
                if (A_ALONG_K == 1u) {
                    a0 = coopLoadT<coop_mat16x16<f16, A>>(&slab_a[(top + 0u) * NARROW + d / 4u], NARROW);
                    a1 = coopLoadT<coop_mat16x16<f16, A>>(&slab_a[(top + 16u) * NARROW + d / 4u], NARROW);
                } else {
                    a0 = coopLoad<coop_mat16x16<f16, A>>(&slab_a[d * WIDE + (top + 0u) / 4u], WIDE);
                    a1 = coopLoad<coop_mat16x16<f16, A>>(&slab_a[d * WIDE + (top + 16u) / 4u], WIDE);
                }
                if (B_ALONG_K == 1u) {
                    b0 = coopLoad<coop_mat16x16<f16, B>>(&slab_b[(left + 0u) * NARROW + d / 4u], NARROW);
                    b1 = coopLoad<coop_mat16x16<f16, B>>(&slab_b[(left + 16u) * NARROW + d / 4u], NARROW);
                    b2 = coopLoad<coop_mat16x16<f16, B>>(&slab_b[(left + 32u) * NARROW + d / 4u], NARROW);
                    b3 = coopLoad<coop_mat16x16<f16, B>>(&slab_b[(left + 48u) * NARROW + d / 4u], NARROW);
                } else {
                    b0 = coopLoadT<coop_mat16x16<f16, B>>(&slab_b[d * WIDE + (left + 0u) / 4u], WIDE);
                    b1 = coopLoadT<coop_mat16x16<f16, B>>(&slab_b[d * WIDE + (left + 16u) / 4u], WIDE);
                    b2 = coopLoadT<coop_mat16x16<f16, B>>(&slab_b[d * WIDE + (left + 32u) / 4u], WIDE);
                    b3 = coopLoadT<coop_mat16x16<f16, B>>(&slab_b[d * WIDE + (left + 48u) / 4u], WIDE);
                }
                c00 = coopMultiplyAdd(a0, b0, c00);
                c01 = coopMultiplyAdd(a0, b1, c01);
                c02 = coopMultiplyAdd(a0, b2, c02);
                c03 = coopMultiplyAdd(a0, b3, c03);
                c10 = coopMultiplyAdd(a1, b0, c10);
                c11 = coopMultiplyAdd(a1, b1, c11);
                c12 = coopMultiplyAdd(a1, b2, c12);
                c13 = coopMultiplyAdd(a1, b3, c13);
            }
        }
        // The value and the address of a store must be names: naga fails on expressions there.
        let r00 = c00;
        let r01 = c01;
        let r02 = c02;
        let r03 = c03;
        let r10 = c10;
        let r11 = c11;
        let r12 = c12;
        let r13 = c13;
        let mine = &results[own];
        coopStoreT(r00, mine, 4u);
        workgroupBarrier();
        finish(at, local, 0u, 0u);
        workgroupBarrier();
        coopStoreT(r01, mine, 4u);
        workgroupBarrier();
        finish(at, local, 0u, 16u);
        workgroupBarrier();
        coopStoreT(r02, mine, 4u);
        workgroupBarrier();
        finish(at, local, 0u, 32u);
        workgroupBarrier();
        coopStoreT(r03, mine, 4u);
        workgroupBarrier();
        finish(at, local, 0u, 48u);
        workgroupBarrier();
        coopStoreT(r10, mine, 4u);
        workgroupBarrier();
        finish(at, local, 16u, 0u);
        workgroupBarrier();
        coopStoreT(r11, mine, 4u);
        workgroupBarrier();
        finish(at, local, 16u, 16u);
        workgroupBarrier();
        coopStoreT(r12, mine, 4u);
        workgroupBarrier();
        finish(at, local, 16u, 32u);
        workgroupBarrier();
        coopStoreT(r13, mine, 4u);
        workgroupBarrier();
        finish(at, local, 16u, 48u);
    }
}

// Finishes the fragments that now lie in `results`, one of each subgroup, those at (down, right) in its part.
fn finish(at: Place, local: u32, down: u32, right: u32) {
    for (var four = local; four < 512u; four += INVOCATIONS) {
        let part = four / 64u;
        let row = at.row + (part >> 1u) * 32u + down + four % 64u / 4u;
        let column = at.column + (part & 1u) * 64u + right + 4u * (four % 4u);
        store4(at, row, column, results[four]);
    }
}
