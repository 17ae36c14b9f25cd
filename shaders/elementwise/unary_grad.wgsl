// dx = dy f'(x), element by element, four at a time. OP as in unary.wgsl; affine, neg and the step functions never come here.

//#import common/unary_grad.wgsl
//#import common/fours.wgsl

override OP: u32 = 0u;

struct Params {
    count: u32, // fours
    x_offset: u32, // in fours
    dy_offset: u32,
    a: f32,
    b: f32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dx: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load4_x(i: u32) -> vec4<f32> { return x[i]; }
fn load4_dy(i: u32) -> vec4<f32> { return dy[i]; }
fn store4_dx(i: u32, v: vec4<f32>) { dx[i] = v; }

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let first = first_four(wg.x + wg.y * nwg.x, local);
    for (var k = 0u; k < FOURS; k++) {
        let i = first + k * WORKGROUP;
        if (i < p.count) {
            store4_dx(i, gradient(load4_x(p.x_offset + i), load4_dy(p.dy_offset + i)));
        }
    }
}
