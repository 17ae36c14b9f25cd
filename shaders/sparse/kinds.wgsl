// What a mask makes of each block of queries and keys: 0 hidden, 1 seen in part, 2 seen in full.
//
// kinds: [batch, heads, blocks of queries, blocks of keys]. One invocation for each block; with EXACT one workgroup, which looks at each pair
// where the test of tiles cannot tell.

//#import common/mask.wgsl

const WORKGROUP: u32 = 64u;
override EXACT: bool = false;

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

// What each invocation saw: 1 a pair that is hidden, 2 one that is not.
var<workgroup> found: array<u32, WORKGROUP>;
var<workgroup> shared_kind: u32;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let cell = select(group * WORKGROUP + local, group, EXACT);
    let rows = (p.queries - 1u) / p.query_block + 1u;
    let columns = (p.keys - 1u) / p.key_block + 1u;
    let matrix = cell / (rows * columns);
    let batch = matrix / p.heads;
    let head = matrix % p.heads;
    let i = cell / columns % rows * p.query_block;
    let j = cell % columns * p.key_block;
    let queries = vec2<u32>(i, min(i + p.query_block, p.queries));
    let keys = vec2<u32>(j, min(j + p.key_block, p.keys));
    let inside = batch < p.batch;
    var kind = EMPTY;
    if (inside && (!EXACT || local == 0u)) {
        kind = mask_tile(batch, head, queries, keys);
    }
    if (EXACT) {
        if (local == 0u) { shared_kind = kind; }
        kind = workgroupUniformLoad(&shared_kind);
        if (kind == PARTIAL) {
            var seen = 0u;
            for (var pair = local; pair < p.query_block * p.key_block; pair += WORKGROUP) {
                let query = i + pair / p.key_block;
                let key = j + pair % p.key_block;
                if (query < queries.y && key < keys.y) {
                    seen |= select(1u, 2u, mask_sees(batch, head, query, key));
                }
            }
            found[local] = seen;
            workgroupBarrier();
            seen = 0u;
            for (var other = 0u; other < WORKGROUP; other++) { seen |= found[other]; }
            kind = select(select(PARTIAL, FULL, seen == 2u), EMPTY, seen == 1u);
        }
    }
    if (inside && (!EXACT || local == 0u)) {
        kinds[cell] = kind;
    }
}
