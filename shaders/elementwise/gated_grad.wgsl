// The gradients of y = f(gate) up (see gated.wgsl), in one pass: dgate = dy up f'(gate), dup = dy f(gate). both: [rows, 2, cols rounded
// up to fours], with dgate as number FIRST of the two, so that the gradient of a tensor whose halves are gate and up is whole at once.

//#import common/fours.wgsl
//#import common/wide.wgsl
//#import common/unary.wgsl
//#import common/unary_grad.wgsl

override FIRST: u32 = 0u;

override OP: u32 = 0u;
override GATE_ALIGNED: bool = true; // rows begin at multiples of four elements
override UP_ALIGNED: bool = true;
override DY_ALIGNED: bool = true;

struct Params {
    rows: u32,
    cols: u32,
    gate_offset: u32,
    gate_stride: u32,
    up_offset: u32,
    up_stride: u32,
    dy_offset: u32,
    dy_stride: u32,
    magic: u32, // to divide by the fours of a row
    shift: u32,
    a: f32,
    b: f32,
}

@group(0) @binding(0) var<storage, read> gate: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> up: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> both: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_gate(i: u32) -> f32 { return gate[i >> 2u][i & 3u]; }
fn load4_gate(i: u32) -> vec4<f32> { return gate[i]; }
fn load_up(i: u32) -> f32 { return up[i >> 2u][i & 3u]; }
fn load4_up(i: u32) -> vec4<f32> { return up[i]; }
fn load_dy(i: u32) -> f32 { return dy[i >> 2u][i & 3u]; }
fn load4_dy(i: u32) -> vec4<f32> { return dy[i]; }
fn store4_both(i: u32, v: vec4<f32>) { both[i] = v; }

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
    let fours = (p.cols + 3u) >> 2u;
    let first = first_four(wg.x + wg.y * nwg.x, local);
    for (var step = 0u; step < FOURS; step++) {
        let i = first + step * WORKGROUP;
        if (i < p.rows * fours) {
            let row = quotient(i, p.magic, p.shift);
            let k = i - row * fours;
            let g = gate4(row, k);
            let d = dy4(row, k);
            store4_both((2u * row + FIRST) * fours + k, gradient(g, d * up4(row, k)));
            store4_both((2u * row + 1u - FIRST) * fours + k, d * value(g));
        }
    }
}
