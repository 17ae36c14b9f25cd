// Matrix product (common/product.wgsl) of f16 operands on matrix units: 16 x 16 x 16 products of f16 with sums in f32. Where the adapter has
// them, and only after a test against matmul/naive.wgsl on the very device.
//
// A workgroup of four subgroups of 32 computes a tile of 64 x 64, each subgroup 32 x 32 as 2 x 2 fragments. The sum over k goes in
// steps of 32, whose slabs of a and b lie in workgroup memory (common/units.wgsl). What comes next is loaded into registers meanwhile.
// Fragments have no elements to speak of, so results pass through workgroup memory to be finished, one fragment of each subgroup at a time.
//
// Every subgroup executes the same matrix operations in the same order; what differs is addresses.

enable f16;

//#import common/fragments.wgsl

const LINES = 64u;

//#import common/units.wgsl

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) own_subgroup: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    // naga must see that the condition is the same for all invocations, which it does not through a function.
    if (group < p.slices * p.batch * ((p.m + LINES - 1u) / LINES) * ((p.n + LINES - 1u) / LINES)) {
        let subgroup = enter_subgroup(local, own_subgroup);
        let at = place_of(group, LINES, LINES);
        let a_start = a_matrix(at.matrix);
        let b_start = b_matrix(at.matrix);
        // Of this subgroup: first row and column inside the tile, and the offset of its part of the results.
        let row = (subgroup >> 1u) * 32u;
        let column = (subgroup & 1u) * 32u;
        let own = subgroup * 64u;

        var c00 = Sums();
        var c01 = Sums();
        var c10 = Sums();
        var c11 = Sums();

        var next_a = all_of_a(at, a_start, at.first, local);
        var next_b = all_of_b(at, b_start, at.first, local);
        for (var k = at.first; k < at.end; k += STEP) {
            workgroupBarrier();
            put_slabs(next_a, next_b, local);
            workgroupBarrier();
            next_a = all_of_a(at, a_start, k + STEP, local);
            next_b = all_of_b(at, b_start, k + STEP, local);
            for (var d = 0u; d < STEP; d += 16u) {
                let a0 = left(row + 0u, d);
                let a1 = left(row + 16u, d);
                let b0 = right(column + 0u, d);
                let b1 = right(column + 16u, d);
                c00 = multiply_add(a0, b0, c00);
                c01 = multiply_add(a0, b1, c01);
                c10 = multiply_add(a1, b0, c10);
                c11 = multiply_add(a1, b1, c11);
            }
        }
        finish(c00, at, local, own, 0u, 0u);
        finish(c01, at, local, own, 0u, 16u);
        finish(c10, at, local, own, 16u, 0u);
        finish(c11, at, local, own, 16u, 16u);
    }
}
