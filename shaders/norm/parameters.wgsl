// The gradients of a norm's gain and bias, for parts of the rows: of `splits` parts, with xhat = (x - mean - rest) rstd,
//
//   parts[0, s, c] = sum over the rows of part s of dy xhat
//   parts[1, s, c] = sum over the rows of part s of dy
//
// x, dy: [rows, cols]; stats: [rows, 4]; parts: [2, splits, cols rounded up to fours], which a fold adds up. One invocation for
// each part and four columns: neighbours read neighbouring columns.

override WORKGROUP: u32 = 256u;
override X_ALIGNED: bool = true; // rows begin at multiples of four elements
override DY_ALIGNED: bool = true;

struct Params {
    cols: u32,
    rows: u32,
    x_offset: u32,
    x_stride: u32,
    dy_offset: u32,
    dy_stride: u32,
    splits: u32,
    chunk: u32, // rows of one part; the last may be shorter
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> stats: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> parts: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x(i: u32) -> f32 { return x[i >> 2u][i & 3u]; }
fn load4_x(i: u32) -> vec4<f32> { return x[i]; }
fn load_dy(i: u32) -> f32 { return dy[i >> 2u][i & 3u]; }
fn load4_dy(i: u32) -> vec4<f32> { return dy[i]; }

//#import common/quads.wgsl

fn x4(row: u32, k: u32) -> vec4<f32> {
    let start = p.x_offset + row * p.x_stride;
    if (X_ALIGNED) { return load4_x((start >> 2u) + k); }
    let i = four_of(start, k);
    return vec4<f32>(load_x(i.x), load_x(i.y), load_x(i.z), load_x(i.w));
}

fn dy4(row: u32, k: u32) -> vec4<f32> {
    let start = p.dy_offset + row * p.dy_stride;
    if (DY_ALIGNED) { return load4_dy((start >> 2u) + k); }
    let i = four_of(start, k);
    return vec4<f32>(load_dy(i.x), load_dy(i.y), load_dy(i.z), load_dy(i.w));
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let i = group * WORKGROUP + local;
    let fours = (p.cols + 3u) >> 2u;
    if (i < p.splits * fours) {
        let k = i % fours;
        let start = i / fours * p.chunk;
        let end = min(start + p.chunk, p.rows);
        var gain = vec4<f32>();
        var bias = vec4<f32>();
        for (var row = start; row < end; row++) {
            let of_row = stats[row];
            let gradient = dy4(row, k);
            gain += gradient * (((x4(row, k) - of_row.x) - of_row.y) * of_row.z);
            bias += gradient;
        }
        parts[i] = gain;
        parts[p.splits * fours + i] = bias;
    }
}
