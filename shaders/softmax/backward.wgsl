// The gradient of softmax from its result y and the gradient dy of that, all [rows, cols]: dx = scale y (dy - sum(y dy)), where
// masked elements have y = 0; with LOG, where y = log softmax: dx = dy - exp(y) sum(dy). Rows of dx are rounded up to fours.
// LANES invocations work on one row.

override WORKGROUP: u32 = 256u;
override LANES: u32 = 32u; // a power of two that divides WORKGROUP, which is at most 256
override LOG: bool = false;
override Y_ALIGNED: bool = true; // rows begin at multiples of four elements
override DY_ALIGNED: bool = true;

struct Params {
    rows: u32,
    cols: u32,
    y_offset: u32,
    y_stride: u32,
    dy_offset: u32,
    dy_stride: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read> y: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dx: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_y(i: u32) -> f32 { return y[i >> 2u][i & 3u]; }
fn load4_y(i: u32) -> vec4<f32> { return y[i]; }
fn load_dy(i: u32) -> f32 { return dy[i >> 2u][i & 3u]; }
fn load4_dy(i: u32) -> vec4<f32> { return dy[i]; }
fn store4_dx(i: u32, v: vec4<f32>) { dx[i] = v; }

//#import common/rows.wgsl
//#import common/quads.wgsl
//#import common/exp.wgsl

fn y4(row: u32, k: u32) -> vec4<f32> {
    let start = p.y_offset + row * p.y_stride;
    if (Y_ALIGNED) { return load4_y((start >> 2u) + k); }
    let i = four_of(start, k);
    return vec4<f32>(load_y(i.x), load_y(i.y), load_y(i.z), load_y(i.w));
}

fn dy4(row: u32, k: u32) -> vec4<f32> {
    let start = p.dy_offset + row * p.dy_stride;
    if (DY_ALIGNED) { return load4_dy((start >> 2u) + k); }
    let i = four_of(start, k);
    return vec4<f32>(load_dy(i.x), load_dy(i.y), load_dy(i.z), load_dy(i.w));
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

    var sums = vec4<f32>();
    for (var k = lane; k < end; k += LANES) {
        var v = dy4(row, k);
        if (!LOG) { v *= y4(row, k); }
        sums += kept(v, k);
    }
    let sum = row_sum(added(sums), local);

    for (var k = lane; k < end; k += LANES) {
        let result = y4(row, k);
        if (LOG) {
            store4_dx(row * fours + k, dy4(row, k) - exp_below(result) * sum);
        } else {
            store4_dx(row * fours + k, p.scale * (result * (dy4(row, k) - sum)));
        }
    }
}
