// The gradients of drop_add_forward.wgsl: dx, of the sum and so of the residual, as in backward.wgsl, and through [rows, cols], of
// what went through dropout, by the same mask. Rows of both are rounded up to fours.

//#import common/norm_backward.wgsl

@group(0) @binding(6) var<storage, read_write> through: array<vec4<f32>>;

fn store4_through(i: u32, v: vec4<f32>) { through[i] = v; }

fn put4(row: u32, k: u32, v: vec4<f32>) {
    let i = row * ((p.cols + 3u) >> 2u) + k;
    store4_dx(i, v);
    store4_through(i, dropped(v, row, k));
}
