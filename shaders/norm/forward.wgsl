// Layer norm of each row of x [rows, cols]: y = (x - mean) * rstd * gain + bias, rstd = 1 / sqrt(variance + eps), variance biased.
// With RMS root-mean-square norm: mean = 0, and the mean of squares is the variance. gain, bias: [cols], or absent.
// stats: [rows, 2] with mean and rstd, for the backward.
//
// LANES invocations work on one row, in passes over it: mean, variance about that mean, result. All but the first find the row
// in the cache. Sources: Ba, Kiros, Hinton 2016 (arXiv:1607.06450); Zhang, Sennrich 2019 (arXiv:1910.07467).

override WORKGROUP: u32 = 256u;
override LANES: u32 = 32u; // a power of two that divides WORKGROUP, which is at most 256
override RMS: u32 = 0u;
override HAS_GAIN: u32 = 1u;
override HAS_BIAS: u32 = 1u;

struct Params {
    rows: u32,
    cols: u32,
    x_offset: u32,
    gain_offset: u32,
    bias_offset: u32,
    eps: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> gain: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> stats: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

//#import common/rows.wgsl

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let lane = local % LANES;
    let row = group * (WORKGROUP / LANES) + local / LANES;
    let base = p.x_offset + row * p.cols;
    let cols = select(0u, p.cols, row < p.rows);

    var mean = 0.0;
    if (RMS == 0u) {
        for (var k = lane; k < cols; k += LANES) {
            mean += x[base + k];
        }
        mean = row_sum(mean, local) / f32(p.cols);
    }
    // The rounding of the mean is corrected: it would count where a row is constant, or far from zero.
    var rest = 0.0;
    var squares = 0.0;
    for (var k = lane; k < cols; k += LANES) {
        let d = x[base + k] - mean;
        rest += d;
        squares += d * d;
    }
    squares = row_sum(squares, local) / f32(p.cols);
    if (RMS == 0u) {
        rest = row_sum(rest, local) / f32(p.cols);
        mean += rest;
        squares = max(squares - rest * rest, 0.0);
    }
    let rstd = 1.0 / sqrt(squares + p.eps);

    for (var k = lane; k < cols; k += LANES) {
        var v = (x[base + k] - mean) * rstd;
        if (HAS_GAIN != 0u) { v *= gain[p.gain_offset + k]; }
        if (HAS_BIAS != 0u) { v += bias[p.bias_offset + k]; }
        y[row * p.cols + k] = v;
    }
    if (lane == 0u && row < p.rows) {
        stats[2u * row] = mean;
        stats[2u * row + 1u] = rstd;
    }
}
