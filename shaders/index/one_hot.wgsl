// y[e, c] = 1 where slots[e] is c + 1, else 0. slots: [entries]; y: [entries, classes].

//#import common/wide.wgsl
//#import common/fours.wgsl

struct Params {
    count: u32, // elements of y
    classes: u32,
    magic: u32, // to divide by classes
    shift: u32,
}

@group(0) @binding(0) var<storage, read> slots: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn element(e: u32) -> u32 {
    let entry = quotient(min(e, p.count - 1u), p.magic, p.shift);
    return u32(slots[entry] == e - entry * p.classes + 1u);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let first = first_four(wg.x + wg.y * nwg.x, local);
    for (var k = 0u; k < FOURS; k++) {
        let i = first + k * WORKGROUP;
        if (4u * i < p.count) {
            let e = 4u * i;
            y[i] = vec4<u32>(element(e), element(e + 1u), element(e + 2u), element(e + 3u));
        }
    }
}
