// A sparse matrix along the middle dimension of x [outer, size, inner], by rows:
//
//   y[o, i, c] = sum over e in starts[i]..starts[i + 1] of weights[e] x[o, sources[e], c]
//
// Average pooling and interpolation are such matrices, one for each dimension, and their gradients the transposed ones. With PICKED,
// the weight is 1 where chosen[o, sources[e], c] is i, and 0 elsewhere: the gradient of resample/highest.
// An invocation makes four neighbours.

override PICKED: bool = false;

const WORKGROUP: u32 = 64u;

struct Params {
    count: u32, // elements of y
    size: u32,
    rows: u32, // of the matrix
    inner: u32,
    x_offset: u32,
    chosen_offset: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> starts: array<u32>;
@group(0) @binding(2) var<storage, read> sources: array<u32>;
@group(0) @binding(3) var<storage, read> weights: array<f32>;
@group(0) @binding(4) var<storage, read> chosen: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn element(at: u32) -> f32 {
    let line = at / p.inner;
    let column = at - line * p.inner;
    let outer = line / p.rows;
    let row = line - outer * p.rows;
    let first = outer * p.size * p.inner + column;
    var sum = 0.0;
    for (var e = starts[row]; e < starts[row + 1u]; e++) {
        let source = first + sources[e] * p.inner;
        if (PICKED) {
            if (chosen[p.chosen_offset + source] == row) { sum += x[p.x_offset + source]; }
        } else {
            sum += weights[e] * x[p.x_offset + source];
        }
    }
    return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    if (4u * i < p.count) {
        var v = vec4<f32>();
        for (var lane = 0u; lane < 4u; lane++) {
            if (4u * i + lane < p.count) { v[lane] = element(4u * i + lane); }
        }
        y[i] = v;
    }
}
