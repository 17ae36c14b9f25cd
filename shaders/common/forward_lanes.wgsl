// Attention forward for software drivers, where a shuffle within 8 lanes costs far less than a load or a barrier:
//
//   o_i = sum over j of w_ij v_j;   lse_i = log of the sum over j of exp(s_ij)
//
// with s and w of common/attention.wgsl, both for each part. o: [PARTS, batch, queries, heads, 4 DV4]; lse: [PARTS, batch, heads, queries]. The sinks
// belong to the first part. One subgroup has ROWS queries
// and up to 128 columns of the values, and goes over the keys with a running maximum (Dao, "FlashAttention-2", 2023).

//#import common/attention_inputs.wgsl
//#import common/attention.wgsl
//#import common/lanes.wgsl

@group(0) @binding(5) var<storage, read_write> o: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;

fn store4_o(i: u32, v: vec4<f32>) { o[i] = v; }

var<private> most: array<f32, ROWS>;
var<private> total: array<f32, ROWS>;
// Columns 4 lane of the first 32 of the chunk, and of the second.
var<private> left: Rows;
var<private> right: Rows;
// Of the second 64 columns.
var<private> left_far: Rows;
var<private> right_far: Rows;

// How far scores may exceed the maximum that weights are relative to, before it is raised: sums stay far from the end of f32, and most tiles
// need no maximum of rows, nor shrink what was added up.
const SLACK: f32 = 8.0;
var<private> excess: f32;

// Turns products of four queries into scores, NOTHING where hidden.
fn note_scores(first: u32, at: Head, query: u32, j: vec4<u32>) {
    for (var r = first; r < first + 4u; r++) {
        let s = scores(products[r], at, vec4<u32>(query + r), j).value;
        let x = select(vec4<f32>(NOTHING), s, has(sights, r));
        products[r] = x;
        excess = max(excess, max(max(x.x, x.y), max(x.z, x.w)) - most[r]);
    }
}

// Raises the maximum of four queries, and shrinks what was added up under a lower one.
fn raise(first: u32) {
    for (var r = first; r < first + 4u; r++) {
        let x = products[r];
        let highest = max(most[r], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));
        let shrink = exp(most[r] - highest);
        most[r] = highest;
        total[r] *= shrink;
        left[r] *= shrink;
        right[r] *= shrink;
        if (DV4 > 16u) {
            left_far[r] *= shrink;
            right_far[r] *= shrink;
        }
    }
}

// Turns scores of four queries into weights.
fn soften(first: u32) {
    for (var r = first; r < first + 4u; r++) {
        let x = products[r];
        let w = select(vec4<f32>(0.0), exp_of_negative(x - most[r]), x > vec4<f32>(NOTHING));
        total[r] += w.x + w.y + w.z + w.w;
        products[r] = w * factor(r);
    }
}

@compute @workgroup_size(8)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let part = (wg.x + wg.y * nwg.x) % PARTS;
    let group = (wg.x + wg.y * nwg.x) / PARTS;
    let chunks = (DV4 + 31u) / 32u;
    let tiles = tile_count(BY_QUERY, ROWS);
    let head = group / (chunks * tiles);
    let at = Head(head / p.heads, head % p.heads);
    if (at.batch < p.batch) {
        let query = tile_start(BY_QUERY, at, group / chunks % tiles, ROWS);
        let rows = vec2<u32>(query, query + ROWS);
        let column = group % chunks * 32u + lane;
        let c0 = min(column, DV4 - 1u);
        let c1 = min(column + 8u, DV4 - 1u);
        let c2 = min(column + 16u, DV4 - 1u);
        let c3 = min(column + 24u, DV4 - 1u);
        for (var r = 0u; r < ROWS; r++) {
            most[r] = NOTHING;
            total[r] = 0.0;
        }
        clear(&left);
        clear(&right);
        if (DV4 > 16u) {
            clear(&left_far);
            clear(&right_far);
        }
        open_union(at, query);
        let steps = part_of(steps_of(BY_QUERY, at, rows), part);
        for (var n = steps.x; n < steps.y; n++) {
            let step = step_of(BY_QUERY, at, rows, n);
            let key = step.x;
            if (step.y != EMPTY) {
                let j = keys4(key + 4u * lane);
                let own = query + lane;
                let q = vec4<u32>(q_at(at, own), q_at(at, own + 8u), q_at(at, own + 16u), q_at(at, own + 24u));
                let k = vec4<u32>(k_at(at, j.x), k_at(at, j.y), k_at(at, j.z), k_at(at, j.w));
                clear(&products);
                for (var d = 0u; d < D4 / 2u; d++) {
                    add_scores(q, k, 2u * d);
                    add_scores(q, k, 2u * d + 1u);
                }
                if (D4 % 2u == 1u) { add_scores(q, k, D4 - 1u); }
                look(at, query, key + 4u * lane, false, step.y);
                excess = NOTHING;
                note_scores(0u, at, query, j);
                note_scores(4u, at, query, j);
                note_scores(8u, at, query, j);
                note_scores(12u, at, query, j);
                if (ROWS > 16u) {
                    note_scores(16u, at, query, j);
                    note_scores(20u, at, query, j);
                    note_scores(24u, at, query, j);
                    note_scores(28u, at, query, j);
                }
                if (subgroupAny(excess > SLACK)) {
                    raise(0u);
                    raise(4u);
                    raise(8u);
                    raise(12u);
                    if (ROWS > 16u) {
                        raise(16u);
                        raise(20u);
                        raise(24u);
                        raise(28u);
                    }
                }
                soften(0u);
                soften(4u);
                soften(8u);
                soften(12u);
                if (ROWS > 16u) {
                    soften(16u);
                    soften(20u);
                    soften(24u);
                    soften(28u);
                }
                for (var four = 0u; four < 8u; four++) {
                    let v0 = v_at(at, key_of(key + 4u * four));
                    let v1 = v_at(at, key_of(key + 4u * four + 1u));
                    let v2 = v_at(at, key_of(key + 4u * four + 2u));
                    let v3 = v_at(at, key_of(key + 4u * four + 3u));
                    add_weighted(&left, four, mat4x4<f32>(load4_v(v0 + c0), load4_v(v1 + c0), load4_v(v2 + c0), load4_v(v3 + c0)));
                    if (DV4 > 8u) {
                        add_weighted(&right, four, mat4x4<f32>(load4_v(v0 + c1), load4_v(v1 + c1), load4_v(v2 + c1), load4_v(v3 + c1)));
                    }
                    if (DV4 > 16u) {
                        add_weighted(&left_far, four, mat4x4<f32>(load4_v(v0 + c2), load4_v(v1 + c2), load4_v(v2 + c2), load4_v(v3 + c2)));
                        add_weighted(&right_far, four, mat4x4<f32>(load4_v(v0 + c3), load4_v(v1 + c3), load4_v(v2 + c3), load4_v(v3 + c3)));
                    }
                }
            }
        }
        for (var r = 0u; r < ROWS; r++) {
            var sum = subgroupAdd(total[r]);
            var highest = most[r];
            var shrink = 1.0;
            if (HAS_SINKS && part == 0u) {
                let sink = load_aux(sinks_start() + at.head);
                highest = max(highest, sink);
                shrink = exp(most[r] - highest);
                sum = sum * shrink + exp(sink - highest);
            }
            if (query + r < p.queries) {
                let scale = select(0.0, shrink / max(sum, 1e-30), sum > 0.0);
                let row = (((part * p.batch + at.batch) * p.queries + query + r) * p.heads + at.head) * DV4;
                if (column < DV4) { store4_o(row + column, left[r] * scale); }
                if (column + 8u < DV4) { store4_o(row + column + 8u, right[r] * scale); }
                if (DV4 > 16u && column + 16u < DV4) { store4_o(row + column + 16u, left_far[r] * scale); }
                if (DV4 > 16u && column + 24u < DV4) { store4_o(row + column + 24u, right_far[r] * scale); }
                if (lane == 0u && group % chunks == 0u) {
                    lse[row_of(Head(part * p.batch + at.batch, at.head), query + r)] = select(NOTHING, highest + log(max(sum, 1e-30)), sum > 0.0);
                }
            }
        }
    }
}
