// The gradient of layer norm (with RMS: of root-mean-square norm) with respect to x, row by row. With xhat = (x - mean) rstd and
// u = dy gain:
//
//   dx = rstd (u - mean(u) - xhat mean(u xhat))          (RMS: without mean(u))
//
// x, dy, dx: [rows, cols]; gain: [cols], or absent; stats: [rows, 2]. LANES invocations work on one row.

override WORKGROUP: u32 = 256u;
override LANES: u32 = 32u; // a power of two that divides WORKGROUP, which is at most 256
override RMS: u32 = 0u;
override HAS_GAIN: u32 = 1u;

struct Params {
    rows: u32,
    cols: u32,
    x_offset: u32,
    gain_offset: u32,
    dy_offset: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> gain: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read> stats: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

//#import common/rows.wgsl

fn upstream(row: u32, k: u32) -> f32 {
    let v = dy[p.dy_offset + row * p.cols + k];
    if (HAS_GAIN == 0u) { return v; }
    return v * gain[p.gain_offset + k];
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
    let base = p.x_offset + row * p.cols;
    let cols = select(0u, p.cols, row < p.rows);
    var mean = 0.0;
    var rstd = 0.0;
    if (row < p.rows) {
        mean = stats[2u * row];
        rstd = stats[2u * row + 1u];
    }

    var sum = 0.0;
    var product = 0.0;
    for (var k = lane; k < cols; k += LANES) {
        let u = upstream(row, k);
        sum += u;
        product += u * (x[base + k] - mean) * rstd;
    }
    product = row_sum(product, local) / f32(p.cols);
    if (RMS == 0u) {
        sum = row_sum(sum, local) / f32(p.cols);
    } else {
        sum = 0.0;
    }

    for (var k = lane; k < cols; k += LANES) {
        let normalised = (x[base + k] - mean) * rstd;
        dx[row * p.cols + k] = rstd * (upstream(row, k) - sum - normalised * product);
    }
}
