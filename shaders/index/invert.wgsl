// writers[slots[i] - 1] = 1 + first + i: for each row the last entry that goes there. Rows without one keep what they have, at
// first 0. The maximum does not depend on the order in which invocations run.

const WORKGROUP: u32 = 64u;

struct Params {
    count: u32,
    offset: u32, // of the slots
    first: u32, // number of the first entry
}

@group(0) @binding(0) var<storage, read> slots: array<u32>;
@group(0) @binding(1) var<storage, read_write> writers: array<atomic<u32>>;
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
        let slot = slots[p.offset + i];
        if (slot != 0u) {
            atomicMax(&writers[slot - 1u], p.first + i + 1u);
        }
    }
}
