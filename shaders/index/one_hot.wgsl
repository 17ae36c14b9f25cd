// y[i, c] = 1 where slots[i] is c + 1, else 0. slots: [entries]; y: [entries, classes].

const WORKGROUP: u32 = 64u;

struct Params {
    count: u32, // elements of y
    classes: u32,
}

@group(0) @binding(0) var<storage, read> slots: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let i = group * WORKGROUP + local;
    if (i < p.count) {
        y[i] = select(0u, 1u, slots[i / p.classes] == i % p.classes + 1u);
    }
}
