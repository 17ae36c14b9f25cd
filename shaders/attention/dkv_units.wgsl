// The gradients of keys and values on matrix units, of halves: attention/dkv.wgsl with 64 keys a workgroup, 16 to a subgroup, and heads of at most 128.
//
//   dv_j = sum over i of w_ij do_i;   dk_j = sum over i of dx_ij q_i
//
// w and dx are halves in these products.

enable f16;

//#import common/fragments.wgsl
//#import common/attention.wgsl
//#import common/attention_units.wgsl

@group(0) @binding(5) var<storage, read> d_o: array<vec4<f16>>;
@group(0) @binding(6) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> d_kv: array<vec4<f32>>;

fn element4(which: u32, at: Head, row: u32, d: u32) -> vec4<f16> {
    switch which {
        case OF_Q: { return q[q_at(at, row) + d]; }
        case OF_K: { return k[k_at(at, row) + d]; }
        case OF_V: { return v[v_at(at, row) + d]; }
        default: { return d_o[o_at(at, row) + d]; }
    }
}

// Stores two fragments of all subgroups, the columns from `column` on in fours: behind `start`, rows of so many fours of [PARTS, batch, keys, heads / group].
fn store(left: Sums, right: Sums, start: u32, fours: u32, column: u32, batch: u32, key_head: u32, j: u32, own: u32, local: vec2<u32>) {
    put_pair(left, right, own);
    workgroupBarrier();
    let d = column + local.x;
    for (var r = 0u; r < 4u; r++) {
        if (j + r < p.keys && d < fours) {
            let row = (batch * p.keys + j + r) * (p.heads / p.group) + key_head;
            d_kv[start + row * fours + d] = floats[(4u * local.y + r) * SCORE_PITCH + local.x];
        }
    }
    workgroupBarrier();
}

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) cell: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let part = (wg.x + wg.y * nwg.x) % PARTS;
    let group = (wg.x + wg.y * nwg.x) / PARTS;
    let chunks = (max(D4, DV4) + 15u) / 16u;
    let tiles = tile_count(BY_KEY, ROWS);
    let key_heads = p.heads / p.group;
    let head = group / (chunks * tiles);
    let batch = head / key_heads;
    let key_head = head % key_heads;
    if (group < chunks * tiles * p.batch * key_heads) {
        let local = vec2<u32>(cell % 8u, cell / 8u);
        let own = 16u * enter_subgroup(cell, subgroup);
        let first = Head(batch, key_head * p.group);
        let key = tile_start(BY_KEY, first, group / chunks % tiles, ROWS);
        let rows = vec2<u32>(key, key + ROWS);
        let leader = cell == 0u;
        let chunk = group % chunks * 16u;
        let j = key + 4u * local.y;

        stage(OF_K, first, key, ROWS, 0u, D4, 0u, cell);
        workgroupBarrier();
        let k0 = own_rows(own, 0u);
        let k1 = own_rows(own, 1u);
        let k2 = own_rows(own, 2u);
        let k3 = own_rows(own, 3u);
        let k4 = own_rows(own, 4u);
        let k5 = own_rows(own, 5u);
        let k6 = own_rows(own, 6u);
        let k7 = own_rows(own, 7u);
        workgroupBarrier();
        stage(OF_V, first, key, ROWS, 0u, DV4, 0u, cell);
        workgroupBarrier();
        let v0 = own_rows(own, 0u);
        let v1 = own_rows(own, 1u);
        let v2 = own_rows(own, 2u);
        let v3 = own_rows(own, 3u);
        let v4 = own_rows(own, 4u);
        let v5 = own_rows(own, 5u);
        let v6 = own_rows(own, 6u);
        let v7 = own_rows(own, 7u);
        var dk0 = Sums();
        var dk1 = Sums();
        var dk2 = Sums();
        var dk3 = Sums();
        var dv0 = Sums();
        var dv1 = Sums();
        var dv2 = Sums();
        var dv3 = Sums();

        for (var member = 0u; member < p.group; member++) {
            let at = Head(batch, key_head * p.group + member);
            if (leader) { shared_steps = steps_of(BY_KEY, at, rows); }
            let steps = part_of(workgroupUniformLoad(&shared_steps), part);
            for (var n = steps.x; n < steps.y; n++) {
                if (leader) { shared_step = step_of(BY_KEY, at, rows, n); }
                let step = workgroupUniformLoad(&shared_step);
                let query = step.x;
                if (step.y != EMPTY) {
                    stage(OF_Q, at, query, COLUMNS, 0u, D4, 0u, cell);
                    stage(OF_D_O, at, query, COLUMNS, 0u, DV4, FAR, cell);
                    workgroupBarrier();
                    let s0 = across(k0, k1, k2, k3, k4, k5, k6, k7, 0u);
                    let s1 = across(k0, k1, k2, k3, k4, k5, k6, k7, 16u * PITCH);
                    put_pair(s0, s1, own);
                    workgroupBarrier();
                    let qk = products_of(local);
                    let dp0 = across(v0, v1, v2, v3, v4, v5, v6, v7, FAR);
                    let dp1 = across(v0, v1, v2, v3, v4, v5, v6, v7, LAST);
                    workgroupBarrier();
                    put_pair(dp0, dp1, own);
                    let i = vec4<u32>(query + 4u * local.x) + vec4<u32>(0u, 1u, 2u, 3u);
                    let stat0 = stats[row_of(at, i.x)];
                    let stat1 = stats[row_of(at, i.y)];
                    let stat2 = stats[row_of(at, i.z)];
                    let stat3 = stats[row_of(at, i.w)];
                    let lse = vec4<f32>(stat0.x, stat1.x, stat2.x, stat3.x);
                    let delta = vec4<f32>(stat0.y, stat1.y, stat2.y, stat3.y);
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
                    put_weights(w, local);
                    workgroupBarrier();
                    let dp = products_of(local);
                    {
                        let near = left_of_rows(WEIGHTS + own * WEIGHT_PITCH, WEIGHT_PITCH);
                        let far = left_of_rows(WEIGHTS + own * WEIGHT_PITCH + 4u, WEIGHT_PITCH);
                        dv0 = add_weighted(dv0, near, far, FAR + chunk);
                        if (WIDTH > 4u) { dv1 = add_weighted(dv1, near, far, FAR + chunk + 4u); }
                        if (WIDTH > 8u) { dv2 = add_weighted(dv2, near, far, FAR + chunk + 8u); }
                        if (WIDTH > 12u) { dv3 = add_weighted(dv3, near, far, FAR + chunk + 12u); }
                    }
                    workgroupBarrier();
                    put_weights(mat4x4<f32>(
                        slopes[0] * (dp[0] * factor(of_key(kept, 0u)) - delta),
                        slopes[1] * (dp[1] * factor(of_key(kept, 1u)) - delta),
                        slopes[2] * (dp[2] * factor(of_key(kept, 2u)) - delta),
                        slopes[3] * (dp[3] * factor(of_key(kept, 3u)) - delta),
                    ), local);
                    workgroupBarrier();
                    let near = left_of_rows(WEIGHTS + own * WEIGHT_PITCH, WEIGHT_PITCH);
                    let far = left_of_rows(WEIGHTS + own * WEIGHT_PITCH + 4u, WEIGHT_PITCH);
                    dk0 = add_weighted(dk0, near, far, chunk);
                    if (WIDTH > 4u) { dk1 = add_weighted(dk1, near, far, chunk + 4u); }
                    if (WIDTH > 8u) { dk2 = add_weighted(dk2, near, far, chunk + 8u); }
                    if (WIDTH > 12u) { dk3 = add_weighted(dk3, near, far, chunk + 12u); }
                }
            }
        }

        let values = PARTS * p.batch * p.keys * key_heads * D4;
        let to = part * p.batch + batch;
        workgroupBarrier();
        store(dk0, dk1, 0u, D4, chunk, to, key_head, j, own, local);
        store(dv0, dv1, values, DV4, chunk, to, key_head, j, own, local);
        if (WIDTH > 8u) {
            store(dk2, dk3, 0u, D4, chunk + 8u, to, key_head, j, own, local);
            store(dv2, dv3, values, DV4, chunk + 8u, to, key_head, j, own, local);
        }
    }
}
