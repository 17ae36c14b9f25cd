// The body of norm/backward.wgsl and norm/drop_backward.wgsl, which say what becomes of a four of the gradient: `put4`. LANES
// invocations work on one row.

override WORKGROUP: u32 = 256u;
override LANES: u32 = 32u; // a power of two that divides WORKGROUP, which is at most 256
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
    counted: u32,
    rest: f32,
    count: f32,
    divisor: f32,
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
@group(0) @binding(2) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> extra: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> stats: array<vec4<f32>>;
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

//#import common/norm_row.wgsl
//#import common/rows.wgsl

fn x4(row: u32, k: u32) -> vec4<f32> {
    let start = p.x_offset + row * p.x_stride;
    if (X_ALIGNED) { return load4_x((start >> 2u) + k); }
    let i = four_of(start, k);
    return vec4<f32>(load_x(i.x), load_x(i.y), load_x(i.z), load_x(i.w));
}

fn normalised4(row: u32, k: u32, of_row: vec4<f32>) -> vec4<f32> {
    if (!CENTRE) { return x4(row, k) * of_row.z; }
    return ((x4(row, k) - of_row.x) - of_row.y) * of_row.z;
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
    var of_row = vec4<f32>();
    if (row < p.rows) { of_row = stats[row]; }
    let rstd = of_row.z;
    var shift = of_row.w; // of f(xhat)

    var sums = vec4<f32>();
    var products = vec4<f32>();
    var turns = vec4<f32>();
    for (var k = lane; k < end; k += LANES) {
        let u = kept(upstream4(row, k), k);
        let normalised = kept(normalised4(row, k, of_row), k);
        if (CENTRE) { sums += u; }
        if (SCALE) { products += u * normalised; }
        if (CENTRE && !SQUARES) { turns += counted(turned(normalised), k); }
    }
    var product = 0.0;
    if (SCALE) { product = row_sum(added(products), local) / p.divisor; }
    var sum = 0.0;
    if (CENTRE) {
        sum = row_sum(added(sums), local) / p.count;
        if (!SQUARES) { shift = -row_sum(added(turns), local) / p.count; }
    }

    for (var k = lane; k < end; k += LANES) {
        let normalised = normalised4(row, k, of_row);
        var common_part = sum + (turned(normalised) + shift) * product;
        if (PART) { common_part *= shares(k); }
        put4(row, k, rstd * (upstream4(row, k) - common_part) + extra4(row, k));
    }
}
