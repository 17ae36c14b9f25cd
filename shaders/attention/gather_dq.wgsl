// The gradient of the queries by lists of keys, with w from the saved lse:
//
//   dp_ij = do_i v_j;   dx_ij = w_ij (dp_ij - delta_i) slope_ij;   dq_i = sum over listed j of dx_ij k_j
//
// stats: [batch, heads, queries, 2], lse and delta; d_o: [batch, queries, heads, 4 DV4]; dq: [PARTS, batch, queries, heads, 4 D4]. One invocation for
// each query and up to 64 columns.

//#import common/gather.wgsl

@group(0) @binding(5) var<storage, read> d_o: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> dq: array<vec4<f32>>;

fn load4_d_o(i: u32) -> vec4<f32> { return d_o[i]; }

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let part = ((wg.x + wg.y * nwg.x) * WORKGROUP + local) % PARTS;
    let work = ((wg.x + wg.y * nwg.x) * WORKGROUP + local) / PARTS;
    let chunks = (D4 + 15u) / 16u;
    let chunk = work % chunks * 16u;
    let i = work / chunks / p.group % p.queries;
    let key_heads = p.heads / p.group;
    let key_head = work / chunks / p.group / p.queries % key_heads;
    let at = Head(work / chunks / p.group / p.queries / key_heads, key_head * p.group + work / chunks % p.group);
    if (at.batch < p.batch) {
        let q_row = q_at(at, i);
        let o_row = o_at(at, i);
        let stat = stats[row_of(at, i)];
        var sum: array<vec4<f32>, 16>;
        for (var c = 0u; c < 16u; c++) { sum[c] = vec4<f32>(); }
        let fours = part_of(vec2<u32>(0u, (mask[7] + 3u) / 4u), part);
        for (var n = fours.x; n < fours.y; n++) {
            let j = listed_keys(at, i, 4u * n);
            let k_rows = vec4<u32>(k_at(at, j.x), k_at(at, j.y), k_at(at, j.z), k_at(at, j.w));
            let v_rows = vec4<u32>(v_at(at, j.x), v_at(at, j.y), v_at(at, j.z), v_at(at, j.w));
            var products = vec4<f32>();
            for (var d = 0u; d < D4; d++) {
                products += load4_q(q_row + d) * mat4x4<f32>(
                    load4_k(k_rows.x + d), load4_k(k_rows.y + d), load4_k(k_rows.z + d), load4_k(k_rows.w + d));
            }
            var dp = vec4<f32>();
            for (var d = 0u; d < DV4; d++) {
                dp += load4_d_o(o_row + d) * mat4x4<f32>(
                    load4_v(v_rows.x + d), load4_v(v_rows.y + d), load4_v(v_rows.z + d), load4_v(v_rows.w + d));
            }
            let s = scores(products, at, vec4<u32>(i), j);
            let is_seen = pairs_seen(at, vec4<u32>(i), j) & vec4<bool>(stat.x > NOTHING);
            let w = weights(s.value, vec4<f32>(stat.x), is_seen);
            let dx = select(vec4<f32>(), w * s.slope * (dp * factor4(at, vec4<u32>(i), j) - stat.y), is_seen);
            let rows = k_rows + chunk;
            for (var c = 0u; c < 16u; c++) {
                if (chunk + c < D4) {
                    sum[c] += mat4x4<f32>(
                        load4_k(rows.x + c), load4_k(rows.y + c), load4_k(rows.z + c), load4_k(rows.w + c)) * dx;
                }
            }
        }
        let row = (((part * p.batch + at.batch) * p.queries + i) * p.heads + at.head) * D4 + chunk;
        for (var c = 0u; c < 16u; c++) {
            if (chunk + c < D4) { dq[row + c] = sum[c]; }
        }
    }
}
