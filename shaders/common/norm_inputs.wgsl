// What the forwards in norm/ read and write, and what they are told.

override HAS_GAIN: bool = true;
override HAS_BIAS: bool = true;
override X_ALIGNED: bool = true; // rows of x begin at multiples of four elements

struct Params {
    rows: u32,
    cols: u32,
    x_offset: u32,
    x_stride: u32,
    residual_offset: u32,
    residual_stride: u32,
    gain_offset: u32, // in fours
    bias_offset: u32, // in fours
    eps: f32,
    root: f32, // eps^(1 / power)
    counted: u32,
    rest: f32,
    count: f32, // of elements, for the mean
    divisor: f32, // of the sum of powers
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
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> stats: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x(i: u32) -> f32 { return x[i >> 2u][i & 3u]; }
fn load4_x(i: u32) -> vec4<f32> { return x[i]; }
fn load4_gain(i: u32) -> vec4<f32> { return gain[i]; }
fn load4_bias(i: u32) -> vec4<f32> { return bias[i]; }
fn store4_y(i: u32, v: vec4<f32>) { y[i] = v; }

//#import common/norm_row.wgsl

fn x4(row: u32, k: u32) -> vec4<f32> {
    let start = p.x_offset + row * p.x_stride;
    if (X_ALIGNED) { return load4_x((start >> 2u) + k); }
    let i = four_of(start, k);
    return vec4<f32>(load_x(i.x), load_x(i.y), load_x(i.z), load_x(i.w));
}

// total^(-1 / power); 0 where there is nothing to divide by.
fn inverse_root(total: f32) -> f32 {
    var root = 0.0;
    if (SQUARES) { root = 1.0 / sqrt(total); } else { root = pow_(vec4<f32>(total), vec4<f32>(-1.0 / p.power)).x; }
    return select(0.0, root, total > 0.0);
}
