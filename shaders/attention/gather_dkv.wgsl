// The gradients of keys and values by lists of keys, with w and dx as in attention/gather_dq.wgsl:
//
//   dv_j = sum over i that list j of w_ij do_i;   dk_j = sum over i that list j of dx_ij q_i
//
// in ascending order of the queries, over the heads of the group one after another. d_kv: for each part dk [batch, keys, heads / group, 4 D4],
// behind all of them for each part dv [batch, keys, heads / group, 4 DV4]. One invocation for each key and up to 64 columns of both.

//#import common/gather.wgsl

@group(0) @binding(5) var<storage, read> d_o: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> d_kv: array<vec4<f32>>;

fn load4_d_o(i: u32) -> vec4<f32> { return d_o[i]; }

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let part = ((wg.x + wg.y * nwg.x) * WORKGROUP + local) % PARTS;
    let work = ((wg.x + wg.y * nwg.x) * WORKGROUP + local) / PARTS;
    let chunks = (max(D4, DV4) + 15u) / 16u;
    let chunk = work % chunks * 16u;
    let j = work / chunks % p.keys;
    let key_heads = p.heads / p.group;
    let key_head = work / chunks / p.keys % key_heads;
    let batch = work / chunks / p.keys / key_heads;
    if (batch < p.batch) {
        var dk: array<vec4<f32>, 16>;
        var dv: array<vec4<f32>, 16>;
        for (var c = 0u; c < 16u; c++) {
            dk[c] = vec4<f32>();
            dv[c] = vec4<f32>();
        }
        for (var member = 0u; member < p.group; member++) {
            let at = Head(batch, key_head * p.group + member);
            let k_row = k_at(at, j);
            let v_row = v_at(at, j);
            let entries = entries_of(at, j);
            let fours = part_of(vec2<u32>(0u, (entries.y - entries.x + 3u) / 4u), part);
            for (var n = fours.x; n < fours.y; n++) {
                let i = listing_queries(entries.x + 4u * n, entries.y);
                let q_rows = vec4<u32>(q_at(at, i.x), q_at(at, i.y), q_at(at, i.z), q_at(at, i.w));
                let o_rows = vec4<u32>(o_at(at, i.x), o_at(at, i.y), o_at(at, i.z), o_at(at, i.w));
                let stat0 = stats[row_of(at, i.x)];
                let stat1 = stats[row_of(at, i.y)];
                let stat2 = stats[row_of(at, i.z)];
                let stat3 = stats[row_of(at, i.w)];
                let log_sums = vec4<f32>(stat0.x, stat1.x, stat2.x, stat3.x);
                let delta = vec4<f32>(stat0.y, stat1.y, stat2.y, stat3.y);
                var products = vec4<f32>();
                for (var d = 0u; d < D4; d++) {
                    products += load4_k(k_row + d) * mat4x4<f32>(
                        load4_q(q_rows.x + d), load4_q(q_rows.y + d), load4_q(q_rows.z + d), load4_q(q_rows.w + d));
                }
                var dp = vec4<f32>();
                for (var d = 0u; d < DV4; d++) {
                    dp += load4_v(v_row + d) * mat4x4<f32>(
                        load4_d_o(o_rows.x + d), load4_d_o(o_rows.y + d), load4_d_o(o_rows.z + d), load4_d_o(o_rows.w + d));
                }
                let s = scores(products, at, i, vec4<u32>(j));
                let is_seen = pairs_seen(at, i, vec4<u32>(j)) & (log_sums > vec4<f32>(NOTHING));
                let w = weights(s.value, log_sums, is_seen);
                let keep = factor4(at, i, vec4<u32>(j));
                let dx = select(vec4<f32>(), w * s.slope * (dp * keep - delta), is_seen);
                let kept_weights = w * keep;
                for (var c = 0u; c < 16u; c++) {
                    let d = chunk + c;
                    if (d < DV4) {
                        dv[c] += mat4x4<f32>(
                            load4_d_o(o_rows.x + d), load4_d_o(o_rows.y + d), load4_d_o(o_rows.z + d), load4_d_o(o_rows.w + d)) * kept_weights;
                    }
                    if (d < D4) {
                        dk[c] += mat4x4<f32>(
                            load4_q(q_rows.x + d), load4_q(q_rows.y + d), load4_q(q_rows.z + d), load4_q(q_rows.w + d)) * dx;
                    }
                }
            }
        }
        let values = PARTS * p.batch * p.keys * key_heads * D4;
        let row = ((part * p.batch + batch) * p.keys + j) * key_heads + key_head;
        for (var c = 0u; c < 16u; c++) {
            let d = chunk + c;
            if (d < D4) { d_kv[row * D4 + d] = dk[c]; }
            if (d < DV4) { d_kv[values + row * DV4 + d] = dv[c]; }
        }
    }
}
