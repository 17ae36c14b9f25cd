// Matrix product (common/product.wgsl) for large matrices: a workgroup of SIDE x SIDE invocations computes a tile of 8 SIDE x 8 SIDE.
//
// The sum over k goes in steps of DEPTH. For each, the workgroup brings a slab of `a` (8 SIDE rows) and one of `b`
// (8 SIDE columns) into workgroup memory, both with k as the slow index, so that an invocation reads its rows and columns
// as vec4. The next slabs are on their way from global memory, in registers, while these are used. An invocation owns 8 x 8 results:
// rows 4 y .. and 4 (SIDE + y) .., columns 4 x .. and 4 (SIDE + x) ..; the halves of the tile lie apart so that neighbours
// read neighbouring banks. One spare vec4 a line (PITCH) does the same for the writes.
// A packed 2:4 b is expanded on its way into the slab.

//#import common/operands.wgsl
//#import common/packed.wgsl

override SIDE: u32 = 8u; // 4, 8 or 16
override DEPTH: u32 = 8u; // a multiple of 4 from SIDE / 2 to SIDE: so each invocation brings one or two vec4 a slab
override PITCH: u32 = 2u * SIDE + 1u;
override SLAB: u32 = DEPTH * PITCH;

var<workgroup> slab_a: array<vec4<f32>, SLAB>;
var<workgroup> slab_b: array<vec4<f32>, SLAB>;

fn load2_b(i: u32) -> vec2<f32> { let w = 2u * (i & 1u); return vec2<f32>(b[i >> 1u][w], b[i >> 1u][w + 1u]); }

fn four_of_b(i: u32) -> vec4<f32> {
    if (B_PACKED == 1u) { return spread(load2_b(i), nibble_of(i)); }
    return load4_b(i);
}

// Where the `cell`-th four of a slab lies: its first line (row of a, column of b) and k. Neighbours read neighbouring memory.
fn line_of(cell: u32, along_k: u32) -> u32 {
    return select(4u * (cell % (2u * SIDE)), cell / (DEPTH / 4u), along_k == 1u);
}

fn depth_of(cell: u32, along_k: u32) -> u32 {
    return select(cell / (2u * SIDE), 4u * (cell % (DEPTH / 4u)), along_k == 1u);
}

fn bring_a(at: Place, start: u32, k: u32, cell: u32) -> vec4<f32> {
    let row = at.row + line_of(cell, A_ALONG_K);
    let d = k + depth_of(cell, A_ALONG_K);
    var v = vec4<f32>();
    if (row < p.m && d < at.end) {
        let i = start + row * p.a_row + d * p.a_column;
        if (A_FOURS == 1u) {
            v = load4_a(i >> 2u);
        } else {
            let step = select(p.a_row, p.a_column, A_ALONG_K == 1u);
            let count = select(p.m - row, at.end - d, A_ALONG_K == 1u);
            v.x = load_a(i);
            if (count > 1u) { v.y = load_a(i + step); }
            if (count > 2u) { v.z = load_a(i + 2u * step); }
            if (count > 3u) { v.w = load_a(i + 3u * step); }
        }
    }
    return v;
}

fn bring_b(at: Place, start: u32, k: u32, cell: u32) -> vec4<f32> {
    let column = at.column + line_of(cell, B_ALONG_K);
    let d = k + depth_of(cell, B_ALONG_K);
    var v = vec4<f32>();
    if (column < p.n && d < at.end) {
        let i = start + d * p.b_row + column * p.b_column;
        if (B_FOURS == 1u) {
            v = four_of_b(i >> 2u);
        } else {
            let step = select(p.b_column, p.b_row, B_ALONG_K == 1u);
            let count = select(p.n - column, at.end - d, B_ALONG_K == 1u);
            v.x = load_b(i);
            if (count > 1u) { v.y = load_b(i + step); }
            if (count > 2u) { v.z = load_b(i + 2u * step); }
            if (count > 3u) { v.w = load_b(i + 3u * step); }
        }
    }
    return v;
}

fn put_a(cell: u32, v: vec4<f32>) {
    let line = line_of(cell, A_ALONG_K);
    let i = depth_of(cell, A_ALONG_K) * PITCH + (line >> 2u);
    if (A_ALONG_K == 1u) {
        let lane = line & 3u;
        slab_a[i][lane] = v.x;
        slab_a[i + PITCH][lane] = v.y;
        slab_a[i + 2u * PITCH][lane] = v.z;
        slab_a[i + 3u * PITCH][lane] = v.w;
    } else {
        slab_a[i] = v;
    }
}

fn put_b(cell: u32, v: vec4<f32>) {
    let line = line_of(cell, B_ALONG_K);
    let i = depth_of(cell, B_ALONG_K) * PITCH + (line >> 2u);
    if (B_ALONG_K == 1u) {
        let lane = line & 3u;
        slab_b[i][lane] = v.x;
        slab_b[i + PITCH][lane] = v.y;
        slab_b[i + 2u * PITCH][lane] = v.z;
        slab_b[i + 3u * PITCH][lane] = v.w;
    } else {
        slab_b[i] = v;
    }
}

@compute @workgroup_size(SIDE, SIDE)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let tile = 8u * SIDE;
    let at = place_of(wg.x + wg.y * nwg.x, tile, tile);
    if (at.slice < p.slices) {
        let a_start = a_matrix(at.matrix);
        let b_start = b_matrix(at.matrix);
        let cell = local.y * SIDE + local.x;
        let second = cell + SIDE * SIDE;

        // Results by row; the first digit is the half of the rows, the second the row, l and r the half of the columns.
        var l00 = vec4<f32>(); var r00 = vec4<f32>();
        var l01 = vec4<f32>(); var r01 = vec4<f32>();
        var l02 = vec4<f32>(); var r02 = vec4<f32>();
        var l03 = vec4<f32>(); var r03 = vec4<f32>();
        var l10 = vec4<f32>(); var r10 = vec4<f32>();
        var l11 = vec4<f32>(); var r11 = vec4<f32>();
        var l12 = vec4<f32>(); var r12 = vec4<f32>();
        var l13 = vec4<f32>(); var r13 = vec4<f32>();

        var next_a = bring_a(at, a_start, at.first, cell);
        var next_b = bring_b(at, b_start, at.first, cell);
        var more_a = vec4<f32>();
        var more_b = vec4<f32>();
        if (2u * DEPTH > SIDE) {
            more_a = bring_a(at, a_start, at.first, second);
            more_b = bring_b(at, b_start, at.first, second);
        }
        for (var k = at.first; k < at.end; k += DEPTH) {
            workgroupBarrier();
            put_a(cell, next_a);
            put_b(cell, next_b);
            if (2u * DEPTH > SIDE) {
                put_a(second, more_a);
                put_b(second, more_b);
            }
            workgroupBarrier();
            // Beyond the end these are zeros.
            next_a = bring_a(at, a_start, k + DEPTH, cell);
            next_b = bring_b(at, b_start, k + DEPTH, cell);
            if (2u * DEPTH > SIDE) {
                more_a = bring_a(at, a_start, k + DEPTH, second);
                more_b = bring_b(at, b_start, k + DEPTH, second);
            }
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

        var t = array<vec4<f32>, 16>(l00, r00, l01, r01, l02, r02, l03, r03, l10, r10, l11, r11, l12, r12, l13, r13);
        // Always 16, but no compiler knows: unrolled, what is done with the sums would be a hundred times the code above.
        for (var i = 0u; i < min(16u, 16u * p.n); i++) {
            let row = at.row + 4u * local.y + 4u * SIDE * (i >> 3u) + ((i >> 1u) & 3u);
            store4(at, row, at.column + 4u * local.x + 4u * SIDE * (i & 1u), t[i]);
        }
    }
}
