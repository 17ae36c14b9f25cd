// c = a b + bias without workgroup memory, for software drivers, where barriers cost more than repeated reads:
// each invocation computes 8 rows x 4 columns in registers, and a workgroup of LANES invocations stands side by side.

//#import common/product.wgsl

override LANES: u32 = 8u;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let blocks_n = (p.n + 4u * LANES - 1u) / (4u * LANES);
    let blocks = blocks_n * ((p.m + 7u) / 8u);
    let matrix = group / blocks;
    if (matrix < p.batch) {
        let row = (group % blocks) / blocks_n * 8u;
        let column = ((group % blocks) % blocks_n * LANES + local) * 4u;
        // Rows and columns beyond the end read the last one, and are not stored.
        let last = p.m - 1u;
        let end = p.n - 1u;
        let start = a_matrix(matrix);
        let a0 = start + min(row, last) * p.a_row;
        let a1 = start + min(row + 1u, last) * p.a_row;
        let a2 = start + min(row + 2u, last) * p.a_row;
        let a3 = start + min(row + 3u, last) * p.a_row;
        let a4 = start + min(row + 4u, last) * p.a_row;
        let a5 = start + min(row + 5u, last) * p.a_row;
        let a6 = start + min(row + 6u, last) * p.a_row;
        let a7 = start + min(row + 7u, last) * p.a_row;
        let b_start = b_matrix(matrix);
        let b0 = b_start + min(column, end) * p.b_column;
        let b1 = b_start + min(column + 1u, end) * p.b_column;
        let b2 = b_start + min(column + 2u, end) * p.b_column;
        let b3 = b_start + min(column + 3u, end) * p.b_column;

        var c0 = vec4<f32>();
        var c1 = vec4<f32>();
        var c2 = vec4<f32>();
        var c3 = vec4<f32>();
        var c4 = vec4<f32>();
        var c5 = vec4<f32>();
        var c6 = vec4<f32>();
        var c7 = vec4<f32>();
        var at = 0u;
        var bt = 0u;
        for (var k = 0u; k < p.k; k++) {
            let w = vec4<f32>(load_b(b0 + bt), load_b(b1 + bt), load_b(b2 + bt), load_b(b3 + bt));
            c0 += load_a(a0 + at) * w;
            c1 += load_a(a1 + at) * w;
            c2 += load_a(a2 + at) * w;
            c3 += load_a(a3 + at) * w;
            c4 += load_a(a4 + at) * w;
            c5 += load_a(a5 + at) * w;
            c6 += load_a(a6 + at) * w;
            c7 += load_a(a7 + at) * w;
            at += p.a_column;
            bt += p.b_row;
        }
        store4(matrix, row, column, c0);
        store4(matrix, row + 1u, column, c1);
        store4(matrix, row + 2u, column, c2);
        store4(matrix, row + 3u, column, c3);
        store4(matrix, row + 4u, column, c4);
        store4(matrix, row + 5u, column, c5);
        store4(matrix, row + 6u, column, c6);
        store4(matrix, row + 7u, column, c7);
    }
}
