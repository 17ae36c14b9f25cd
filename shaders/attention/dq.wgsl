// The gradient of the queries (Dao, "FlashAttention-2", 2023), with the weights w computed again from the saved lse:
//
//   dp_ij = do_i v_j;   dx_ij = w_ij (dp_ij - delta_i) slope_ij;   dq_i = sum over j of dx_ij k_j
//
// stats: [batch, heads, queries, 2], lse and delta; d_o: [batch, queries, heads, 4 DV4]; dq: [PARTS, batch, queries, heads, 4 D4], of which a
// workgroup has 32 rows and up to 128 columns, and goes over the keys by 32.

//#import common/attention_inputs.wgsl
//#import common/attention.wgsl
//#import common/tiles.wgsl

@group(0) @binding(5) var<storage, read> d_o: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> dq: array<vec4<f32>>;

fn load4_d_o(i: u32) -> vec4<f32> { return d_o[i]; }

fn element4(which: u32, at: Head, row: u32, d: u32) -> vec4<f32> {
    switch which {
        case OF_Q: { return load4_q(q_at(at, row) + d); }
        case OF_K: { return load4_k(k_at(at, key_of(row)) + d); }
        case OF_V: { return load4_v(v_at(at, key_of(row)) + d); }
        default: { return load4_d_o(o_at(at, row) + d); }
    }
}

// dx of query i and four keys.
fn gradient(product: vec4<f32>, dp: vec4<f32>, at: Head, i: u32, j: vec4<u32>, sees: vec4<bool>, kept: vec4<bool>) -> vec4<f32> {
    let stat = stats[row_of(at, i)];
    let s = scores(product, at, vec4<u32>(i), j);
    let w = weights(s.value, vec4<f32>(stat.x), sees & vec4<bool>(stat.x > NOTHING));
    return w * s.slope * (dp * factor(kept) - stat.y);
}

@compute @workgroup_size(8, 8)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let part = (wg.x + wg.y * nwg.x) % PARTS;
    let group = (wg.x + wg.y * nwg.x) / PARTS;
    let chunks = (D4 + 31u) / 32u;
    let tiles = tile_count(BY_QUERY, 32u);
    let head = group / (chunks * tiles);
    let at = Head(head / p.heads, head % p.heads);
    if (at.batch < p.batch) {
        let query = tile_start(BY_QUERY, at, group / chunks % tiles, 32u);
        let rows = vec2<u32>(query, query + 32u);
        let leader = local.x == 0u && local.y == 0u;
        let chunk = group % chunks * 32u;
        let i = query + 4u * local.y;
        var sum = Sum();
        var far = Sum();
        open_union(at, query);
        if (leader) { shared_steps = steps_of(BY_QUERY, at, rows); }
        let steps = part_of(workgroupUniformLoad(&shared_steps), part);
        for (var n = steps.x; n < steps.y; n++) {
            if (leader) { shared_step = step_of(BY_QUERY, at, rows, n); }
            let step = workgroupUniformLoad(&shared_step);
            let key = step.x;
            if (step.y != EMPTY) {
                let column = key + 4u * local.x;
                let j = keys4(column);
                let qk = products(OF_Q, query, OF_K, key, at, D4, local);
                let dp = products(OF_D_O, query, OF_V, key, at, DV4, local);
                let bits = sights(at, i, column, step.y);
                let kept = keeps(at, i, column);
                let dx = mat4x4<f32>(
                    gradient(qk[0], dp[0], at, i, j, of_query(bits, 0u), of_query(kept, 0u)),
                    gradient(qk[1], dp[1], at, i + 1u, j, of_query(bits, 1u), of_query(kept, 1u)),
                    gradient(qk[2], dp[2], at, i + 2u, j, of_query(bits, 2u), of_query(kept, 2u)),
                    gradient(qk[3], dp[3], at, i + 3u, j, of_query(bits, 3u), of_query(kept, 3u)),
                );
                add_weighted(&sum, dx, OF_K, at, key, chunk, D4, local);
                if (D4 > 16u) { add_weighted(&far, dx, OF_K, at, key, chunk + 16u, D4, local); }
            }
        }
        let column = chunk + local.x;
        for (var r = 0u; r < 4u; r++) {
            if (i + r < p.queries) {
                let row = (((part * p.batch + at.batch) * p.queries + i + r) * p.heads + at.head) * D4;
                if (column < D4) { dq[row + column] = sum.left[r]; }
                if (column + 8u < D4) { dq[row + column + 8u] = sum.right[r]; }
                if (D4 > 16u && column + 16u < D4) { dq[row + column + 16u] = far.left[r]; }
                if (D4 > 16u && column + 24u < D4) { dq[row + column + 24u] = far.right[r]; }
            }
        }
    }
}
