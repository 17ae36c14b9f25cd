// What a mask makes of each block of queries and keys: 0 hidden, 1 seen in part, 2 seen in full.
//
// kinds: [batch, heads, blocks of queries, blocks of keys]. One invocation for each block.

//#import common/mask.wgsl

const WORKGROUP: u32 = 64u;

struct Params {
    batch: u32,
    heads: u32,
    queries: u32,
    keys: u32,
    query_block: u32,
    key_block: u32,
}

@group(0) @binding(0) var<storage, read> mask: array<u32>;
@group(0) @binding(1) var<storage, read_write> kinds: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let cell = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    let rows = (p.queries - 1u) / p.query_block + 1u;
    let columns = (p.keys - 1u) / p.key_block + 1u;
    let matrix = cell / (rows * columns);
    if (matrix < p.batch * p.heads) {
        let i = cell / columns % rows * p.query_block;
        let j = cell % columns * p.key_block;
        let queries = vec2<u32>(i, min(i + p.query_block, p.queries));
        let keys = vec2<u32>(j, min(j + p.key_block, p.keys));
        kinds[cell] = mask_tile(matrix / p.heads, matrix % p.heads, queries, keys);
    }
}
