// Attention of a few queries to the keys in the pages of a cache, of which a workgroup has 256 ("flash decoding", Dao et al., 2023). Query i
// of sequence b stands at t = lengths[b] - queries + i:
//
//   s_ij = softcap tanh(scale q_i k_j / softcap) + bias[b, h, i, j] + relative[h, entries - queries + j - t],  if i sees j < lengths[b]
//   most = max of s_ij;  total = sum of exp(s_ij - most);  partial = sum of exp(s_ij - most) v_j
//
// q: [batch, heads, queries, 4 D4] of any strides; k: [pages, heads / group, size, 4 D4]; v: [pages, heads / group, size, 4 DV4];
// places: as in attention/append.wgsl; partial: [batch, heads, queries, splits, 4 DV4]; stats: [batch, heads, queries, splits, 2], most and total.
// A workgroup has one key head, up to ROWS of the rows (query head of the group, query), and up to 64 vec4 of the values.

override D4: u32 = 16u;
override DV4: u32 = 16u;
override ROWS: u32 = 8u;
override HAS_SOFTCAP: bool = false;
override HAS_BIAS: bool = false;
override HAS_RELATIVE: bool = false;

const WORKGROUP: u32 = 64u;
const SPLIT: u32 = 256u;
// What no real score comes near.
const NOTHING: f32 = -1e30;

struct Params {
    batch: u32,
    heads: u32,
    group: u32, // query heads of a key head
    queries: u32,
    keys: u32, // of the longest sequence
    splits: u32,
    size: u32,
    table: u32,
    // In units of vec4.
    q_start: u32,
    q_batch: u32,
    q_head: u32,
    q_row: u32,
    bias_start: u32,
    bias_batch: u32,
    bias_head: u32,
    bias_row: u32,
    bias_column: u32,
    relative_start: u32,
    entries: u32,
    scale: f32,
    softcap: f32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> aux: array<f32>;
@group(0) @binding(4) var<storage, read> mask: array<u32>;
@group(0) @binding(5) var<storage, read> places: array<u32>;
@group(0) @binding(6) var<storage, read_write> partial: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> stats: array<vec2<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

//#import common/mask.wgsl
//#import common/math.wgsl

fn load4_q(i: u32) -> vec4<f32> { return q[i]; }
fn load4_k(i: u32) -> vec4<f32> { return k[i]; }
fn load4_v(i: u32) -> vec4<f32> { return v[i]; }
fn load_aux(i: u32) -> f32 { return aux[i]; }

// The scores, then the weights, of ROWS rows and the keys of the split.
var<workgroup> weights: array<f32, 2048>;
var<workgroup> parts: array<f32, 512>;
var<workgroup> eighths: array<f32, 64>;
var<workgroup> sums: array<vec4<f32>, 64>;
var<workgroup> shared_range: vec2<u32>;

// One row of the workgroup: which query of which head.
struct Row {
    batch: u32,
    head: u32,
    query: u32,
    position: i32,
}

// The place of token j of a sequence in [pages, key heads, size].
fn token_at(batch: u32, key_head: u32, j: u32) -> u32 {
    var page = batch;
    if (p.table > 0u) { page = places[2u * p.batch + batch * p.table + j / p.size]; }
    return (page * (p.heads / p.group) + key_head) * p.size + j % p.size;
}

// The keys of a split that any of the queries may see.
fn range_of(batch: u32, split: u32) -> vec2<u32> {
    let length = places[batch];
    var range = vec2<u32>(split * SPLIT, min(split * SPLIT + SPLIT, length));
    if (KINDS != 0u) {
        let seen = mask_keys(batch, vec2<u32>(0u, p.queries), length - p.queries);
        range = vec2<u32>(max(range.x, seen.x), min(range.y, seen.y));
    }
    return vec2<u32>(range.x, max(range.x, range.y));
}

fn score(product: f32, row: Row, j: u32) -> f32 {
    var s = product * p.scale;
    if (HAS_SOFTCAP) { s = p.softcap * tanh_(vec4<f32>(s / p.softcap)).x; }
    if (HAS_BIAS) {
        s += load_aux(p.bias_start + row.batch * p.bias_batch + row.head * p.bias_head + row.query * p.bias_row + j * p.bias_column);
    }
    if (HAS_RELATIVE) {
        s += load_aux(p.relative_start + row.head * p.entries + u32(i32(p.entries - p.queries) + i32(j) - row.position));
    }
    if (KINDS != 0u) {
        if (!mask_sees4(row.batch, row.head, row.query, row.position, j).x) { s = NOTHING; }
    }
    return s;
}

// Of each row, what the invocations left in `parts`, brought down to eight numbers.
fn gather(local: u32, largest: bool) {
    workgroupBarrier();
    if (local < 8u * ROWS) {
        let start = local / 8u * WORKGROUP + local % 8u * 8u;
        var all = parts[start];
        for (var n = 1u; n < 8u; n++) {
            let next = parts[start + n];
            all = select(all + next, max(all, next), largest);
        }
        eighths[local] = all;
    }
    workgroupBarrier();
}

fn highest_of(row: u32) -> f32 {
    var highest = eighths[8u * row];
    for (var n = 1u; n < 8u; n++) { highest = max(highest, eighths[8u * row + n]); }
    return highest;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let chunks = (DV4 + 63u) / 64u;
    let rows = p.group * p.queries;
    let blocks = (rows + ROWS - 1u) / ROWS;
    let key_heads = p.heads / p.group;
    let chunk = group % chunks * 64u;
    let split = group / chunks % p.splits;
    let first = group / (chunks * p.splits) % blocks * ROWS;
    let head = group / (chunks * p.splits * blocks);
    let key_head = head % key_heads;
    let batch = head / key_heads;
    if (batch < p.batch) {
        if (local == 0u) { shared_range = range_of(batch, split); }
        let range = workgroupUniformLoad(&shared_range);
        var row: array<Row, 8>;
        var most: array<f32, 8>;
        for (var r = 0u; r < ROWS; r++) {
            let flat = min(first + r, rows - 1u);
            let query = flat % p.queries;
            row[r] = Row(batch, key_head * p.group + flat / p.queries, query, i32(places[batch]) - i32(p.queries - query));
            most[r] = NOTHING;
        }
        for (var n = local; n < SPLIT; n += WORKGROUP) {
            let j = range.x + n;
            var product: array<f32, 8>;
            if (j < range.y) {
                let key = token_at(batch, key_head, j) * D4;
                for (var d = 0u; d < D4; d++) {
                    let x = load4_k(key + d);
                    for (var r = 0u; r < ROWS; r++) {
                        let at = p.q_start + batch * p.q_batch + row[r].head * p.q_head + row[r].query * p.q_row;
                        product[r] += dot(x, load4_q(at + d));
                    }
                }
            }
            for (var r = 0u; r < ROWS; r++) {
                var s = NOTHING;
                if (j < range.y) { s = score(product[r], row[r], j); }
                weights[r * SPLIT + n] = s;
                most[r] = max(most[r], s);
            }
        }
        for (var r = 0u; r < ROWS; r++) { parts[r * WORKGROUP + local] = most[r]; }
        gather(local, true);
        var total: array<f32, 8>;
        for (var r = 0u; r < ROWS; r++) {
            most[r] = highest_of(r);
            total[r] = 0.0;
            for (var n = local; n < SPLIT; n += WORKGROUP) {
                let s = weights[r * SPLIT + n];
                let w = select(0.0, exp_(vec4<f32>(min(s - most[r], 0.0))).x, s > NOTHING);
                weights[r * SPLIT + n] = w;
                total[r] += w;
            }
        }
        workgroupBarrier();
        for (var r = 0u; r < ROWS; r++) { parts[r * WORKGROUP + local] = total[r]; }
        gather(local, false);

        // Columns of the values side by side, and as many keys at a time as there is room for.
        let columns = min(DV4 - chunk, 64u);
        let turns = WORKGROUP / columns;
        let column = local % columns;
        let turn = local / columns;
        var sum: array<vec4<f32>, 8>;
        for (var r = 0u; r < ROWS; r++) { sum[r] = vec4<f32>(); }
        if (turn < turns) {
            for (var n = turn; n < range.y - range.x; n += turns) {
                let x = load4_v(token_at(batch, key_head, range.x + n) * DV4 + chunk + column);
                for (var r = 0u; r < ROWS; r++) { sum[r] += weights[r * SPLIT + n] * x; }
            }
        }
        for (var r = 0u; r < ROWS; r++) {
            workgroupBarrier();
            sums[local] = sum[r];
            workgroupBarrier();
            if (turn == 0u && first + r < rows) {
                var all = sums[column];
                for (var n = 1u; n < turns; n++) { all += sums[n * columns + column]; }
                let at = ((batch * p.heads + row[r].head) * p.queries + row[r].query) * p.splits + split;
                partial[at * DV4 + chunk + column] = all;
                if (local == 0u && chunk == 0u) {
                    var whole = 0.0;
                    for (var n = 0u; n < 8u; n++) { whole += eighths[8u * r + n]; }
                    stats[at] = vec2<f32>(most[r], whole);
                }
            }
        }
    }
}
