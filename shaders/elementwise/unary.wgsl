// y = f(x), element by element, four at a time. OP is the number of engine/src/ops/elementwise/unary.rs.

//#import common/unary.wgsl
//#import common/fours.wgsl

override OP: u32 = 0u;

struct Params {
    count: u32, // fours
    offset: u32, // of x, in fours
    a: f32,
    b: f32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load4_x(i: u32) -> vec4<f32> { return x[i]; }
fn store4_y(i: u32, v: vec4<f32>) { y[i] = v; }

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
            store4_y(i, value(load4_x(p.offset + i)));
        }
    }
}
