// The gradients of a norm's gain and bias, for parts of the rows: of `splits` parts, with xhat = (x - mean) rstd,
//
//   parts[0, s, c] = sum over the rows of part s of dy xhat
//   parts[1, s, c] = sum over the rows of part s of dy
//
// x, dy: [rows, cols]; stats: [rows, 2]; parts: [2, splits, cols], which a fold adds up. One invocation for each part and column:
// neighbours read neighbouring columns.

override WORKGROUP: u32 = 256u;

struct Params {
    rows: u32,
    cols: u32,
    x_offset: u32,
    dy_offset: u32,
    splits: u32,
    chunk: u32, // rows of one part; the last may be shorter
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> stats: array<f32>;
@group(0) @binding(3) var<storage, read_write> parts: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let i = group * WORKGROUP + local;
    if (i < p.splits * p.cols) {
        let column = i % p.cols;
        let start = i / p.cols * p.chunk;
        let end = min(start + p.chunk, p.rows);
        var gain = 0.0;
        var bias = 0.0;
        for (var row = start; row < end; row++) {
            let at = row * p.cols + column;
            let gradient = dy[p.dy_offset + at];
            gain += gradient * (x[p.x_offset + at] - stats[2u * row]) * stats[2u * row + 1u];
            bias += gradient;
        }
        parts[i] = gain;
        parts[p.splits * p.cols + i] = bias;
    }
}
