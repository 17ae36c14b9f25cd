// Slots of some rows alone: y[i] = slots[i] - first where that is from 1 to rows, else 0.

const WORKGROUP: u32 = 64u;

struct Params {
    count: u32,
    offset: u32, // of the slots
    first: u32,
    rows: u32,
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
        let slot = slots[p.offset + i];
        y[i] = select(0u, slot - p.first, slot > p.first && slot - p.first <= p.rows);
    }
}
