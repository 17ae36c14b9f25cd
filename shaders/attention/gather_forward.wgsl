// Attention forward by lists of keys:
//
//   o_i = sum over listed j of w_ij v_j;   lse_i = log of the sum over listed j of exp(s_ij)
//
// with s and w of common/attention.wgsl, both for each part. o: [PARTS, batch, queries, heads, 4 DV4]; lse: [PARTS, batch, heads, queries]. The sinks
// belong to the first part. One invocation for each query, and up
// to 64 columns of the values, goes over its list by fours with a running maximum; neighbours are the heads of a group.

//#import common/gather.wgsl

@group(0) @binding(5) var<storage, read_write> o: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;

fn store4_o(i: u32, v: vec4<f32>) { o[i] = v; }

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let part = ((wg.x + wg.y * nwg.x) * WORKGROUP + local) % PARTS;
    let work = ((wg.x + wg.y * nwg.x) * WORKGROUP + local) / PARTS;
    let chunks = (DV4 + 15u) / 16u;
    let chunk = work % chunks * 16u;
    let i = work / chunks / p.group % p.queries;
    let key_heads = p.heads / p.group;
    let key_head = work / chunks / p.group / p.queries % key_heads;
    let at = Head(work / chunks / p.group / p.queries / key_heads, key_head * p.group + work / chunks % p.group);
    if (at.batch < p.batch) {
        let q_row = q_at(at, i);
        var most = NOTHING;
        var total = 0.0;
        var sum: array<vec4<f32>, 16>;
        for (var c = 0u; c < 16u; c++) { sum[c] = vec4<f32>(); }
        let fours = part_of(vec2<u32>(0u, (mask[7] + 3u) / 4u), part);
        for (var n = fours.x; n < fours.y; n++) {
            let j = listed_keys(at, i, 4u * n);
            let k_rows = vec4<u32>(k_at(at, j.x), k_at(at, j.y), k_at(at, j.z), k_at(at, j.w));
            var products = vec4<f32>();
            for (var d = 0u; d < D4; d++) {
                let query = load4_q(q_row + d);
                products += query * mat4x4<f32>(
                    load4_k(k_rows.x + d), load4_k(k_rows.y + d), load4_k(k_rows.z + d), load4_k(k_rows.w + d));
            }
            let is_seen = pairs_seen(at, vec4<u32>(i), j);
            let s = scores(products, at, vec4<u32>(i), j).value;
            let x = select(vec4<f32>(NOTHING), s, is_seen);
            let highest = max(most, max(max(x.x, x.y), max(x.z, x.w)));
            let shrink = exp_of_negative(vec4<f32>(most - highest)).x;
            most = highest;
            let w = weights(s, vec4<f32>(most), is_seen);
            total = total * shrink + (w.x + w.y + w.z + w.w);
            let kept_weights = w * factor4(at, vec4<u32>(i), j);
            let v_rows = vec4<u32>(v_at(at, j.x), v_at(at, j.y), v_at(at, j.z), v_at(at, j.w)) + chunk;
            for (var c = 0u; c < 16u; c++) {
                if (chunk + c < DV4) {
                    sum[c] = sum[c] * shrink + mat4x4<f32>(
                        load4_v(v_rows.x + c), load4_v(v_rows.y + c), load4_v(v_rows.z + c), load4_v(v_rows.w + c)) * kept_weights;
                }
            }
        }
        var scale = 1.0;
        if (HAS_SINKS && part == 0u) {
            let sink = load_aux(sinks_start() + at.head);
            let highest = max(most, sink);
            scale = exp_of_negative(vec4<f32>(most - highest)).x;
            total = total * scale + exp_of_negative(vec4<f32>(sink - highest)).x;
            most = highest;
        }
        let to = Head(part * p.batch + at.batch, at.head);
        let some = total > 0.0;
        scale = select(0.0, scale / max(total, 1e-30), some);
        for (var c = 0u; c < 16u; c++) {
            if (chunk + c < DV4) { store4_o(o_at(to, i) + chunk + c, sum[c] * scale); }
        }
        if (chunk == 0u) {
            lse[row_of(to, i)] = select(NOTHING, most + ln_(vec4<f32>(max(total, 1e-30))).x, some);
        }
    }
}
