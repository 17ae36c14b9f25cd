// The norm of each row of x as in forward.wgsl, of layer and RMS norms, for software drivers, where a load costs as much as tens of
// operations: a subgroup of 8 lanes keeps a row in registers, and gain and bias for ROWS rows.

//#import common/norm_inputs.wgsl

override HELD: u32 = 32u; // fours of a row that a lane keeps, at most 32
override ROWS: u32 = 8u;

@compute @workgroup_size(8)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let fours = (p.cols + 3u) >> 2u;
    var gains: array<vec4<f32>, 32>;
    var biases: array<vec4<f32>, 32>;
    for (var n = 0u; n < HELD; n++) {
        let k = min(lane + 8u * n, fours - 1u);
        if (HAS_GAIN) { gains[n] = load4_gain(p.gain_offset + k); }
        if (HAS_BIAS) { biases[n] = load4_bias(p.bias_offset + k); }
    }
    let end = min(ROWS * group + ROWS, p.rows);
    for (var row = ROWS * group; row < end; row++) {
        var held: array<vec4<f32>, 32>;
        var total = vec4<f32>();
        for (var n = 0u; n < HELD; n++) {
            let k = lane + 8u * n;
            held[n] = x4(row, min(k, fours - 1u));
            total += real(held[n], n, k, fours);
        }
        var mean = 0.0;
        if (CENTRE) { mean = subgroupAdd(added(total)) / p.count; }
        var sums = vec4<f32>();
        var powers = vec4<f32>();
        for (var n = 0u; n < HELD; n++) {
            if (CENTRE) { held[n] -= mean; }
            let d = real(held[n], n, lane + 8u * n, fours);
            if (CENTRE) { sums += d; }
            powers += d * d;
        }
        var power = subgroupAdd(added(powers)) / p.divisor;
        var rest = 0.0;
        if (CENTRE) {
            rest = subgroupAdd(added(sums)) / p.count;
            power = max(power - rest * rest, 0.0);
        }
        let rstd = inverse_root(power + p.eps);
        let shift = rest * rstd;
        for (var n = 0u; n < HELD; n++) {
            let k = lane + 8u * n;
            var v = held[n] * rstd;
            if (CENTRE) { v -= shift; }
            if (HAS_GAIN) { v *= gains[n]; }
            if (HAS_BIAS) { v += biases[n]; }
            if (n + 1u < HELD || k < fours) { store4_y(row * fours + k, v); }
        }
        if (lane == 0u) { stats[row] = vec4<f32>(mean, rest, rstd, 0.0); }
    }
}

// The four, with zeros past the end of the row, which only the last may reach.
fn real(v: vec4<f32>, n: u32, k: u32, fours: u32) -> vec4<f32> {
    if (n + 1u < HELD) { return v; }
    return select(vec4<f32>(), kept(v, k), k < fours);
}
