// c = a b + bias, for large matrices: a workgroup of SIDE x SIDE invocations computes a tile of 8 SIDE x 8 SIDE.
//
// The sum over k goes in steps of DEPTH. For each, the workgroup brings a slab of `a` (8 SIDE rows) and one of `b`
// (8 SIDE columns) into workgroup memory, both with k as the slow index, so that an invocation reads its rows and columns
// as vec4. It owns 8 x 8 results: rows 4 y .. and 4 (SIDE + y) .., columns 4 x .. and 4 (SIDE + x) ..; the halves of the
// tile lie apart so that neighbours read neighbouring banks. One spare vec4 a line (PITCH) does the same for the writes.

//#import common/product.wgsl

override SIDE: u32 = 8u;
override DEPTH: u32 = 8u;
// 1 where columns of `a` (rows of `b`), that is k, lie closer in memory than rows of `a` (columns of `b`).
override A_ALONG_K: u32 = 1u;
override B_ALONG_K: u32 = 0u;

override PITCH: u32 = 2u * SIDE + 1u;
override SLAB: u32 = DEPTH * PITCH;

var<workgroup> slab_a: array<vec4<f32>, SLAB>;
var<workgroup> slab_b: array<vec4<f32>, SLAB>;

fn a_at(start: u32, row: u32, k: u32) -> f32 {
    if (row < p.m && k < p.k) {
        return load_a(start + row * p.a_row + k * p.a_column);
    }
    return 0.0;
}

fn b_at(start: u32, k: u32, column: u32) -> f32 {
    if (column < p.n && k < p.k) {
        return load_b(start + k * p.b_row + column * p.b_column);
    }
    return 0.0;
}

// Which four rows (or columns) of a slab, and which k, the `cell`-th vec4 holds: neighbours read neighbouring memory.
fn four(cell: u32, along_k: u32) -> u32 {
    return select(cell % (2u * SIDE), cell / DEPTH, along_k == 1u);
}

fn depth(cell: u32, along_k: u32) -> u32 {
    return select(cell / (2u * SIDE), cell % DEPTH, along_k == 1u);
}

@compute @workgroup_size(SIDE, SIDE)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let group = wg.x + wg.y * nwg.x;
    let tile = 8u * SIDE;
    let tiles_n = (p.n + tile - 1u) / tile;
    let tiles = tiles_n * ((p.m + tile - 1u) / tile);
    let matrix = group / tiles;
    if (matrix < p.batch) {
        let row = (group % tiles) / tiles_n * tile;
        let column = (group % tiles) % tiles_n * tile;
        let a_start = a_matrix(matrix);
        let b_start = b_matrix(matrix);

        // Results by row; the first digit is the half of the rows, the second the row, l and r the half of the columns.
        var l00 = vec4<f32>(); var r00 = vec4<f32>();
        var l01 = vec4<f32>(); var r01 = vec4<f32>();
        var l02 = vec4<f32>(); var r02 = vec4<f32>();
        var l03 = vec4<f32>(); var r03 = vec4<f32>();
        var l10 = vec4<f32>(); var r10 = vec4<f32>();
        var l11 = vec4<f32>(); var r11 = vec4<f32>();
        var l12 = vec4<f32>(); var r12 = vec4<f32>();
        var l13 = vec4<f32>(); var r13 = vec4<f32>();

        for (var k = 0u; k < p.k; k += DEPTH) {
            workgroupBarrier();
            for (var cell = local.y * SIDE + local.x; cell < 2u * SIDE * DEPTH; cell += SIDE * SIDE) {
                let fa = four(cell, A_ALONG_K);
                let da = depth(cell, A_ALONG_K);
                let ra = row + 4u * fa;
                slab_a[da * PITCH + fa] = vec4<f32>(
                    a_at(a_start, ra, k + da),
                    a_at(a_start, ra + 1u, k + da),
                    a_at(a_start, ra + 2u, k + da),
                    a_at(a_start, ra + 3u, k + da),
                );
                let fb = four(cell, B_ALONG_K);
                let db = depth(cell, B_ALONG_K);
                let cb = column + 4u * fb;
                slab_b[db * PITCH + fb] = vec4<f32>(
                    b_at(b_start, k + db, cb),
                    b_at(b_start, k + db, cb + 1u),
                    b_at(b_start, k + db, cb + 2u),
                    b_at(b_start, k + db, cb + 3u),
                );
            }
            workgroupBarrier();
            for (var d = 0u; d < DEPTH; d++) {
                let top = slab_a[d * PITCH + local.y];
                let bottom = slab_a[d * PITCH + SIDE + local.y];
                let left = slab_b[d * PITCH + local.x];
                let right = slab_b[d * PITCH + SIDE + local.x];
                l00 += top.x * left; r00 += top.x * right;
                l01 += top.y * left; r01 += top.y * right;
                l02 += top.z * left; r02 += top.z * right;
                l03 += top.w * left; r03 += top.w * right;
                l10 += bottom.x * left; r10 += bottom.x * right;
                l11 += bottom.y * left; r11 += bottom.y * right;
                l12 += bottom.z * left; r12 += bottom.z * right;
                l13 += bottom.w * left; r13 += bottom.w * right;
            }
        }

        let r = row + 4u * local.y;
        let s = r + 4u * SIDE;
        let q = column + 4u * local.x;
        let t = q + 4u * SIDE;
        store4(matrix, r, q, l00); store4(matrix, r, t, r00);
        store4(matrix, r + 1u, q, l01); store4(matrix, r + 1u, t, r01);
        store4(matrix, r + 2u, q, l02); store4(matrix, r + 2u, t, r02);
        store4(matrix, r + 3u, q, l03); store4(matrix, r + 3u, t, r03);
        store4(matrix, s, q, l10); store4(matrix, s, t, r10);
        store4(matrix, s + 1u, q, l11); store4(matrix, s + 1u, t, r11);
        store4(matrix, s + 2u, q, l12); store4(matrix, s + 2u, t, r12);
        store4(matrix, s + 3u, q, l13); store4(matrix, s + 3u, t, r13);
    }
}
