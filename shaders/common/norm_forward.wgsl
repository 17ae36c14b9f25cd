// The body of the forwards in norm/, which say where the fours of a row come from: `first4` in the first pass, `again4` in the
// others. LANES invocations work on one row.

override WORKGROUP: u32 = 256u;
override LANES: u32 = 32u; // a power of two that divides WORKGROUP, which is at most 256
override SAFE: bool = false; // elements are divided by the largest before they are raised to the power
override HAS_GAIN: bool = true;
override HAS_BIAS: bool = true;
override X_ALIGNED: bool = true; // rows of x begin at multiples of four elements

const LEAST: f32 = 1e-37; // its reciprocal is finite

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
    root: f32, // eps^(1 / power)
    counted: u32,
    rest: f32,
    count: f32, // of elements, for the mean
    divisor: f32, // of the sum of powers
    power: f32,
    seed_low: u32, // from here on: of dropout
    seed_high: u32,
    draw_low: u32,
    draw_high: u32,
    threshold: u32,
    keep: f32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> stats: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x(i: u32) -> f32 { return x[i >> 2u][i & 3u]; }
fn load4_x(i: u32) -> vec4<f32> { return x[i]; }
fn load4_gain(i: u32) -> vec4<f32> { return gain[i]; }
fn load4_bias(i: u32) -> vec4<f32> { return bias[i]; }
fn store4_y(i: u32, v: vec4<f32>) { y[i] = v; }

//#import common/norm_row.wgsl

fn x4(row: u32, k: u32) -> vec4<f32> {
    let start = p.x_offset + row * p.x_stride;
    if (X_ALIGNED) { return load4_x((start >> 2u) + k); }
    let i = four_of(start, k);
    return vec4<f32>(load_x(i.x), load_x(i.y), load_x(i.z), load_x(i.w));
}

// total^(-1 / power); 0 where there is nothing to divide by.
fn inverse_root(total: f32) -> f32 {
    var root = 0.0;
    if (SQUARES) { root = 1.0 / sqrt(total); } else { root = pow_(vec4<f32>(total), vec4<f32>(-1.0 / p.power)).x; }
    return select(0.0, root, total > 0.0);
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
    if (CENTRE) {
        var total = vec4<f32>();
        for (var k = lane; k < end; k += LANES) {
            let v = counted(first4(row, k), k);
            // The sum of large elements may overflow where their mean does not.
            if (SAFE) { total += v / p.count; } else { total += v; }
        }
        mean = row_sum(added(total), local);
        if (!SAFE) { mean /= p.count; }
    }

    // What the rounded mean leaves of the sum. It is subtracted too: it counts where a row is constant, or far from zero.
    var rest = 0.0;
    var per_unit = 1.0;
    if (SAFE) {
        var rests = vec4<f32>();
        var highest = 0.0;
        for (var k = lane; k < end; k += LANES) {
            var v = vec4<f32>();
            if (CENTRE) { v = again4(row, k); } else { v = first4(row, k); }
            let d = v - mean;
            rests += counted(d, k) / p.count;
            var size = kept(abs(d), k);
            if (PART) { size = select(vec4<f32>(0.0), size, shares(k) > vec4<f32>(0.0)); }
            highest = max(highest, highest_of(size));
        }
        if (CENTRE) { rest = row_sum(added(rests), local); }
        per_unit = 1.0 / max(row_max(highest, local), max(p.root, LEAST));
    }

    var sums = vec4<f32>();
    var powers = vec4<f32>();
    for (var k = lane; k < end; k += LANES) {
        var v = vec4<f32>();
        if (CENTRE || SAFE) { v = again4(row, k); } else { v = first4(row, k); }
        var d = v;
        if (CENTRE) { d -= mean; }
        if (SAFE) { d = (d - rest) * per_unit; }
        if (CENTRE || CLOSED) { sums += counted(d, k); }
        powers += counted(raised(d), k);
    }
    var power = row_sum(added(powers), local) / p.divisor;
    if (CENTRE && !SAFE) {
        rest = row_sum(added(sums), local) / p.count;
        power = max(power - rest * rest, 0.0);
    }
    var whole = 0.0;
    if (CLOSED) {
        whole = row_sum(added(sums), local);
        power += whole * whole / p.divisor;
        whole /= per_unit;
    }
    // In units of the largest element. As one factor with per_unit it may be too small for a device that flushes denormals.
    var rstd = 1.0;
    if (SCALE) {
        var eps = p.eps;
        if (SAFE) { eps = raised(vec4<f32>(p.root * per_unit)).x; }
        rstd = inverse_root(power + eps);
    }

    for (var k = lane; k < end; k += LANES) {
        var v = again4(row, k);
        if (CENTRE) { v = (v - mean) - rest; }
        if (SCALE && SAFE) { v *= per_unit; }
        if (SCALE) { v *= rstd; }
        if (HAS_GAIN) { v *= load4_gain(p.gain_offset + k); }
        if (HAS_BIAS) { v += load4_bias(p.bias_offset + k); }
        store4_y(row * fours + k, v);
    }
    if (lane == 0u && row < p.rows) {
        if (SCALE) { rstd *= per_unit; }
        stats[row] = vec4<f32>(mean, rest, rstd, whole * rstd);
    }
}
