// Attention forward on matrix units, of halves: attention/forward.wgsl with 64 queries a workgroup, 16 to a subgroup, and heads of at most 128.
// The sums of a subgroup stay in fragments, which cannot be scaled by rows; so the maximum that weights are measured by moves only when one of its
// queries meets a score GROWTH above it, and the sums then go through workgroup memory. Till then weights reach exp(GROWTH), which halves hold.
//
//   o_i = sum over j of w_ij v_j;   lse_i = log of the sum over j of exp(s_ij)

enable f16;

//#import common/fragments.wgsl
//#import common/attention.wgsl
//#import common/attention_units.wgsl

@group(0) @binding(5) var<storage, read_write> o: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;

fn store4_o(i: u32, v: vec4<f32>) { o[i] = v; }

const GROWTH: f32 = 5.0;

var<workgroup> grown: u32;

fn element4(which: u32, at: Head, row: u32, d: u32) -> vec4<f16> {
    switch which {
        case OF_Q: { return q[q_at(at, row) + d]; }
        case OF_K: { return k[k_at(at, row) + d]; }
        default: { return v[v_at(at, row) + d]; }
    }
}

// exp(s - most) for what is seen.
fn weights_of(s: vec4<f32>, most: f32, is_seen: vec4<bool>) -> vec4<f32> {
    return select(vec4<f32>(), exp(clamp(s - most, vec4<f32>(-80.0), vec4<f32>(GROWTH + 1.0))), is_seen);
}

// Puts two fragments of each subgroup to `floats`, each row times the factor of its query.
fn put_scaled(left: Sums, right: Sums, by: vec4<f32>, own: u32, local: vec2<u32>) {
    workgroupBarrier();
    put_pair(left, right, own);
    workgroupBarrier();
    for (var r = 0u; r < 4u; r++) { floats[(4u * local.y + r) * SCORE_PITCH + local.x] *= by[r]; }
    workgroupBarrier();
}

// Stores two fragments of all subgroups, the columns from `column` on in fours.
fn store(left: Sums, right: Sums, column: u32, by: vec4<f32>, to: Head, i: u32, own: u32, local: vec2<u32>) {
    put_scaled(left, right, by, own, local);
    let d = column + local.x;
    for (var r = 0u; r < 4u; r++) {
        if (i + r < p.queries && d < DV4) {
            store4_o(o_at(to, i + r) + d, floats[(4u * local.y + r) * SCORE_PITCH + local.x]);
        }
    }
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
    let chunks = (DV4 + 31u) / 32u;
    let tiles = tile_count(BY_QUERY, ROWS);
    let head = group / (chunks * tiles);
    let at = Head(head / p.heads, head % p.heads);
    if (group < chunks * tiles * p.batch * p.heads) {
        let local = vec2<u32>(cell % 8u, cell / 8u);
        let own = 16u * enter_subgroup(cell, subgroup);
        let query = tile_start(BY_QUERY, at, group / chunks % tiles, ROWS);
        let rows = vec2<u32>(query, query + ROWS);
        let leader = cell == 0u;
        let chunk = group % chunks * 32u;
        let i = query + 4u * local.y;
        var most = vec4<f32>(NOTHING);
        var total = vec4<f32>();

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
        var o0 = Sums();
        var o1 = Sums();
        var o2 = Sums();
        var o3 = Sums();
        var o4 = Sums();
        var o5 = Sums();
        var o6 = Sums();
        var o7 = Sums();

        if (leader) { shared_steps = steps_of(BY_QUERY, at, rows); }
        let steps = part_of(workgroupUniformLoad(&shared_steps), part);
        for (var n = steps.x; n < steps.y; n++) {
            if (leader) {
                shared_step = step_of(BY_QUERY, at, rows, n);
                grown = 0u;
            }
            let step = workgroupUniformLoad(&shared_step);
            let key = step.x;
            if (step.y != EMPTY) {
                stage(OF_K, at, key, COLUMNS, 0u, D4, 0u, cell);
                stage(OF_V, at, key, COLUMNS, chunk, DV4, FAR, cell);
                workgroupBarrier();
                let s0 = across(q0, q1, q2, q3, q4, q5, q6, q7, 0u);
                let s1 = across(q0, q1, q2, q3, q4, q5, q6, q7, 16u * PITCH);
                put_pair(s0, s1, own);
                workgroupBarrier();
                let qk = products_of(local);
                let column = key + 4u * local.x;
                let j = vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u);
                let x0 = scores(qk[0], at, vec4<u32>(i), j).value;
                let x1 = scores(qk[1], at, vec4<u32>(i + 1u), j).value;
                let x2 = scores(qk[2], at, vec4<u32>(i + 2u), j).value;
                let x3 = scores(qk[3], at, vec4<u32>(i + 3u), j).value;
                let bits = sights(at, i, column, step.y);
                let kept = keeps(at, i, column);
                let columns = transpose(mat4x4<f32>(
                    select(vec4<f32>(NOTHING), x0, of_query(bits, 0u)),
                    select(vec4<f32>(NOTHING), x1, of_query(bits, 1u)),
                    select(vec4<f32>(NOTHING), x2, of_query(bits, 2u)),
                    select(vec4<f32>(NOTHING), x3, of_query(bits, 3u)),
                ));
                let highest = max(most, highest_of(max(max(columns[0], columns[1]), max(columns[2], columns[3]))));
                // Nothing is summed yet for a query that saw no key before: it moves alone.
                let fresh = most == vec4<f32>(NOTHING);
                most = select(most, highest, fresh);
                if (any(highest > most + GROWTH)) { grown = 1u; }
                if (workgroupUniformLoad(&grown) == 1u) {
                    let shrink = exp(max(most - highest, vec4<f32>(-80.0)));
                    most = highest;
                    total *= shrink;
                    put_scaled(o0, o1, shrink, own, local);
                    o0 = sums_of(own * SCORE_PITCH, SCORE_PITCH);
                    o1 = sums_of(own * SCORE_PITCH + 4u, SCORE_PITCH);
                    if (WIDTH > 8u) {
                        put_scaled(o2, o3, shrink, own, local);
                        o2 = sums_of(own * SCORE_PITCH, SCORE_PITCH);
                        o3 = sums_of(own * SCORE_PITCH + 4u, SCORE_PITCH);
                    }
                    if (WIDTH > 16u) {
                        put_scaled(o4, o5, shrink, own, local);
                        o4 = sums_of(own * SCORE_PITCH, SCORE_PITCH);
                        o5 = sums_of(own * SCORE_PITCH + 4u, SCORE_PITCH);
                    }
                    if (WIDTH > 24u) {
                        put_scaled(o6, o7, shrink, own, local);
                        o6 = sums_of(own * SCORE_PITCH, SCORE_PITCH);
                        o7 = sums_of(own * SCORE_PITCH + 4u, SCORE_PITCH);
                    }
                }
                let w0 = weights_of(x0, most.x, of_query(bits, 0u));
                let w1 = weights_of(x1, most.y, of_query(bits, 1u));
                let w2 = weights_of(x2, most.z, of_query(bits, 2u));
                let w3 = weights_of(x3, most.w, of_query(bits, 3u));
                total += vec4<f32>(1.0) * mat4x4<f32>(w0, w1, w2, w3);
                put_weights(mat4x4<f32>(
                    w0 * factor(of_query(kept, 0u)),
                    w1 * factor(of_query(kept, 1u)),
                    w2 * factor(of_query(kept, 2u)),
                    w3 * factor(of_query(kept, 3u)),
                ), local);
                workgroupBarrier();
                let near = left_of_rows(WEIGHTS + own * WEIGHT_PITCH, WEIGHT_PITCH);
                let far = left_of_rows(WEIGHTS + own * WEIGHT_PITCH + 4u, WEIGHT_PITCH);
                o0 = add_weighted(o0, near, far, FAR);
                if (WIDTH > 4u) { o1 = add_weighted(o1, near, far, FAR + 4u); }
                if (WIDTH > 8u) { o2 = add_weighted(o2, near, far, FAR + 8u); }
                if (WIDTH > 12u) { o3 = add_weighted(o3, near, far, FAR + 12u); }
                if (WIDTH > 16u) { o4 = add_weighted(o4, near, far, FAR + 16u); }
                if (WIDTH > 20u) { o5 = add_weighted(o5, near, far, FAR + 20u); }
                if (WIDTH > 24u) { o6 = add_weighted(o6, near, far, FAR + 24u); }
                if (WIDTH > 28u) { o7 = add_weighted(o7, near, far, FAR + 28u); }
            }
        }

        total = sum_of(total);
        var scale = vec4<f32>(1.0);
        if (HAS_SINKS && part == 0u) {
            let sink = vec4<f32>(load_aux(sinks_start() + at.head));
            let highest = max(most, sink);
            scale = exp_of_negative(most - highest);
            total = total * scale + exp_of_negative(sink - highest);
            most = highest;
        }
        let some = total > vec4<f32>(0.0);
        let log_sum = select(vec4<f32>(NOTHING), most + ln_(max(total, vec4<f32>(1e-30))), some);
        scale = select(vec4<f32>(), scale / max(total, vec4<f32>(1e-30)), some);
        let to = Head(part * p.batch + at.batch, at.head);
        store(o0, o1, chunk, scale, to, i, own, local);
        if (WIDTH > 8u) { store(o2, o3, chunk + 8u, scale, to, i, own, local); }
        if (WIDTH > 16u) { store(o4, o5, chunk + 16u, scale, to, i, own, local); }
        if (WIDTH > 24u) { store(o6, o7, chunk + 24u, scale, to, i, own, local); }
        if (local.x == 0u && chunk == 0u) {
            for (var r = 0u; r < 4u; r++) {
                if (i + r < p.queries) { lse[row_of(to, i + r)] = log_sum[r]; }
            }
        }
    }
}
