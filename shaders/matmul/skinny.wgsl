// Matrix product (common/product.wgsl) where a has few rows and columns are the dense dimension of b: bound by reading b once.
//
// A workgroup computes 4 rows x 4 LANES_N columns. LANES_K invocations share a column's sum: each takes every LANES_K-th k,
// then a tree adds their parts in a fixed order.

//#import common/operands.wgsl

override LANES_N: u32 = 16u;
override LANES_K: u32 = 8u; // a power of two
override LANES: u32 = LANES_N * LANES_K;
override PARTS: u32 = 4u * LANES;
override ROWS: u32 = 4u; // 1 where a has one row

var<workgroup> parts: array<vec4<f32>, PARTS>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = place_of(wg.x + wg.y * nwg.x, 4u, 4u * LANES_N);
    if (at.slice < p.slices) {
        let row = at.row;
        let column = at.column + 4u * (local % LANES_N);
        // Rows beyond the end read the last one, and are not stored.
        let last = p.m - 1u;
        let start = a_matrix(at.matrix);
        let a0 = start + min(row, last) * p.a_row;
        let a1 = start + min(row + 1u, last) * p.a_row;
        let a2 = start + min(row + 2u, last) * p.a_row;
        let a3 = start + min(row + 3u, last) * p.a_row;
        let b_start = b_matrix(at.matrix);

        var s0 = vec4<f32>();
        var s1 = vec4<f32>();
        var s2 = vec4<f32>();
        var s3 = vec4<f32>();
        for (var k = at.first + local / LANES_N; k < at.end; k += LANES_K) {
            let w = b_columns(b_start + k * p.b_row, column);
            let i = k * p.a_column;
            s0 += load_a(a0 + i) * w;
            if (ROWS == 4u) {
                s1 += load_a(a1 + i) * w;
                s2 += load_a(a2 + i) * w;
                s3 += load_a(a3 + i) * w;
            }
        }
        parts[local] = s0;
        parts[LANES + local] = s1;
        parts[2u * LANES + local] = s2;
        parts[3u * LANES + local] = s3;
        for (var half = LANES_K / 2u; half > 0u; half /= 2u) {
            workgroupBarrier();
            if (local < half * LANES_N) {
                let other = local + half * LANES_N;
                parts[local] += parts[other];
                parts[LANES + local] += parts[LANES + other];
                parts[2u * LANES + local] += parts[2u * LANES + other];
                parts[3u * LANES + local] += parts[3u * LANES + other];
            }
        }
        if (local < LANES_N) {
            for (var r = 0u; r < min(4u, p.m - row); r++) {
                store4(at, row + r, column, parts[r * LANES + local]);
            }
        }
    }
}
