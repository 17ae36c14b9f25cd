// Attention forward (Dao, "FlashAttention-2", 2023), with s and w of common/attention.wgsl:
//
//   o_i = sum over j of w_ij v_j;   lse_i = log of the sum over j of exp(s_ij)
//
// both for each part. o: [PARTS, batch, queries, heads, 4 DV4]; lse: [PARTS, batch, heads, queries]. The sinks belong to the first part. A
// workgroup has 32 queries and up to 128 columns of the values, and goes over the keys by 32 with a running maximum. Tiles that the mask
// hides are skipped.

//#import common/attention_inputs.wgsl
//#import common/attention.wgsl
//#import common/tiles.wgsl

@group(0) @binding(5) var<storage, read_write> o: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;

fn store4_o(i: u32, v: vec4<f32>) { o[i] = v; }

var<workgroup> parts: array<vec4<f32>, 64>;

fn element4(which: u32, at: Head, row: u32, d: u32) -> vec4<f32> {
    switch which {
        case OF_Q: { return load4_q(q_at(at, row) + d); }
        case OF_K: { return load4_k(k_at(at, key_of(row)) + d); }
        default: { return load4_v(v_at(at, key_of(row)) + d); }
    }
}

// The largest number of each of four rows, among the invocations of these rows.
fn highest_of(x: vec4<f32>, local: vec3<u32>) -> vec4<f32> {
    workgroupBarrier();
    parts[local.y * 8u + local.x] = x;
    workgroupBarrier();
    var highest = x;
    for (var n = 0u; n < 8u; n++) { highest = max(highest, parts[local.y * 8u + n]); }
    return highest;
}

fn sum_of(x: vec4<f32>, local: vec3<u32>) -> vec4<f32> {
    workgroupBarrier();
    parts[local.y * 8u + local.x] = x;
    workgroupBarrier();
    var sum = vec4<f32>();
    for (var n = 0u; n < 8u; n++) { sum += parts[local.y * 8u + n]; }
    return sum;
}

fn scaled(m: mat4x4<f32>, by: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(m[0] * by.x, m[1] * by.y, m[2] * by.z, m[3] * by.w);
}

@compute @workgroup_size(8, 8)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let part = (wg.x + wg.y * nwg.x) % PARTS;
    let group = (wg.x + wg.y * nwg.x) / PARTS;
    let chunks = (DV4 + 31u) / 32u;
    let tiles = tile_count(BY_QUERY, 32u);
    let head = group / (chunks * tiles);
    let at = Head(head / p.heads, head % p.heads);
    if (at.batch < p.batch) {
        let query = tile_start(BY_QUERY, at, group / chunks % tiles, 32u);
        let rows = vec2<u32>(query, query + 32u);
        let leader = local.x == 0u && local.y == 0u;
        let chunk = group % chunks * 32u;
        let i = query + 4u * local.y;
        var most = vec4<f32>(NOTHING);
        var total = vec4<f32>();
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
                let s0 = scores(qk[0], at, vec4<u32>(i), j).value;
                let s1 = scores(qk[1], at, vec4<u32>(i + 1u), j).value;
                let s2 = scores(qk[2], at, vec4<u32>(i + 2u), j).value;
                let s3 = scores(qk[3], at, vec4<u32>(i + 3u), j).value;
                let bits = sights(at, i, column, step.y);
                let kept = keeps(at, i, column);
                let seen0 = of_query(bits, 0u);
                let seen1 = of_query(bits, 1u);
                let seen2 = of_query(bits, 2u);
                let seen3 = of_query(bits, 3u);
                let columns = transpose(mat4x4<f32>(
                    select(vec4<f32>(NOTHING), s0, seen0),
                    select(vec4<f32>(NOTHING), s1, seen1),
                    select(vec4<f32>(NOTHING), s2, seen2),
                    select(vec4<f32>(NOTHING), s3, seen3),
                ));
                let own = max(max(columns[0], columns[1]), max(columns[2], columns[3]));
                let highest = highest_of(max(most, own), local);
                let shrink = exp_of_negative(most - highest);
                most = highest;
                let w0 = weights(s0, vec4<f32>(most.x), seen0);
                let w1 = weights(s1, vec4<f32>(most.y), seen1);
                let w2 = weights(s2, vec4<f32>(most.z), seen2);
                let w3 = weights(s3, vec4<f32>(most.w), seen3);
                total = total * shrink + vec4<f32>(1.0) * mat4x4<f32>(w0, w1, w2, w3);
                sum = Sum(scaled(sum.left, shrink), scaled(sum.right, shrink));
                if (DV4 > 16u) { far = Sum(scaled(far.left, shrink), scaled(far.right, shrink)); }
                let kept_weights = mat4x4<f32>(
                    w0 * factor(of_query(kept, 0u)),
                    w1 * factor(of_query(kept, 1u)),
                    w2 * factor(of_query(kept, 2u)),
                    w3 * factor(of_query(kept, 3u)),
                );
                add_weighted(&sum, kept_weights, OF_V, at, key, chunk, DV4, local);
                if (DV4 > 16u) { add_weighted(&far, kept_weights, OF_V, at, key, chunk + 16u, DV4, local); }
            }
        }
        total = sum_of(total, local);
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
        var left = scaled(sum.left, scale);
        var right = scaled(sum.right, scale);
        far = Sum(scaled(far.left, scale), scaled(far.right, scale));
        let column = chunk + local.x;
        let to = Head(part * p.batch + at.batch, at.head);
        for (var r = 0u; r < 4u; r++) {
            if (i + r < p.queries) {
                if (column < DV4) { store4_o(o_at(to, i + r) + column, left[r]); }
                if (column + 8u < DV4) { store4_o(o_at(to, i + r) + column + 8u, right[r]); }
                if (DV4 > 16u && column + 16u < DV4) { store4_o(o_at(to, i + r) + column + 16u, far.left[r]); }
                if (DV4 > 16u && column + 24u < DV4) { store4_o(o_at(to, i + r) + column + 24u, far.right[r]); }
                if (local.x == 0u && chunk == 0u) { lse[row_of(to, i + r)] = log_sum[r]; }
            }
        }
    }
}
