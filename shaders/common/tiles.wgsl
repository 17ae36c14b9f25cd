// Attention by workgroups of 8 x 8 invocations: 32 rows against 32 columns, 4 x 4 to an invocation. Rows are queries and columns keys,
// or the other way round; `local.y` counts fours of rows, `local.x` fours of columns. The file that imports this has
//
//   fn element4(which: u32, at: Head, row: u32, d: u32) -> vec4<f32>
//
// which loads four elements of a row of the tensor `which`.
// A matrix of an invocation has its rows as columns of a mat4x4: m[r] are the four columns of row r.

//#import common/sights.wgsl

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
