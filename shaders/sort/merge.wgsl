// Merges neighbouring sorted runs of `width` in each row. An element's place in the merged run is its place in its own plus
// the number of elements of the other run that come before it, by binary search; of equal ones those of the left run are first.
// All arrays: [rows, n].

const WORKGROUP: u32 = 64u;

struct Params {
    count: u32, // rows * n
    n: u32,
    width: u32,
}

@group(0) @binding(0) var<storage, read> keys: array<u32>;
@group(0) @binding(1) var<storage, read> order: array<u32>;
@group(0) @binding(2) var<storage, read_write> merged_keys: array<u32>;
@group(0) @binding(3) var<storage, read_write> merged_order: array<u32>;
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
        let column = i % p.n;
        let row = i - column;
        let run = column / p.width;
        let is_left = run % 2u == 0u;
        // The other run.
        let begin = min(select(run - 1u, run + 1u, is_left) * p.width, p.n);
        let mine = keys[i];
        var low = begin;
        var high = min(begin + p.width, p.n);
        while (low < high) {
            let middle = (low + high) / 2u;
            let other = keys[row + middle];
            if (other < mine || (!is_left && other == mine)) {
                low = middle + 1u;
            } else {
                high = middle;
            }
        }
        // A right run begins one width late; what it moves back by is the rest of the left run.
        let place = row + select(column - p.width, column, is_left) + low - begin;
        merged_keys[place] = mine;
        merged_order[place] = order[i];
    }
}
