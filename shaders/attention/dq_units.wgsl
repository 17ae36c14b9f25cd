// The gradient of the queries on matrix units, of halves: attention/dq.wgsl with 64 queries a workgroup, 16 to a subgroup, and heads of at most 128.
//
//   dp_ij = do_i v_j;   dx_ij = w_ij (dp_ij - delta_i) slope_ij;   dq_i = sum over j of dx_ij k_j
//
// dx are halves in the second product, as the weights are in that of the forward.

enable f16;

//#import common/fragments.wgsl
//#import common/attention.wgsl
//#import common/attention_units.wgsl

@group(0) @binding(5) var<storage, read> d_o: array<vec4<f16>>;
@group(0) @binding(6) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> dq: array<vec4<f32>>;

fn element4(which: u32, at: Head, row: u32, d: u32) -> vec4<f16> {
    switch which {
        case OF_Q: { return q[q_at(at, row) + d]; }
        case OF_K: { return k[k_at(at, row) + d]; }
        case OF_V: { return v[v_at(at, row) + d]; }
        default: { return d_o[o_at(at, row) + d]; }
    }
}

// dx of query i and four keys.
fn gradient(product: vec4<f32>, dp: vec4<f32>, stat: vec2<f32>, at: Head, i: u32, j: vec4<u32>, sees: vec4<bool>, kept: vec4<bool>) -> vec4<f32> {
    let s = scores(product, at, vec4<u32>(i), j);
    let w = weights(s.value, vec4<f32>(stat.x), sees & vec4<bool>(stat.x > NOTHING));
    return w * s.slope * (dp * factor(kept) - stat.y);
}

// Stores two fragments of all subgroups, the columns from `column` on in fours.
fn store(left: Sums, right: Sums, column: u32, to: Head, i: u32, own: u32, local: vec2<u32>) {
    put_pair(left, right, own);
    workgroupBarrier();
    let d = column + local.x;
    for (var r = 0u; r < 4u; r++) {
        if (i + r < p.queries && d < D4) {
            let row = (to.batch * p.queries + i + r) * p.heads + to.head;
            dq[row * D4 + d] = floats[(4u * local.y + r) * SCORE_PITCH + local.x];
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
    let tiles = tile_count(BY_QUERY, ROWS);
    let head = group / tiles;
    let at = Head(head / p.heads, head % p.heads);
    if (group < tiles * p.batch * p.heads) {
        let local = vec2<u32>(cell % 8u, cell / 8u);
        let own = 16u * enter_subgroup(cell, subgroup);
        let query = tile_start(BY_QUERY, at, group % tiles, ROWS);
        let rows = vec2<u32>(query, query + ROWS);
        let leader = cell == 0u;
        let i = query + 4u * local.y;
        let stat0 = stats[row_of(at, i)];
        let stat1 = stats[row_of(at, i + 1u)];
        let stat2 = stats[row_of(at, i + 2u)];
        let stat3 = stats[row_of(at, i + 3u)];

        stage(OF_Q, at, query, ROWS, 0u, D4, 0u, cell);
        workgroupBarrier();
        let q0 = own_rows(own, 0u);
        let q1 = own_rows(own, 1u);
        let q2 = own_rows(own, 2u);
        let q3 = own_rows(own, 3u);
        let q4 = own_rows(own, 4u);
        let q5 = own_rows(own, 5u);
        let q6 = own_rows(own, 6u);
        let q7 = own_rows(own, 7u);
        workgroupBarrier();
        stage(OF_D_O, at, query, ROWS, 0u, DV4, 0u, cell);
        workgroupBarrier();
        let g0 = own_rows(own, 0u);
        let g1 = own_rows(own, 1u);
        let g2 = own_rows(own, 2u);
        let g3 = own_rows(own, 3u);
        let g4 = own_rows(own, 4u);
        let g5 = own_rows(own, 5u);
        let g6 = own_rows(own, 6u);
        let g7 = own_rows(own, 7u);
        var dq0 = Sums();
        var dq1 = Sums();
        var dq2 = Sums();
        var dq3 = Sums();
        var dq4 = Sums();
        var dq5 = Sums();
        var dq6 = Sums();
        var dq7 = Sums();

        if (leader) { shared_steps = steps_of(BY_QUERY, at, rows); }
        let steps = part_of(workgroupUniformLoad(&shared_steps), part);
        for (var n = steps.x; n < steps.y; n++) {
            if (leader) { shared_step = step_of(BY_QUERY, at, rows, n); }
            let step = workgroupUniformLoad(&shared_step);
            let key = step.x;
            if (step.y != EMPTY) {
                stage(OF_K, at, key, COLUMNS, 0u, D4, 0u, cell);
                stage(OF_V, at, key, COLUMNS, 0u, DV4, FAR, cell);
                workgroupBarrier();
                let s0 = across(q0, q1, q2, q3, q4, q5, q6, q7, 0u);
                let s1 = across(q0, q1, q2, q3, q4, q5, q6, q7, 16u * PITCH);
                put_pair(s0, s1, own);
                workgroupBarrier();
                let qk = products_of(local);
                let dp0 = across(g0, g1, g2, g3, g4, g5, g6, g7, FAR);
                let dp1 = across(g0, g1, g2, g3, g4, g5, g6, g7, LAST);
                workgroupBarrier();
                put_pair(dp0, dp1, own);
                workgroupBarrier();
                let dp = products_of(local);
                let column = key + 4u * local.x;
                let j = vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u);
                let bits = sights(at, i, column, step.y);
                let kept = keeps(at, i, column);
                put_weights(mat4x4<f32>(
                    gradient(qk[0], dp[0], stat0, at, i, j, of_query(bits, 0u), of_query(kept, 0u)),
                    gradient(qk[1], dp[1], stat1, at, i + 1u, j, of_query(bits, 1u), of_query(kept, 1u)),
                    gradient(qk[2], dp[2], stat2, at, i + 2u, j, of_query(bits, 2u), of_query(kept, 2u)),
                    gradient(qk[3], dp[3], stat3, at, i + 3u, j, of_query(bits, 3u), of_query(kept, 3u)),
                ), local);
                workgroupBarrier();
                let near = left_of_rows(WEIGHTS + own * WEIGHT_PITCH, WEIGHT_PITCH);
                let far = left_of_rows(WEIGHTS + own * WEIGHT_PITCH + 4u, WEIGHT_PITCH);
                dq0 = add_weighted(dq0, near, far, 0u);
                if (WIDTH > 4u) { dq1 = add_weighted(dq1, near, far, 4u); }
                if (WIDTH > 8u) { dq2 = add_weighted(dq2, near, far, 8u); }
                if (WIDTH > 12u) { dq3 = add_weighted(dq3, near, far, 12u); }
                if (WIDTH > 16u) { dq4 = add_weighted(dq4, near, far, 16u); }
                if (WIDTH > 20u) { dq5 = add_weighted(dq5, near, far, 20u); }
                if (WIDTH > 24u) { dq6 = add_weighted(dq6, near, far, 24u); }
                if (WIDTH > 28u) { dq7 = add_weighted(dq7, near, far, 28u); }
            }
        }

        let to = Head(part * p.batch + at.batch, at.head);
        workgroupBarrier();
        store(dq0, dq1, 0u, to, i, own, local);
        if (WIDTH > 8u) { store(dq2, dq3, 8u, to, i, own, local); }
        if (WIDTH > 16u) { store(dq4, dq5, 16u, to, i, own, local); }
        if (WIDTH > 24u) { store(dq6, dq7, 24u, to, i, own, local); }
    }
}
