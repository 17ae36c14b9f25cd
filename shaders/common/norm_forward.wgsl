// The body of norm/forward.wgsl and norm/add_forward.wgsl, which say where the fours of a row come from: `first4` in the first
// pass, `again4` in the others. LANES invocations work on one row.

override WORKGROUP: u32 = 256u;
override LANES: u32 = 32u; // a power of two that divides WORKGROUP, which is at most 256
override RMS: bool = false;
override HAS_GAIN: bool = true;
override HAS_BIAS: bool = true;
override X_ALIGNED: bool = true; // rows of x begin at multiples of four elements

struct Params {
    rows: u32,
    cols: u32,
    x_offset: u32,
    x_stride: u32,
    residual_offset: u32,
    residual_stride: u32,
    gain_offset: u32, // in fours
    bias_offset: u32, // in fours
    eps: f32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> stats: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x(i: u32) -> f32 { return x[i >> 2u][i & 3u]; }
fn load4_x(i: u32) -> vec4<f32> { return x[i]; }
fn load4_gain(i: u32) -> vec4<f32> { return gain[i]; }
fn load4_bias(i: u32) -> vec4<f32> { return bias[i]; }
fn store4_y(i: u32, v: vec4<f32>) { y[i] = v; }

//#import common/rows.wgsl
//#import common/quads.wgsl

fn x4(row: u32, k: u32) -> vec4<f32> {
    let start = p.x_offset + row * p.x_stride;
    if (X_ALIGNED) { return load4_x((start >> 2u) + k); }
    let i = four_of(start, k);
    return vec4<f32>(load_x(i.x), load_x(i.y), load_x(i.z), load_x(i.w));
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let lane = local % LANES;
    let row = group * (WORKGROUP / LANES) + local / LANES;
    let fours = (p.cols + 3u) >> 2u;
    let end = select(0u, fours, row < p.rows);

    var mean = 0.0;
    if (!RMS) {
        var total = vec4<f32>();
        for (var k = lane; k < end; k += LANES) {
            total += kept(first4(row, k), k);
        }
        mean = row_sum(added(total), local) / f32(p.cols);
    }
    // The rounding of the mean is corrected: it would count where a row is constant, or far from zero.
    var rests = vec4<f32>();
    var squares = vec4<f32>();
    for (var k = lane; k < end; k += LANES) {
        var v = vec4<f32>();
        if (RMS) { v = first4(row, k); } else { v = again4(row, k); }
        let d = kept(v - mean, k);
        rests += d;
        squares += d * d;
    }
    var variance = row_sum(added(squares), local) / f32(p.cols);
    if (!RMS) {
        let rest = row_sum(added(rests), local) / f32(p.cols);
        mean += rest;
        variance = max(variance - rest * rest, 0.0);
    }
    let rstd = 1.0 / sqrt(variance + p.eps);

    for (var k = lane; k < end; k += LANES) {
        var v = (again4(row, k) - mean) * rstd;
        if (HAS_GAIN) { v *= load4_gain(p.gain_offset + k); }
        if (HAS_BIAS) { v += load4_bias(p.bias_offset + k); }
        store4_y(row * fours + k, v);
    }
    if (lane == 0u && row < p.rows) {
        stats[2u * row] = mean;
        stats[2u * row + 1u] = rstd;
    }
}
