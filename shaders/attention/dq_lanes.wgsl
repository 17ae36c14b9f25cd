// The gradient of the queries for software drivers, as attention/forward_lanes.wgsl: with w from the saved lse,
//
//   dp_ij = do_i v_j;   dx_ij = w_ij (dp_ij - delta_i) slope_ij;   dq_i = sum over j of dx_ij k_j
//
// stats: [batch, heads, queries, 2], lse and delta; d_o: [batch, queries, heads, 4 DV4]; dq: [PARTS, batch, queries, heads, 4 D4], of which one
// subgroup has 16 rows and up to 128 columns.

const ROWS = 16u;

//#import common/attention_inputs.wgsl
//#import common/attention.wgsl
//#import common/lanes.wgsl

@group(0) @binding(5) var<storage, read> d_o: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> dq: array<vec4<f32>>;

fn load4_d_o(i: u32) -> vec4<f32> { return d_o[i]; }

// The lane's rows of stats: `lane` and `lane + 8`.
var<private> upper: vec2<f32>;
var<private> lower: vec2<f32>;
// w slope.
var<private> slopes: Rows;
var<private> left: Rows;
var<private> right: Rows;
// Of the second 64 columns.
var<private> left_far: Rows;
var<private> right_far: Rows;

fn stat(r: u32) -> vec2<f32> {
    return select(subgroupShuffle(upper, r & 7u), subgroupShuffle(lower, r & 7u), r >= 8u);
}

fn weigh(first: u32, at: Head, query: u32, j: vec4<u32>) {
    for (var r = first; r < first + 4u; r++) {
        let lse = stat(r).x;
        let s = scores(products[r], at, vec4<u32>(query + r), j);
        let is_seen = has(sights, r) & vec4<bool>(lse > NOTHING);
        slopes[r] = weights(s.value, vec4<f32>(lse), is_seen) * s.slope;
    }
}

fn differentiate(first: u32) {
    for (var r = first; r < first + 4u; r++) {
        products[r] = slopes[r] * (products[r] * factor(r) - stat(r).y);
    }
}

// As add_scores, of gradients of results and values.
fn add_gradients(o: vec2<u32>, v: vec4<u32>, d: u32) {
    let values = mat4x4<f32>(load4_v(v.x + d), load4_v(v.y + d), load4_v(v.z + d), load4_v(v.w + d));
    add_products(0u, load4_d_o(o.x + d), values);
    add_products(8u, load4_d_o(o.y + d), values);
}

@compute @workgroup_size(8)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let part = (wg.x + wg.y * nwg.x) % PARTS;
    let group = (wg.x + wg.y * nwg.x) / PARTS;
    let chunks = (D4 + 31u) / 32u;
    let tiles = tile_count(BY_QUERY, 16u);
    let head = group / (chunks * tiles);
    let at = Head(head / p.heads, head % p.heads);
    if (at.batch < p.batch) {
        let query = tile_start(BY_QUERY, at, group / chunks % tiles, 16u);
        let rows = vec2<u32>(query, query + 16u);
        let column = group % chunks * 32u + lane;
        let c0 = min(column, D4 - 1u);
        let c1 = min(column + 8u, D4 - 1u);
        let c2 = min(column + 16u, D4 - 1u);
        let c3 = min(column + 24u, D4 - 1u);
        upper = stats[row_of(at, query + lane)];
        lower = stats[row_of(at, query + 8u + lane)];
        clear(&left);
        clear(&right);
        if (D4 > 16u) {
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
                let q = vec4<u32>(q_at(at, query + lane), q_at(at, query + 8u + lane), 0u, 0u);
                let k = vec4<u32>(k_at(at, j.x), k_at(at, j.y), k_at(at, j.z), k_at(at, j.w));
                clear(&products);
                for (var d = 0u; d < D4 / 2u; d++) {
                    add_scores(q, k, 2u * d);
                    add_scores(q, k, 2u * d + 1u);
                }
                if (D4 % 2u == 1u) { add_scores(q, k, D4 - 1u); }
                look(at, query, key + 4u * lane, false, step.y);
                weigh(0u, at, query, j);
                weigh(4u, at, query, j);
                weigh(8u, at, query, j);
                weigh(12u, at, query, j);
                let o = vec2<u32>(o_at(at, query + lane), o_at(at, query + 8u + lane));
                let v = vec4<u32>(v_at(at, j.x), v_at(at, j.y), v_at(at, j.z), v_at(at, j.w));
                clear(&products);
                for (var d = 0u; d < DV4 / 2u; d++) {
                    add_gradients(o, v, 2u * d);
                    add_gradients(o, v, 2u * d + 1u);
                }
                if (DV4 % 2u == 1u) { add_gradients(o, v, DV4 - 1u); }
                differentiate(0u);
                differentiate(4u);
                differentiate(8u);
                differentiate(12u);
                for (var four = 0u; four < 8u; four++) {
                    let a0 = k_at(at, key_of(key + 4u * four));
                    let a1 = k_at(at, key_of(key + 4u * four + 1u));
                    let a2 = k_at(at, key_of(key + 4u * four + 2u));
                    let a3 = k_at(at, key_of(key + 4u * four + 3u));
                    add_weighted(&left, four, mat4x4<f32>(load4_k(a0 + c0), load4_k(a1 + c0), load4_k(a2 + c0), load4_k(a3 + c0)));
                    if (D4 > 8u) {
                        add_weighted(&right, four, mat4x4<f32>(load4_k(a0 + c1), load4_k(a1 + c1), load4_k(a2 + c1), load4_k(a3 + c1)));
                    }
                    if (D4 > 16u) {
                        add_weighted(&left_far, four, mat4x4<f32>(load4_k(a0 + c2), load4_k(a1 + c2), load4_k(a2 + c2), load4_k(a3 + c2)));
                        add_weighted(&right_far, four, mat4x4<f32>(load4_k(a0 + c3), load4_k(a1 + c3), load4_k(a2 + c3), load4_k(a3 + c3)));
                    }
                }
            }
        }
        for (var r = 0u; r < 16u; r++) {
            if (query + r < p.queries) {
                let row = (((part * p.batch + at.batch) * p.queries + query + r) * p.heads + at.head) * D4;
                if (column < D4) { dq[row + column] = left[r]; }
                if (column + 8u < D4) { dq[row + column + 8u] = right[r]; }
                if (D4 > 16u && column + 16u < D4) { dq[row + column + 16u] = left_far[r]; }
                if (D4 > 16u && column + 24u < D4) { dq[row + column + 24u] = right_far[r]; }
            }
        }
    }
}
