// The order of the rows of a list by number of entries, most first, and among equals the first first: the n-th row's third word is the
// row that is n-th. One invocation for each row of each matrix.

const WORKGROUP: u32 = 64u;

struct Params {
    matrices: u32,
    rows: u32,
}

@group(0) @binding(0) var<storage, read_write> list: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    if (at < p.matrices * p.rows) {
        let first = at - at % p.rows;
        let count = list[3u * at + 1u];
        var place = first;
        for (var other = first; other < first + p.rows; other++) {
            let length = list[3u * other + 1u];
            place += select(0u, 1u, length > count || (length == count && other < at));
        }
        list[3u * place + 2u] = at - first;
    }
}
