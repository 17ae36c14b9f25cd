// Lists of blocks, as common/steps.wgsl reads them, with room for all: for each row its first entry and the number of its entries; the
// order of the rows is the work of sparse/order.wgsl. With BY_KEY the rows are the blocks of keys.
//
// kinds: [matrices, blocks of queries, blocks of keys], 0 where a block is not listed, 2 where it is full. One invocation for each row.

const WORKGROUP: u32 = 64u;
override BY_KEY: bool = false;

struct Params {
    matrices: u32,
    rows: u32, // of the lists
    columns: u32,
    start: u32, // of the kinds
}

@group(0) @binding(0) var<storage, read> kinds: array<u32>;
@group(0) @binding(1) var<storage, read_write> list: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    let rows = p.matrices * p.rows;
    if (row < rows) {
        let first = 3u * rows + row * p.columns;
        var count = 0u;
        for (var column = 0u; column < p.columns; column++) {
            var cell = p.start + row * p.columns + column;
            if (BY_KEY) {
                cell = p.start + (row / p.rows * p.columns + column) * p.rows + row % p.rows;
            }
            let kind = kinds[cell];
            if (kind > 0u) {
                list[first + count] = 2u * column + select(0u, 1u, kind == 2u);
                count++;
            }
        }
        for (var rest = count; rest < p.columns; rest++) {
            list[first + rest] = 0u;
        }
        list[3u * row] = first;
        list[3u * row + 1u] = count;
    }
}
