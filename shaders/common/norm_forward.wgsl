// The body of the forwards in norm/, which say where the fours of a row come from: `first4` in the first pass, `again4` in the
// others. LANES invocations work on one row.

override WORKGROUP: u32 = 256u;
override LANES: u32 = 32u; // a power of two that divides WORKGROUP, which is at most 256
override SAFE: bool = false; // elements are divided by the largest before they are raised to the power

//#import common/norm_inputs.wgsl
//#import common/rows.wgsl

const LEAST: f32 = 1e-37; // its reciprocal is finite

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
