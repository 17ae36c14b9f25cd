// The operands of a matrix product and where their matrices lie: c = a b + bias for every matrix of a batch.
// a: [m, k], b: [k, n] with any strides, so that transposed and broadcast views are read in place. Sums are in f32.
// The batch has two dimensions, of which `inner` is the size of the inner one, so that attention heads [batch, heads]
// need no copy. `bias` may run along columns or rows, and is only read where the override HAS_BIAS is 1.

override HAS_BIAS: u32 = 0u;

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
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_a(i: u32) -> f32 { return a[i]; }
fn load_b(i: u32) -> f32 { return b[i]; }
fn load_bias(i: u32) -> f32 { return bias[i]; }

fn a_matrix(matrix: u32) -> u32 {
    return p.a_start + (matrix / p.inner) * p.a_outer + (matrix % p.inner) * p.a_inner;
}

fn b_matrix(matrix: u32) -> u32 {
    return p.b_start + (matrix / p.inner) * p.b_outer + (matrix % p.inner) * p.b_inner;
}

fn store(matrix: u32, row: u32, column: u32, value: f32) {
    if (row < p.m && column < p.n) {
        var sum = value;
        if (HAS_BIAS == 1u) {
            sum += load_bias(p.bias_start + row * p.bias_row + column * p.bias_column);
        }
        c[matrix * p.c_matrix + row * p.c_row + column * p.c_column] = sum;
    }
}

fn store4(matrix: u32, row: u32, column: u32, value: vec4<f32>) {
    store(matrix, row, column, value.x);
    store(matrix, row, column + 1u, value.y);
    store(matrix, row, column + 2u, value.z);
    store(matrix, row, column + 3u, value.w);
}
