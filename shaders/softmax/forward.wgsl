// Along each row of x [rows, cols]: y = exp(x - max) / sum(exp(x - max)), or with LOG its logarithm. y has the shape of x.
// Elements of -inf get 0 (LOG: stay below every finite number); a row of them alone gets zeros (LOG: the elements themselves).
//
// LANES invocations work on one row, each on every LANES-th element, in three passes (maximum, sum, result). The second and third
// find the row in the cache.

override WORKGROUP: u32 = 256u;
override LANES: u32 = 32u; // a power of two that divides WORKGROUP, which is at most 256
override LOG: u32 = 0u;

struct Params {
    rows: u32,
    cols: u32,
    offset: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x(i: u32) -> f32 { return x[i]; }

//#import common/rows.wgsl

const LOWEST: f32 = -3e38;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let lane = local % LANES;
    let row = group * (WORKGROUP / LANES) + local / LANES;
    let base = p.offset + row * p.cols;
    let cols = select(0u, p.cols, row < p.rows);

    var highest = LOWEST;
    for (var k = lane; k < cols; k += LANES) {
        highest = max(highest, load_x(base + k));
    }
    highest = row_max(highest, local);
    let masked = highest < -1e38;

    var sum = 0.0;
    for (var k = lane; k < cols; k += LANES) {
        sum += exp(max(load_x(base + k), LOWEST) - highest);
    }
    sum = row_sum(sum, local);
    let scale = select(1.0 / sum, 0.0, masked);
    // Subtracted one after the other: their sum would lose the digits of the logarithm where logits are large.
    let shift = select(highest, 0.0, masked);
    let log_sum = select(log(sum), 0.0, masked);

    for (var k = lane; k < cols; k += LANES) {
        let v = load_x(base + k);
        if (LOG != 0u) {
            y[row * p.cols + k] = (v - shift) - log_sum;
        } else {
            y[row * p.cols + k] = exp(max(v, LOWEST) - highest) * scale;
        }
    }
}
