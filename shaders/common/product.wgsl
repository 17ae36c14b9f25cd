// The frame of the matrix product kernels: for every matrix of a batch
//
//     c = activation(z) + residual,   z = scale a b + bias,   a: [m, k], b: [k, n], sums in f32.
//
// Operands are read in place through strides, also transposed and broadcast ones. The batch has two dimensions, of which
// `inner` is the size of the inner one, so that attention heads [batch, heads] need no copy. A product may be cut into `slices`
// along k, of `depth` each: then c gets the bare sums, one result after another, and matmul/finish.wgsl adds them up.

//#import common/activation.wgsl

override HAS_BIAS: u32 = 0u;
override HAS_RESIDUAL: u32 = 0u;
override ACTIVATION: u32 = 0u; // as in common/activation.wgsl, 0 for none
override KEEP: u32 = 0u; // 1: z is stored too; the derivative of the activation needs it
override PARTIAL: u32 = 0u; // 1: c gets bare sums
override STORE: u32 = 1u; // consecutive columns that are stored at once: 4 or 2 where n is a multiple, 1 for any strides of c

struct Params {
    m: u32,
    n: u32,
    k: u32,
    batch: u32,
    inner: u32,
    // Of each operand: index of the first element, strides of the outer and inner batch dimension, of rows, of columns.
    a_start: u32,
    a_outer: u32,
    a_inner: u32,
    a_row: u32,
    a_column: u32,
    b_start: u32,
    b_outer: u32,
    b_inner: u32,
    b_row: u32,
    b_column: u32,
    c_matrix: u32,
    c_row: u32,
    c_column: u32,
    bias_start: u32,
    bias_row: u32,
    bias_column: u32,
    residual_start: u32, // the residual lies as c does
    slices: u32,
    depth: u32,
    c_slice: u32,
    scale: f32,
    words_start: u32, // of a packed b (common/packed.wgsl)
}

@group(0) @binding(0) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> residual: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> z: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_bias(i: u32) -> f32 { return bias[i >> 2u][i & 3u]; }
fn load_residual(i: u32) -> f32 { return residual[i >> 2u][i & 3u]; }
fn load4_residual(i: u32) -> vec4<f32> { return residual[i]; }
fn store_c(i: u32, v: f32) { c[i >> 2u][i & 3u] = v; }
fn store2_c(i: u32, v: vec2<f32>) { let w = 2u * (i & 1u); c[i >> 1u][w] = v.x; c[i >> 1u][w + 1u] = v.y; }
fn store4_c(i: u32, v: vec4<f32>) { c[i] = v; }
fn store_z(i: u32, v: f32) { z[i >> 2u][i & 3u] = v; }
fn store2_z(i: u32, v: vec2<f32>) { let w = 2u * (i & 1u); z[i >> 1u][w] = v.x; z[i >> 1u][w + 1u] = v.y; }
fn store4_z(i: u32, v: vec4<f32>) { z[i] = v; }

// Which part of the work a workgroup has.
struct Place {
    slice: u32,
    matrix: u32,
    row: u32,
    column: u32,
    first: u32, // of its slice of k
    end: u32,
}

// Of workgroup `group`, which computes `rows` x `columns` results; it has work if slice < p.slices. Panels of eight blocks of rows
// share their columns of b while those are in the cache.
fn place_of(group: u32, rows: u32, columns: u32) -> Place {
    let blocks_m = (p.m + rows - 1u) / rows;
    let blocks_n = (p.n + columns - 1u) / columns;
    let blocks = blocks_m * blocks_n;
    let block = group % blocks;
    let panel = block / (8u * blocks_n);
    let height = min(8u, blocks_m - 8u * panel);
    let in_panel = block - panel * 8u * blocks_n;
    let slice = group / blocks / p.batch;
    let first = slice * p.depth;
    return Place(
        slice,
        group / blocks % p.batch,
        (8u * panel + in_panel % height) * rows,
        in_panel / height * columns,
        first,
        min(first + p.depth, p.k),
    );
}

fn a_matrix(matrix: u32) -> u32 {
    return p.a_start + (matrix / p.inner) * p.a_outer + (matrix % p.inner) * p.a_inner;
}

fn b_matrix(matrix: u32) -> u32 {
    return p.b_start + (matrix / p.inner) * p.b_outer + (matrix % p.inner) * p.b_inner;
}

fn put_c(at: u32, step: u32, count: u32, v: vec4<f32>) {
    if (STORE == 4u) {
        store4_c(at >> 2u, v);
    } else if (STORE == 2u) {
        store2_c(at >> 1u, v.xy);
        if (count > 2u) { store2_c((at >> 1u) + 1u, v.zw); }
    } else {
        store_c(at, v.x);
        if (count > 1u) { store_c(at + step, v.y); }
        if (count > 2u) { store_c(at + 2u * step, v.z); }
        if (count > 3u) { store_c(at + 3u * step, v.w); }
    }
}

fn put_z(at: u32, step: u32, count: u32, v: vec4<f32>) {
    if (STORE == 4u) {
        store4_z(at >> 2u, v);
    } else if (STORE == 2u) {
        store2_z(at >> 1u, v.xy);
        if (count > 2u) { store2_z((at >> 1u) + 1u, v.zw); }
    } else {
        store_z(at, v.x);
        if (count > 1u) { store_z(at + step, v.y); }
        if (count > 2u) { store_z(at + 2u * step, v.z); }
        if (count > 3u) { store_z(at + 3u * step, v.w); }
    }
}

// Finishes and stores the sums of four columns of a row, as far as they exist.
fn store4(at: Place, row: u32, column: u32, sum: vec4<f32>) {
    if (row < p.m && column < p.n) {
        let first = at.matrix * p.c_matrix + row * p.c_row + column * p.c_column;
        let count = min(p.n - column, 4u);
        if (PARTIAL == 1u) {
            put_c(at.slice * p.c_slice + first, p.c_column, count, sum);
        } else {
            let others = min(vec3<u32>(1u, 2u, 3u), vec3<u32>(count - 1u));
            var v = p.scale * sum;
            if (HAS_BIAS == 1u) {
                let i = p.bias_start + row * p.bias_row + column * p.bias_column;
                let j = vec3<u32>(i) + others * p.bias_column;
                v += vec4<f32>(load_bias(i), load_bias(j.x), load_bias(j.y), load_bias(j.z));
            }
            if (KEEP == 1u) {
                put_z(first, p.c_column, count, v);
            }
            v = activation(ACTIVATION, v);
            if (HAS_RESIDUAL == 1u) {
                let i = p.residual_start + first;
                if (STORE == 4u) {
                    v += load4_residual(i >> 2u);
                } else {
                    let j = vec3<u32>(i) + others * p.c_column;
                    v += vec4<f32>(load_residual(i), load_residual(j.x), load_residual(j.y), load_residual(j.z));
                }
            }
            put_c(first, p.c_column, count, v);
        }
    }
}
