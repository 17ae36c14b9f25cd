// The gradient of layer norm (with RMS: of root-mean-square norm) with respect to x, row by row. With xhat = (x - mean) rstd and
// u = dy gain:
//
//   dx = rstd (u - mean(u) - xhat mean(u xhat))          (RMS: without mean(u))
//
// plus `extra`, another gradient of x, where there is one. x, dy, extra, dx: [rows, cols], rows of dx rounded up to fours;
// gain: [cols], or absent; stats: [rows, 2]. LANES invocations work on one row.

override WORKGROUP: u32 = 256u;
override LANES: u32 = 32u; // a power of two that divides WORKGROUP, which is at most 256
override RMS: bool = false;
override HAS_GAIN: bool = true;
override HAS_EXTRA: bool = false;
override X_ALIGNED: bool = true; // rows begin at multiples of four elements
override DY_ALIGNED: bool = true;
override EXTRA_ALIGNED: bool = true;

struct Params {
    rows: u32,
    cols: u32,
    x_offset: u32,
    x_stride: u32,
    dy_offset: u32,
    dy_stride: u32,
    extra_offset: u32,
    extra_stride: u32,
    gain_offset: u32, // in fours
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> extra: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> stats: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x(i: u32) -> f32 { return x[i >> 2u][i & 3u]; }
fn load4_x(i: u32) -> vec4<f32> { return x[i]; }
fn load4_gain(i: u32) -> vec4<f32> { return gain[i]; }
fn load_dy(i: u32) -> f32 { return dy[i >> 2u][i & 3u]; }
fn load4_dy(i: u32) -> vec4<f32> { return dy[i]; }
fn load_extra(i: u32) -> f32 { return extra[i >> 2u][i & 3u]; }
fn load4_extra(i: u32) -> vec4<f32> { return extra[i]; }
fn store4_dx(i: u32, v: vec4<f32>) { dx[i] = v; }

//#import common/rows.wgsl
//#import common/quads.wgsl

fn x4(row: u32, k: u32) -> vec4<f32> {
    let start = p.x_offset + row * p.x_stride;
    if (X_ALIGNED) { return load4_x((start >> 2u) + k); }
    let i = four_of(start, k);
    return vec4<f32>(load_x(i.x), load_x(i.y), load_x(i.z), load_x(i.w));
}

fn upstream4(row: u32, k: u32) -> vec4<f32> {
    let start = p.dy_offset + row * p.dy_stride;
    var v = vec4<f32>();
    if (DY_ALIGNED) {
        v = load4_dy((start >> 2u) + k);
    } else {
        let i = four_of(start, k);
        v = vec4<f32>(load_dy(i.x), load_dy(i.y), load_dy(i.z), load_dy(i.w));
    }
    if (HAS_GAIN) { v *= load4_gain(p.gain_offset + k); }
    return v;
}

fn extra4(row: u32, k: u32) -> vec4<f32> {
    if (!HAS_EXTRA) { return vec4<f32>(); }
    let start = p.extra_offset + row * p.extra_stride;
    if (EXTRA_ALIGNED) { return load4_extra((start >> 2u) + k); }
    let i = four_of(start, k);
    return vec4<f32>(load_extra(i.x), load_extra(i.y), load_extra(i.z), load_extra(i.w));
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
    var rstd = 0.0;
    if (row < p.rows) {
        mean = stats[2u * row];
        rstd = stats[2u * row + 1u];
    }

    var sums = vec4<f32>();
    var products = vec4<f32>();
    for (var k = lane; k < end; k += LANES) {
        let u = kept(upstream4(row, k), k);
        sums += u;
        products += u * kept((x4(row, k) - mean) * rstd, k);
    }
    let product = row_sum(added(products), local) / f32(p.cols);
    var sum = 0.0;
    if (!RMS) {
        sum = row_sum(added(sums), local) / f32(p.cols);
    }

    for (var k = lane; k < end; k += LANES) {
        let normalised = (x4(row, k) - mean) * rstd;
        let v = rstd * (upstream4(row, k) - sum - normalised * product);
        store4_dx(row * fours + k, v + extra4(row, k));
    }
}
