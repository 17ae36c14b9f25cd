// The gradient of what is added to the scores, ds_ij = w_ij (dp_ij - delta_i), with w and dp as in attention/dq.wgsl, added up over the
// pairs that share a number:
//
//   OVER 0: sums[b, h, i, j] = ds_ij          1: sums[b, h, j], over i
//        2: sums[b, h, block, n], along the diagonals j - i = 32 (block - blocks of queries + 1) + n - 31, n < 63, of a diagonal of tiles
//        3: sums[b, h, i, bucket], over j     4: sums[b, h, j, bucket], over i
//
// A workgroup goes over a row, a column or a diagonal of tiles of 32 queries and 32 keys. Since the distances of a bucket follow each
// other, so do its pairs in a row or column: the invocation that owns it stores each sum once, and the others are zeros from before.
//
// Each part has sums of its own, one behind the other, but those over nothing, which are stored once.

//#import common/attention_inputs.wgsl
//#import common/attention.wgsl
//#import common/tiles.wgsl

override OVER: u32 = 0u;

@group(0) @binding(5) var<storage, read> d_o: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> sums: array<f32>;

fn load4_d_o(i: u32) -> vec4<f32> { return d_o[i]; }

fn element4(which: u32, at: Head, row: u32, d: u32) -> vec4<f32> {
    switch which {
        case OF_Q: { return load4_q(q_at(at, row) + d); }
        case OF_K: { return load4_k(k_at(at, row) + d); }
        case OF_V: { return load4_v(v_at(at, row) + d); }
        default: { return load4_d_o(o_at(at, row) + d); }
    }
}

// ds of query i and four keys.
fn gradient(product: vec4<f32>, dp: vec4<f32>, at: Head, i: u32, j: vec4<u32>, sees: vec4<bool>, kept: vec4<bool>) -> vec4<f32> {
    let stat = stats[row_of(at, i)];
    let s = scores(product, at, vec4<u32>(i), j);
    let w = weights(s.value, vec4<f32>(stat.x), sees & vec4<bool>(stat.x > NOTHING));
    return w * (dp * factor(kept) - stat.y);
}

var<workgroup> shared_kind: u32;

// What the tile of 32 queries and keys from these on is. Blocks of lists are of whole tiles.
fn kind_of(at: Head, query: u32, key: u32) -> u32 {
    var kind = FULL;
    if (KINDS != 0u) {
        let sizes = vec2<u32>(p.queries, p.keys);
        let end = min(vec2<u32>(query, key) + 32u, sizes);
        kind = mask_tile(at.batch, at.head, vec2<u32>(query, end.x), vec2<u32>(key, end.y));
    }
    if (HAS_LISTS && mask[1] == LISTS) {
        kind = select(EMPTY, kind, listed(at, query, key));
    }
    return kind;
}

// Of the pairs of these bits, those that lists of keys have.
fn in_lists(at: Head, i: u32, j: u32, bits: u32) -> u32 {
    var kept = bits;
    if (HAS_LISTS && mask[1] != LISTS) {
        for (var n = 0u; n < 16u; n++) {
            if ((bits & (1u << n)) != 0u && !listed(at, i + n / 4u, j + n % 4u)) { kept ^= 1u << n; }
        }
    }
    return kept;
}

// Of the tile in workgroup memory.
fn in_tile(row: u32, column: u32) -> f32 {
    return shared_weights[row * PITCH + column / 4u][column % 4u];
}

// What an invocation adds up: a sum, and where it goes, or 0xffffffff for nowhere yet.
struct Run {
    sum: f32,
    bucket: u32,
}

fn flush(run: Run, row: u32) {
    if (run.bucket != 0xffffffffu) { sums[row * p.buckets + run.bucket] = run.sum; }
}

fn step(run: ptr<function, Run>, row: u32, i: u32, j: u32, ds: f32) {
    if (i < p.queries && j < p.keys) {
        let bucket = mask[p.buckets_start + j + (p.queries - 1u - i)];
        if (bucket != (*run).bucket) {
            flush(*run, row);
            *run = Run(0.0, bucket);
        }
        (*run).sum += ds;
    }
}

@compute @workgroup_size(8, 8)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) cell: u32,
) {
    let part = (wg.x + wg.y * nwg.x) % PARTS;
    let group = (wg.x + wg.y * nwg.x) / PARTS;
    let rows = (p.queries + 31u) / 32u;
    let columns = (p.keys + 31u) / 32u;
    // The tiles of this workgroup: the first, how many, and whether they go along queries and keys.
    var owners = rows;
    var along = vec2<u32>(0u, 1u);
    if (OVER == 1u || OVER == 4u) {
        owners = columns;
        along = vec2<u32>(1u, 0u);
    }
    if (OVER == 2u) {
        owners = rows + columns - 1u;
        along = vec2<u32>(1u, 1u);
    }
    let owner = group % owners;
    let head = group / owners;
    let at = Head(head / p.heads, head % p.heads);
    var first = vec2<u32>(owner, 0u);
    var count = columns;
    if (OVER == 1u || OVER == 4u) {
        first = vec2<u32>(0u, owner);
        count = rows;
    }
    if (OVER == 2u) {
        let query = select(0u, rows - 1u - owner, owner < rows);
        first = vec2<u32>(query, query + owner + 1u - rows);
        count = min(rows - query, columns - first.y);
    }
    if (at.batch < p.batch) {
        let leader = cell == 0u;
        var run = Run(0.0, 0xffffffffu);
        let tiles = part_of(vec2<u32>(0u, count), part);
        // Behind the sums of the parts before.
        let own = part * p.batch * p.heads;
        for (var n = tiles.x; n < tiles.y; n++) {
            let query = 32u * (first.x + n * along.x);
            let key = 32u * (first.y + n * along.y);
            if (leader) { shared_kind = kind_of(at, query, key); }
            let tile = workgroupUniformLoad(&shared_kind);
            let i = query + 4u * local.y;
            let j = vec4<u32>(key + 4u * local.x) + vec4<u32>(0u, 1u, 2u, 3u);
            var ds = mat4x4<f32>();
            if (tile != EMPTY) {
                let qk = products(OF_Q, query, OF_K, key, at, D4, local);
                let dp = products(OF_D_O, query, OF_V, key, at, DV4, local);
                let bits = in_lists(at, i, j.x, sights(at, i, j.x, tile));
                let kept = keeps(at, i, j.x);
                ds = mat4x4<f32>(
                    gradient(qk[0], dp[0], at, i, j, of_query(bits, 0u), of_query(kept, 0u)),
                    gradient(qk[1], dp[1], at, i + 1u, j, of_query(bits, 1u), of_query(kept, 1u)),
                    gradient(qk[2], dp[2], at, i + 2u, j, of_query(bits, 2u), of_query(kept, 2u)),
                    gradient(qk[3], dp[3], at, i + 3u, j, of_query(bits, 3u), of_query(kept, 3u)),
                );
            }
            if (OVER == 0u) {
                for (var r = 0u; r < 4u; r++) {
                    for (var c = 0u; c < 4u; c++) {
                        if (i + r < p.queries && j.x + c < p.keys) { sums[row_of(at, i + r) * p.keys + j.x + c] = ds[r][c]; }
                    }
                }
            } else if (tile != EMPTY) {
                workgroupBarrier();
                for (var r = 0u; r < 4u; r++) { shared_weights[(4u * local.y + r) * PITCH + local.x] = ds[r]; }
                workgroupBarrier();
                for (var m = 0u; m < 32u; m++) {
                    if (OVER == 1u && cell < 32u) { run.sum += in_tile(m, cell); }
                    // Diagonal cell of the tile: key - query = cell - 31.
                    if (OVER == 2u && m + cell >= 31u && m + cell < 63u) { run.sum += in_tile(m, m + cell - 31u); }
                    if (OVER == 3u && cell < 32u) { step(&run, own * p.queries + row_of(at, query + cell), query + cell, key + m, in_tile(cell, m)); }
                    if (OVER == 4u && cell < 32u) { step(&run, (own + head) * p.keys + key + cell, query + m, key + cell, in_tile(m, cell)); }
                }
            }
        }
        if (OVER == 1u && cell < 32u && 32u * owner + cell < p.keys) { sums[(own + head) * p.keys + 32u * owner + cell] = run.sum; }
        if (OVER == 2u) { sums[(own * owners + group) * 64u + cell] = select(0.0, run.sum, cell < 63u); }
        if (OVER == 3u && cell < 32u && 32u * owner + cell < p.queries) { flush(run, (own + head) * p.queries + 32u * owner + cell); }
        if (OVER == 4u && cell < 32u && 32u * owner + cell < p.keys) { flush(run, (own + head) * p.keys + 32u * owner + cell); }
    }
}
