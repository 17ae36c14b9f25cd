// The gradient of running products y along each row of x [rows, cols], without division, so that factors of 0 are no exception:
//
//   G_k = dy_k + x_{k+1} G_{k+1},   dx_k = y_{k-1} G_k
//
// One invocation for each row; a tail of the row depends on all that follows.

override WORKGROUP: u32 = 64u;

struct Params {
    rows: u32,
    cols: u32,
    x_offset: u32,
    y_offset: u32,
    dy_offset: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    if (row < p.rows) {
        let base = row * p.cols;
        var later = 0.0;
        for (var left = p.cols; left > 0u; left--) {
            let at = base + left - 1u;
            let total = dy[p.dy_offset + at] + later;
            var before = 1.0;
            if (left > 1u) { before = y[p.y_offset + at - 1u]; }
            dx[at] = before * total;
            later = x[p.x_offset + at] * total;
        }
    }
}
