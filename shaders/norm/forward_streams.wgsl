// The norm of each row of x as in forward.wgsl, of layer and RMS norms of long rows, for software drivers, where a load costs as much as tens
// of operations: two passes, of which the second reads gain and bias once for ROWS rows.
//
// The first pass takes pieces of a row of PIECE fours a lane. The sums of a piece are taken about a pivot, which is the mean of the row's
// first piece, and the squares about the mean of the piece itself; pieces are put together as by Chan, Golub and LeVeque ("Algorithms for computing
// the sample variance", 1983). So neither a large mean nor an outlier costs digits. The pivot is the mean that is saved, what is left of the
// mean is its rest.

//#import common/norm_inputs.wgsl

const ROWS = 8u;
const PIECE = 8u;

@compute @workgroup_size(8)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let fours = (p.cols + 3u) >> 2u;
    let first = ROWS * group;
    var found: array<vec3<f32>, ROWS>;
    // Rows one by one: with a bound that is known the driver would unroll all of this.
    let rows = min(ROWS, p.rows - min(first, p.rows));
    for (var r = 0u; r < rows; r++) {
        let row = first + r;
        var pivot = 0.0;
        var count = 0.0; // of elements so far
        var sum = 0.0; // of their distances from the pivot
        var squares = 0.0; // about their own mean
        for (var start = 0u; start < fours; start += 8u * PIECE) {
            var held: array<vec4<f32>, PIECE>;
            var total = vec4<f32>();
            for (var n = 0u; n < PIECE; n++) {
                let k = start + 8u * n + lane;
                held[n] = real(x4(row, min(k, fours - 1u)), start, k);
                total += held[n];
            }
            let many = f32(min(p.cols - 4u * start, 32u * PIECE));
            if (CENTRE) {
                let mean = subgroupAdd(added(total)) / many;
                if (start == 0u) { pivot = mean; }
                // About the mean of the piece, whose own rounding is taken out again.
                var off = vec4<f32>();
                var powers = vec4<f32>();
                for (var n = 0u; n < PIECE; n++) {
                    let d = real(held[n] - mean, start, start + 8u * n + lane);
                    off += d;
                    powers += d * d;
                }
                let rest = subgroupAdd(added(off)) / many;
                let own = max(subgroupAdd(added(powers)) - many * rest * rest, 0.0);
                let distance = (mean - pivot) + rest;
                if (start == 0u) {
                    squares = own;
                    sum = many * distance;
                } else {
                    let apart = distance - sum / count;
                    squares += own + apart * apart * (count / (count + many)) * many;
                    sum += many * distance;
                }
                count += many;
            } else {
                var powers = vec4<f32>();
                for (var n = 0u; n < PIECE; n++) { powers += held[n] * held[n]; }
                squares += added(powers);
            }
        }
        if (!CENTRE) { squares = subgroupAdd(squares); }
        let scale = inverse_root(squares / p.divisor + p.eps);
        found[r] = vec3<f32>(pivot, sum / p.count, scale);
        if (lane == 0u) { stats[row] = vec4<f32>(found[r], 0.0); }
    }
    // Read out of memory once, by constant indices.
    var own: array<vec3<f32>, ROWS>;
    for (var r = 0u; r < ROWS; r++) { own[r] = found[r]; }
    for (var k = lane; k < fours; k += 8u) {
        var gain4 = vec4<f32>(1.0);
        var bias4 = vec4<f32>();
        if (HAS_GAIN) { gain4 = load4_gain(p.gain_offset + k); }
        if (HAS_BIAS) { bias4 = load4_bias(p.bias_offset + k); }
        for (var r = 0u; r < ROWS; r++) {
            let row = min(first + r, p.rows - 1u);
            var v = ((x4(row, k) - own[r].x) - own[r].y) * own[r].z;
            if (HAS_GAIN) { v *= gain4; }
            if (HAS_BIAS) { v += bias4; }
            if (r < rows) { store4_y(row * fours + k, v); }
        }
    }
}

// The four, with zeros past the end of the row, which only the last piece may reach.
fn real(v: vec4<f32>, start: u32, k: u32) -> vec4<f32> {
    if (4u * (start + 8u * PIECE) <= p.cols) { return v; }
    return select(vec4<f32>(), v, inside(k));
}
