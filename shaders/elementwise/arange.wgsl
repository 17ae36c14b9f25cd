// y[i] = start + i, four at a time. In integers, so that floats are exact as far as they can be.

//#import common/fours.wgsl

alias Y = f32;

struct Params {
    count: u32, // fours
    start: i32,
}

@group(0) @binding(0) var<storage, read_write> y: array<vec4<Y>>;
@group(1) @binding(0) var<uniform> p: Params;

fn store4_y(i: u32, v: vec4<Y>) { y[i] = v; }

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
            store4_y(i, vec4<Y>(vec4<i32>(p.start + i32(4u * i)) + vec4<i32>(0, 1, 2, 3)));
        }
    }
}
