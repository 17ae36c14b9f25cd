// The gradient of softmax from its result y and the gradient dy of that, all [rows, cols]:
// dx = y (dy - sum(y dy)); with LOG, where y = log softmax: dx = dy - exp(y) sum(dy). LANES invocations work on one row.

override WORKGROUP: u32 = 256u;
override LANES: u32 = 32u; // a power of two that divides WORKGROUP, which is at most 256
override LOG: u32 = 0u;

struct Params {
    rows: u32,
    cols: u32,
    y_offset: u32,
    dy_offset: u32,
}

@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
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
    let base = row * p.cols;
    let cols = select(0u, p.cols, row < p.rows);

    var sum = 0.0;
    for (var k = base + lane; k < base + cols; k += LANES) {
        sum += dy[p.dy_offset + k] * select(y[p.y_offset + k], 1.0, LOG != 0u);
    }
    sum = row_sum(sum, local);

    for (var k = base + lane; k < base + cols; k += LANES) {
        let result = y[p.y_offset + k];
        let gradient = dy[p.dy_offset + k];
        if (LOG != 0u) {
            dx[k] = gradient - exp(result) * sum;
        } else {
            dx[k] = result * (gradient - sum);
        }
    }
}
