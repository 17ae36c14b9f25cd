// Matrix product (common/product.wgsl) where a has few rows and k is the dense dimension of b (a vector times the transpose of a matrix,
// as in a linear layer): bound by reading b once.
//
// A workgroup computes 4 rows x 4 columns. Each invocation takes four consecutive k of every 4 LANES, then a tree adds their parts
// in a fixed order.

//#import common/operands.wgsl

override LANES: u32 = 64u; // a power of two
override PARTS: u32 = 4u * LANES;
override ROWS: u32 = 4u; // 1 where a has one row

var<workgroup> parts: array<vec4<f32>, PARTS>;

// Four k of a row of a, zero beyond the end.
fn a_four(at: u32, k: u32, end: u32) -> vec4<f32> {
    if (A_FOURS == 1u && A_ALONG_K == 1u) {
        return load4_a((at + k) >> 2u);
    }
    let i = vec4<u32>(k, k + 1u, k + 2u, k + 3u);
    let j = vec4<u32>(at) + min(i, vec4<u32>(end - 1u)) * p.a_column;
    return select(vec4<f32>(), vec4<f32>(load_a(j.x), load_a(j.y), load_a(j.z), load_a(j.w)), i < vec4<u32>(end));
}

// Four k of a column of b, zero beyond the end.
fn b_four(at: u32, k: u32, end: u32) -> vec4<f32> {
    if (B_FOURS == 1u && B_ALONG_K == 1u) {
        return load4_b((at + k) >> 2u);
    }
    let i = vec4<u32>(k, k + 1u, k + 2u, k + 3u);
    let j = vec4<u32>(at) + min(i, vec4<u32>(end - 1u)) * p.b_row;
    return select(vec4<f32>(), vec4<f32>(load_b(j.x), load_b(j.y), load_b(j.z), load_b(j.w)), i < vec4<u32>(end));
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = place_of(wg.x + wg.y * nwg.x, 4u, 4u);
    if (at.slice < p.slices) {
        // Rows and columns beyond the end read the last one, and are not stored.
        let rows = vec4<u32>(a_matrix(at.matrix))
            + min(vec4<u32>(at.row) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.m - 1u)) * p.a_row;
        let columns = vec4<u32>(b_matrix(at.matrix))
            + min(vec4<u32>(at.column) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.n - 1u)) * p.b_column;

        var s0 = vec4<f32>();
        var s1 = vec4<f32>();
        var s2 = vec4<f32>();
        var s3 = vec4<f32>();
        for (var k = at.first + 4u * local; k < at.end; k += 4u * LANES) {
            let w0 = b_four(columns.x, k, at.end);
            let w1 = b_four(columns.y, k, at.end);
            let w2 = b_four(columns.z, k, at.end);
            let w3 = b_four(columns.w, k, at.end);
            let x0 = a_four(rows.x, k, at.end);
            s0 += vec4<f32>(dot(x0, w0), dot(x0, w1), dot(x0, w2), dot(x0, w3));
            if (ROWS == 4u) {
                let x1 = a_four(rows.y, k, at.end);
                let x2 = a_four(rows.z, k, at.end);
                let x3 = a_four(rows.w, k, at.end);
                s1 += vec4<f32>(dot(x1, w0), dot(x1, w1), dot(x1, w2), dot(x1, w3));
                s2 += vec4<f32>(dot(x2, w0), dot(x2, w1), dot(x2, w2), dot(x2, w3));
                s3 += vec4<f32>(dot(x3, w0), dot(x3, w1), dot(x3, w2), dot(x3, w3));
            }
        }
        parts[local] = s0;
        parts[LANES + local] = s1;
        parts[2u * LANES + local] = s2;
        parts[3u * LANES + local] = s3;
        for (var half = LANES / 2u; half > 0u; half /= 2u) {
            workgroupBarrier();
            if (local < half) {
                parts[local] += parts[local + half];
                parts[LANES + local] += parts[LANES + local + half];
                parts[2u * LANES + local] += parts[2u * LANES + local + half];
                parts[3u * LANES + local] += parts[3u * LANES + local + half];
            }
        }
        workgroupBarrier();
        if (local < 4u) {
            store4(at, at.row + local, at.column, parts[local * LANES]);
        }
    }
}
