// The gradients of keys and values for software drivers, as attention/dq_lanes.wgsl, with queries for keys:
//
//   dv_j = sum over i of w_ij do_i;   dk_j = sum over i of dx_ij q_i
//
// over the queries of all heads of the group. d_kv: for each part dk [batch, keys, heads / group, 4 D4], behind all of them for each part dv
// [batch, keys, heads / group, 4 DV4]. One subgroup has 16 keys and up to 64 columns of both.

const ROWS = 16u;

//#import common/attention_inputs.wgsl
//#import common/attention.wgsl
//#import common/lanes.wgsl

@group(0) @binding(5) var<storage, read> d_o: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> d_kv: array<vec4<f32>>;

fn load4_d_o(i: u32) -> vec4<f32> { return d_o[i]; }

// w slope.
var<private> slopes: Rows;
var<private> dk_left: Rows;
var<private> dk_right: Rows;
var<private> dv_left: Rows;
var<private> dv_right: Rows;

fn weigh(first: u32, at: Head, i: vec4<u32>, key: u32, lse: vec4<f32>) {
    for (var r = first; r < first + 4u; r++) {
        let s = scores(products[r], at, i, vec4<u32>(key + r));
        let w = weights(s.value, lse, has(sights, r) & (lse > vec4<f32>(NOTHING)));
        slopes[r] = w * s.slope;
        products[r] = w * factor(r);
    }
}

fn differentiate(first: u32, delta: vec4<f32>) {
    for (var r = first; r < first + 4u; r++) {
        products[r] = slopes[r] * (products[r] * factor(r) - delta);
    }
}

// As add_scores, of two keys and four queries.
fn add_scores_by_key(k: vec2<u32>, q: vec4<u32>, d: u32) {
    let queries = mat4x4<f32>(load4_q(q.x + d), load4_q(q.y + d), load4_q(q.z + d), load4_q(q.w + d));
    add_products(0u, load4_k(k.x + d), queries);
    add_products(8u, load4_k(k.y + d), queries);
}

// The same of values and gradients of results.
fn add_gradients(v: vec2<u32>, o: vec4<u32>, d: u32) {
    let gradients = mat4x4<f32>(load4_d_o(o.x + d), load4_d_o(o.y + d), load4_d_o(o.z + d), load4_d_o(o.w + d));
    add_products(0u, load4_v(v.x + d), gradients);
    add_products(8u, load4_v(v.y + d), gradients);
}

@compute @workgroup_size(8)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let part = (wg.x + wg.y * nwg.x) % PARTS;
    let group = (wg.x + wg.y * nwg.x) / PARTS;
    let chunks = (max(D4, DV4) + 15u) / 16u;
    let tiles = tile_count(BY_KEY, 16u);
    let key_heads = p.heads / p.group;
    let head = group / (chunks * tiles);
    let batch = head / key_heads;
    let key_head = head % key_heads;
    if (batch < p.batch) {
        let key = tile_start(BY_KEY, Head(batch, key_head * p.group), group / chunks % tiles, 16u);
        let rows = vec2<u32>(key, key + 16u);
        let column = group % chunks * 16u + lane;
        let k0 = min(column, D4 - 1u);
        let k1 = min(column + 8u, D4 - 1u);
        let v0 = min(column, DV4 - 1u);
        let v1 = min(column + 8u, DV4 - 1u);
        clear(&dk_left);
        clear(&dk_right);
        clear(&dv_left);
        clear(&dv_right);
        for (var member = 0u; member < p.group; member++) {
            let at = Head(batch, key_head * p.group + member);
            let steps = part_of(steps_of(BY_KEY, at, rows), part);
            for (var n = steps.x; n < steps.y; n++) {
                let step = step_of(BY_KEY, at, rows, n);
                let query = step.x;
                if (step.y != EMPTY) {
                    let i = vec4<u32>(query + 4u * lane) + vec4<u32>(0u, 1u, 2u, 3u);
                    let stat0 = stats[row_of(at, i.x)];
                    let stat1 = stats[row_of(at, i.y)];
                    let stat2 = stats[row_of(at, i.z)];
                    let stat3 = stats[row_of(at, i.w)];
                    let lse = vec4<f32>(stat0.x, stat1.x, stat2.x, stat3.x);
                    let delta = vec4<f32>(stat0.y, stat1.y, stat2.y, stat3.y);
                    let k = vec2<u32>(k_at(at, key + lane), k_at(at, key + 8u + lane));
                    let q = vec4<u32>(q_at(at, i.x), q_at(at, i.y), q_at(at, i.z), q_at(at, i.w));
                    clear(&products);
                    for (var d = 0u; d < D4 / 2u; d++) {
                        add_scores_by_key(k, q, 2u * d);
                        add_scores_by_key(k, q, 2u * d + 1u);
                    }
                    if (D4 % 2u == 1u) { add_scores_by_key(k, q, D4 - 1u); }
                    look(at, key, i.x, true, step.y);
                    weigh(0u, at, i, key, lse);
                    weigh(4u, at, i, key, lse);
                    weigh(8u, at, i, key, lse);
                    weigh(12u, at, i, key, lse);
                    for (var four = 0u; four < 8u; four++) {
                        let a0 = o_at(at, query + 4u * four);
                        let a1 = o_at(at, query + 4u * four + 1u);
                        let a2 = o_at(at, query + 4u * four + 2u);
                        let a3 = o_at(at, query + 4u * four + 3u);
                        add_weighted(&dv_left, four, mat4x4<f32>(load4_d_o(a0 + v0), load4_d_o(a1 + v0), load4_d_o(a2 + v0), load4_d_o(a3 + v0)));
                        if (DV4 > 8u) {
                            add_weighted(&dv_right, four, mat4x4<f32>(load4_d_o(a0 + v1), load4_d_o(a1 + v1), load4_d_o(a2 + v1), load4_d_o(a3 + v1)));
                        }
                    }
                    let v = vec2<u32>(v_at(at, key + lane), v_at(at, key + 8u + lane));
                    let o = vec4<u32>(o_at(at, i.x), o_at(at, i.y), o_at(at, i.z), o_at(at, i.w));
                    clear(&products);
                    for (var d = 0u; d < DV4 / 2u; d++) {
                        add_gradients(v, o, 2u * d);
                        add_gradients(v, o, 2u * d + 1u);
                    }
                    if (DV4 % 2u == 1u) { add_gradients(v, o, DV4 - 1u); }
                    differentiate(0u, delta);
                    differentiate(4u, delta);
                    differentiate(8u, delta);
                    differentiate(12u, delta);
                    for (var four = 0u; four < 8u; four++) {
                        let a0 = q_at(at, query + 4u * four);
                        let a1 = q_at(at, query + 4u * four + 1u);
                        let a2 = q_at(at, query + 4u * four + 2u);
                        let a3 = q_at(at, query + 4u * four + 3u);
                        add_weighted(&dk_left, four, mat4x4<f32>(load4_q(a0 + k0), load4_q(a1 + k0), load4_q(a2 + k0), load4_q(a3 + k0)));
                        if (D4 > 8u) {
                            add_weighted(&dk_right, four, mat4x4<f32>(load4_q(a0 + k1), load4_q(a1 + k1), load4_q(a2 + k1), load4_q(a3 + k1)));
                        }
                    }
                }
            }
        }
        let values = PARTS * p.batch * p.keys * key_heads * D4;
        for (var r = 0u; r < 16u; r++) {
            if (key + r < p.keys) {
                let row = ((part * p.batch + batch) * p.keys + key + r) * key_heads + key_head;
                if (column < D4) { d_kv[row * D4 + column] = dk_left[r]; }
                if (column + 8u < D4) { d_kv[row * D4 + column + 8u] = dk_right[r]; }
                if (column < DV4) { d_kv[values + row * DV4 + column] = dv_left[r]; }
                if (column + 8u < DV4) { d_kv[values + row * DV4 + column + 8u] = dv_right[r]; }
            }
        }
    }
}
