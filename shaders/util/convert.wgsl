// y[i] = Y(x[i]) for contiguous tensors: a copy, or a conversion between element types.
// Floats become integers by truncation towards zero.

alias X = f32;
alias Y = f32;

struct Params {
    count: u32, // groups of four elements
}

@group(0) @binding(0) var<storage, read> x: array<vec4<X>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<Y>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load4_x(i: u32) -> vec4<X> { return x[i]; }
fn store4_y(i: u32, v: vec4<Y>) { y[i] = v; }

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let i = group * 256u + local;
    if (i < p.count) {
        store4_y(i, vec4<Y>(load4_x(i)));
    }
}
