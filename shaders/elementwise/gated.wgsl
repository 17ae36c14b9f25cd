// y = f(gate) up, all [rows, cols], f by OP as in common/unary.wgsl: gated linear units. Rows of gate and up may lie apart, such as the
// halves of the rows of one tensor; rows of y are rounded up to fours. Each invocation makes four elements.

//#import common/fours.wgsl
//#import common/wide.wgsl
//#import common/unary.wgsl

override OP: u32 = 0u;
override GATE_ALIGNED: bool = true; // rows begin at multiples of four elements
override UP_ALIGNED: bool = true;

struct Params {
    rows: u32,
    cols: u32,
    gate_offset: u32,
    gate_stride: u32,
    up_offset: u32,
    up_stride: u32,
    magic: u32, // to divide by the fours of a row
    shift: u32,
    a: f32,
    b: f32,
}

@group(0) @binding(0) var<storage, read> gate: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> up: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_gate(i: u32) -> f32 { return gate[i >> 2u][i & 3u]; }
fn load4_gate(i: u32) -> vec4<f32> { return gate[i]; }
fn load_up(i: u32) -> f32 { return up[i >> 2u][i & 3u]; }
fn load4_up(i: u32) -> vec4<f32> { return up[i]; }
fn store4_y(i: u32, v: vec4<f32>) { y[i] = v; }

//#import common/quads.wgsl

fn gate4(row: u32, k: u32) -> vec4<f32> {
    let start = p.gate_offset + row * p.gate_stride;
    if (GATE_ALIGNED) { return load4_gate((start >> 2u) + k); }
    let i = four_of(start, k);
    return vec4<f32>(load_gate(i.x), load_gate(i.y), load_gate(i.z), load_gate(i.w));
}

fn up4(row: u32, k: u32) -> vec4<f32> {
    let start = p.up_offset + row * p.up_stride;
    if (UP_ALIGNED) { return load4_up((start >> 2u) + k); }
    let i = four_of(start, k);
    return vec4<f32>(load_up(i.x), load_up(i.y), load_up(i.z), load_up(i.w));
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let fours = (p.cols + 3u) >> 2u;
    let first = first_four(wg.x + wg.y * nwg.x, local);
    for (var step = 0u; step < FOURS; step++) {
        let i = first + step * WORKGROUP;
        if (i < p.rows * fours) {
            let row = quotient(i, p.magic, p.shift);
            let k = i - row * fours;
            store4_y(i, value(gate4(row, k)) * up4(row, k));
        }
    }
}
