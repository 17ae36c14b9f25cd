// The gradients of keys and values, with w and dx as in attention/dq.wgsl:
//
//   dv_j = sum over i of w_ij do_i;   dk_j = sum over i of dx_ij q_i
//
// over the queries of all heads of the group. d_kv: for each part dk [batch, keys, heads / group, 4 D4], behind all of them for each part dv
// [batch, keys, heads / group, 4 DV4]. A workgroup has 32 keys and up to 64 columns of both, and goes over the queries by 32.

//#import common/attention_inputs.wgsl
//#import common/attention.wgsl
//#import common/tiles.wgsl

@group(0) @binding(5) var<storage, read> d_o: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> d_kv: array<vec4<f32>>;

fn load4_d_o(i: u32) -> vec4<f32> { return d_o[i]; }

fn element4(which: u32, at: Head, row: u32, d: u32) -> vec4<f32> {
    switch which {
        case OF_Q: { return load4_q(q_at(at, row) + d); }
        case OF_K: { return load4_k(k_at(at, row) + d); }
        case OF_V: { return load4_v(v_at(at, row) + d); }
        default: { return load4_d_o(o_at(at, row) + d); }
    }
}

@compute @workgroup_size(8, 8)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let part = (wg.x + wg.y * nwg.x) % PARTS;
    let group = (wg.x + wg.y * nwg.x) / PARTS;
    let chunks = (max(D4, DV4) + 15u) / 16u;
    let tiles = tile_count(BY_KEY, 32u);
    let key_heads = p.heads / p.group;
    let head = group / (chunks * tiles);
    let batch = head / key_heads;
    let key_head = head % key_heads;
    if (batch < p.batch) {
        let key = tile_start(BY_KEY, Head(batch, key_head * p.group), group / chunks % tiles, 32u);
        let rows = vec2<u32>(key, key + 32u);
        let leader = local.x == 0u && local.y == 0u;
        let chunk = group % chunks * 16u;
        let j = key + 4u * local.y;
        var dk = Sum();
        var dv = Sum();
        for (var member = 0u; member < p.group; member++) {
            let at = Head(batch, key_head * p.group + member);
            if (leader) { shared_steps = steps_of(BY_KEY, at, rows); }
            let steps = part_of(workgroupUniformLoad(&shared_steps), part);
            for (var n = steps.x; n < steps.y; n++) {
                if (leader) { shared_step = step_of(BY_KEY, at, rows, n); }
                let step = workgroupUniformLoad(&shared_step);
                let query = step.x;
                if (step.y != EMPTY) {
                    let i = vec4<u32>(query + 4u * local.x) + vec4<u32>(0u, 1u, 2u, 3u);
                    let stat0 = stats[row_of(at, i.x)];
                    let stat1 = stats[row_of(at, i.y)];
                    let stat2 = stats[row_of(at, i.z)];
                    let stat3 = stats[row_of(at, i.w)];
                    let lse = vec4<f32>(stat0.x, stat1.x, stat2.x, stat3.x);
                    let delta = vec4<f32>(stat0.y, stat1.y, stat2.y, stat3.y);
                    var qk = products(OF_K, key, OF_Q, query, at, D4, local);
                    let bits = sights(at, i.x, j, step.y);
                    let kept = keeps(at, i.x, j);
                    var w = mat4x4<f32>();
                    var slopes = mat4x4<f32>();
                    for (var r = 0u; r < 4u; r++) {
                        let s = scores(qk[r], at, i, vec4<u32>(j + r));
                        let weight = weights(s.value, lse, of_key(bits, r) & (lse > vec4<f32>(NOTHING)));
                        w[r] = weight * factor(of_key(kept, r));
                        slopes[r] = weight * s.slope;
                    }
                    add_weighted(&dv, w, OF_D_O, at, query, chunk, DV4, local);
                    let dp = products(OF_V, key, OF_D_O, query, at, DV4, local);
                    let dx = mat4x4<f32>(
                        slopes[0] * (dp[0] * factor(of_key(kept, 0u)) - delta),
                        slopes[1] * (dp[1] * factor(of_key(kept, 1u)) - delta),
                        slopes[2] * (dp[2] * factor(of_key(kept, 2u)) - delta),
                        slopes[3] * (dp[3] * factor(of_key(kept, 3u)) - delta),
                    );
                    add_weighted(&dk, dx, OF_Q, at, query, chunk, D4, local);
                }
            }
        }
        let values = PARTS * p.batch * p.keys * key_heads * D4;
        let column = chunk + local.x;
        for (var r = 0u; r < 4u; r++) {
            if (j + r < p.keys) {
                let row = ((part * p.batch + batch) * p.keys + j + r) * key_heads + key_head;
                if (column < D4) { d_kv[row * D4 + column] = dk.left[r]; }
                if (column + 8u < D4) { d_kv[row * D4 + column + 8u] = dk.right[r]; }
                if (column < DV4) { d_kv[values + row * DV4 + column] = dv.left[r]; }
                if (column + 8u < DV4) { d_kv[values + row * DV4 + column + 8u] = dv.right[r]; }
            }
        }
    }
}
