// starts[r] = number of sorted slots below r + 1: where the entries of row r begin. Binary search; one invocation a row.

const WORKGROUP: u32 = 64u;

struct Params {
    count: u32, // rows + 1
    entries: u32,
}

@group(0) @binding(0) var<storage, read> slots: array<u32>;
@group(0) @binding(1) var<storage, read_write> starts: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let row = group * WORKGROUP + local;
    if (row < p.count) {
        var low = 0u;
        var high = p.entries;
        while (low < high) {
            let middle = (low + high) / 2u;
            if (slots[middle] < row + 1u) {
                low = middle + 1u;
            } else {
                high = middle;
            }
        }
        starts[row] = low;
    }
}
