// Nothing but multiply-adds: y[i] is the sum of eight chains x = a x + b of `rounds` steps, four numbers wide. Measures how fast
// a device computes. The chains do not depend on each other, so that the latency of one is hidden behind the others.

override WORKGROUP: u32 = 256u;

struct Params {
    count: u32,
    rounds: u32,
    a: f32,
    b: f32,
}

@group(0) @binding(0) var<storage, read_write> y: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    let a = vec4<f32>(p.a);
    let b = vec4<f32>(p.b);
    // Different starts: equal chains would be computed once.
    var x0 = vec4<f32>(f32(i));
    var x1 = x0 + 1.0;
    var x2 = x0 + 2.0;
    var x3 = x0 + 3.0;
    var x4 = x0 + 4.0;
    var x5 = x0 + 5.0;
    var x6 = x0 + 6.0;
    var x7 = x0 + 7.0;
    for (var k = 0u; k < p.rounds; k++) {
        x0 = x0 * a + b;
        x1 = x1 * a + b;
        x2 = x2 * a + b;
        x3 = x3 * a + b;
        x4 = x4 * a + b;
        x5 = x5 * a + b;
        x6 = x6 * a + b;
        x7 = x7 * a + b;
    }
    if (i < p.count) {
        y[i] = ((x0 + x1) + (x2 + x3)) + ((x4 + x5) + (x6 + x7));
    }
}
