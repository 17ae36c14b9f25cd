// c = a b + bias where `a` has few rows (matrix times vector, decoding one token): bound by reading `b` once.
//
// A workgroup computes 4 rows x LANES_N columns. LANES_K invocations share the sum of a column: each takes every
// LANES_K-th k, then a tree adds their parts in a fixed order. Four rows share each element of `b`.

//#import common/product.wgsl

override LANES_N: u32 = 1u;
override LANES_K: u32 = 64u; // a power of two
override LANES: u32 = LANES_N * LANES_K;

var<workgroup> partial: array<vec4<f32>, LANES>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let blocks_n = (p.n + LANES_N - 1u) / LANES_N;
    let blocks = blocks_n * ((p.m + 3u) / 4u);
    let matrix = group / blocks;
    if (matrix < p.batch) {
        let row = (group % blocks) / blocks_n * 4u;
        let column = (group % blocks) % blocks_n * LANES_N + local % LANES_N;
        // Rows and columns beyond the end read the last one, and are not stored.
        let last = p.m - 1u;
        let start = a_matrix(matrix);
        let a0 = start + min(row, last) * p.a_row;
        let a1 = start + min(row + 1u, last) * p.a_row;
        let a2 = start + min(row + 2u, last) * p.a_row;
        let a3 = start + min(row + 3u, last) * p.a_row;
        let b0 = b_matrix(matrix) + min(column, p.n - 1u) * p.b_column;

        var sum = vec4<f32>();
        for (var k = local / LANES_N; k < p.k; k += LANES_K) {
            let at = k * p.a_column;
            sum += load_b(b0 + k * p.b_row) * vec4<f32>(load_a(a0 + at), load_a(a1 + at), load_a(a2 + at), load_a(a3 + at));
        }
        partial[local] = sum;
        for (var half = LANES_K / 2u; half > 0u; half /= 2u) {
            workgroupBarrier();
            if (local < half * LANES_N) {
                partial[local] += partial[local + half * LANES_N];
            }
        }
        if (local < LANES_N) {
            let total = partial[local];
            store(matrix, row, column, total.x);
            store(matrix, row + 1u, column, total.y);
            store(matrix, row + 2u, column, total.z);
            store(matrix, row + 3u, column, total.w);
        }
    }
}
