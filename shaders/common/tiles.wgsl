// Attention by workgroups of 8 x 8 invocations: 32 rows against 32 columns, 4 x 4 to an invocation. Rows are queries and columns keys,
// or the other way round; `local.y` counts fours of rows, `local.x` fours of columns. The file that imports this has
//
//   fn element4(which: u32, at: Head, row: u32, d: u32) -> vec4<f32>
//
// which loads four elements of a row of the tensor `which`.
// A matrix of an invocation has its rows as columns of a mat4x4: m[r] are the four columns of row r.

const OF_Q: u32 = 0u;
const OF_K: u32 = 1u;
const OF_V: u32 = 2u;
const OF_D_O: u32 = 3u;

// One spare vec4 a line, so that neighbours meet different banks.
const PITCH: u32 = 9u;

var<workgroup> slab_rows: array<vec4<f32>, 144>;
var<workgroup> slab_columns: array<vec4<f32>, 144>;
var<workgroup> slab_vectors: array<vec4<f32>, 256>;
var<workgroup> shared_weights: array<vec4<f32>, 288>;
var<workgroup> shared_steps: vec2<u32>;
var<workgroup> shared_step: vec2<u32>;

// Up to 64 columns of a sum: the invocation's are the fours `local.x` and `local.x + 8`.
struct Sum {
    left: mat4x4<f32>,
    right: mat4x4<f32>,
}

fn outer(a: vec4<f32>, b: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(a.x * b, a.y * b, a.z * b, a.w * b);
}

// Products of rows from `row` on and columns from `column` on, of `fours` fours of elements each.
fn products(rows: u32, row: u32, columns: u32, column: u32, at: Head, fours: u32, local: vec3<u32>) -> mat4x4<f32> {
    var sum = mat4x4<f32>();
    // Which 4 x 4 elements of a slab of 32 x 16 the invocation brings: half of them those of the rows.
    let cell = local.y * 8u + local.x;
    let four = cell % 8u;
    let depth = cell % 32u / 8u;
    for (var d = 0u; d < fours; d += 4u) {
        workgroupBarrier();
        if (cell < 32u) {
            var x = elements(rows, at, row + 4u * four, d + depth, fours);
            for (var c = 0u; c < 4u; c++) { slab_rows[(4u * depth + c) * PITCH + four] = x[c]; }
        } else {
            var x = elements(columns, at, column + 4u * four, d + depth, fours);
            for (var c = 0u; c < 4u; c++) { slab_columns[(4u * depth + c) * PITCH + four] = x[c]; }
        }
        workgroupBarrier();
        for (var c = 0u; c < 16u; c++) {
            sum += outer(slab_rows[c * PITCH + local.y], slab_columns[c * PITCH + local.x]);
        }
    }
    return sum;
}

// Four elements of four rows, by element; zeros beyond the width.
fn elements(which: u32, at: Head, row: u32, d: u32, fours: u32) -> mat4x4<f32> {
    if (d >= fours) {
        return mat4x4<f32>();
    }
    return transpose(mat4x4<f32>(
        element4(which, at, row, d),
        element4(which, at, row + 1u, d),
        element4(which, at, row + 2u, d),
        element4(which, at, row + 3u, d),
    ));
}

// Adds to `sum` the vectors from `first` on, of the 32 columns of the tile, weighted. `chunk` is the first of 16 fours of `fours`.
fn add_weighted(sum: ptr<function, Sum>, weights: mat4x4<f32>, which: u32, at: Head, first: u32, chunk: u32, fours: u32, local: vec3<u32>) {
    let cell = local.y * 8u + local.x;
    var by_column = transpose(weights);
    workgroupBarrier();
    for (var c = 0u; c < 4u; c++) { shared_weights[(4u * local.x + c) * PITCH + local.y] = by_column[c]; }
    for (var half = 0u; half < 32u; half += 16u) {
        workgroupBarrier();
        for (var at_once = 0u; at_once < 4u; at_once++) {
            let slot = cell + 64u * at_once;
            let d = chunk + slot % 16u;
            var x = vec4<f32>();
            if (d < fours) { x = element4(which, at, first + half + slot / 16u, d); }
            slab_vectors[slot] = x;
        }
        workgroupBarrier();
        for (var c = 0u; c < 16u; c++) {
            let w = shared_weights[(half + c) * PITCH + local.y];
            (*sum).left += outer(w, slab_vectors[c * 16u + local.x]);
            (*sum).right += outer(w, slab_vectors[c * 16u + 8u + local.x]);
        }
    }
}

// Who of four queries and four keys see each other: bit 4 query + key.
fn sights(at: Head, i: u32, j: u32, tile: u32) -> u32 {
    if (tile == FULL && i + 4u <= p.queries && j + 4u <= p.keys) {
        return 0xffffu;
    }
    var bits = 0u;
    for (var n = 0u; n < 4u; n++) {
        bits |= bits4(sees4(at, i + n, j, tile)) << (4u * n);
    }
    return bits;
}

// Which weights dropout keeps, in the same bits.
fn keeps(at: Head, i: u32, j: u32) -> u32 {
    var bits = 0xffffu;
    if (HAS_DROPOUT) {
        bits = 0u;
        for (var n = 0u; n < 4u; n++) {
            bits |= bits4(kept4(at, i + n, j)) << (4u * n);
        }
    }
    return bits;
}

// The bits of one query, or of one key.
fn of_query(bits: u32, n: u32) -> vec4<bool> {
    return ((vec4<u32>(bits) >> vec4<u32>(4u * n)) & vec4<u32>(1u, 2u, 4u, 8u)) != vec4<u32>();
}

fn of_key(bits: u32, n: u32) -> vec4<bool> {
    return ((vec4<u32>(bits) >> vec4<u32>(n)) & vec4<u32>(1u, 16u, 256u, 4096u)) != vec4<u32>();
}

// What dropout multiplies weights by.
fn factor(kept: vec4<bool>) -> vec4<f32> {
    if (HAS_DROPOUT) {
        return select(vec4<f32>(), vec4<f32>(p.keep), kept);
    }
    return vec4<f32>(1.0);
}
