// The gradient of the biases, ds_ij = w_ij (dp_ij - delta_i), before the broadcast dimensions are added up:
//
//   SUM 0: d_bias[b, h, i, j] = ds_ij;   1: [b, h, j], the sum over i;   2: [b, h, j - i + queries - 1], the sum along the diagonal
//
// with w and dp as in attention/dq_lanes.wgsl. One invocation for each element: only where such a gradient is asked for.

//#import common/attention.wgsl

const WORKGROUP: u32 = 64u;
override SUM: u32 = 0u;

@group(0) @binding(5) var<storage, read> d_o: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> d_bias: array<f32>;

fn load4_d_o(i: u32) -> vec4<f32> { return d_o[i]; }

fn score_gradient(at: Head, i: u32, j: u32) -> f32 {
    let stat = stats[row_of(at, i)];
    var gradient = 0.0;
    if (stat.x > NOTHING && listed(at, i, j) && seen(at, i, j, PARTIAL)) {
        let q_row = q_at(at, i);
        let k_row = k_at(at, j);
        var product = 0.0;
        for (var d = 0u; d < D4; d++) {
            product += dot(load4_q(q_row + d), load4_k(k_row + d));
        }
        let o_row = o_at(at, i);
        let v_row = v_at(at, j);
        var dp = 0.0;
        for (var d = 0u; d < DV4; d++) {
            dp += dot(load4_d_o(o_row + d), load4_v(v_row + d));
        }
        if (HAS_DROPOUT) {
            dp *= select(0.0, p.keep, kept(at, i, j));
        }
        let s = scores(vec4<f32>(product), at, vec4<u32>(i), vec4<u32>(j)).value;
        gradient = weights(s, vec4<f32>(stat.x), vec4<bool>(true)).x * (dp - stat.y);
    }
    return gradient;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let element = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    // Elements of a head; the first and the last query of this one, and its key there.
    var count = p.queries * p.keys;
    var first = element / p.keys % p.queries;
    var last = first;
    var j = element % p.keys;
    if (SUM == 1u) {
        count = p.keys;
        first = 0u;
        last = p.queries - 1u;
    }
    if (SUM == 2u) {
        count = p.queries + p.keys - 1u;
        let diagonal = element % count;
        first = select(0u, p.queries - 1u - diagonal, diagonal < p.queries);
        j = first + diagonal + 1u - p.queries;
        last = first + min(p.queries - 1u - first, p.keys - 1u - j);
    }
    let head = element / count;
    let at = Head(head / p.heads, head % p.heads);
    if (at.batch < p.batch) {
        var sum = 0.0;
        for (var i = first; i <= last; i++) {
            sum += score_gradient(at, i, select(j, j + i - first, SUM == 2u));
        }
        d_bias[element] = sum;
    }
}
