// A running sum that forgets, along the middle dimension of x [outer, n, inner]:
//
//   y[o, c, i] = x[o, c, i] + factor[o % heads] * y[o, c - 1, i]     (with REVERSE: c + 1, from the end on)
//
// The recurrence of linear attention's state from chunk to chunk (Qin et al., Lightning Attention-2, 2024, algorithm 1), and,
// reversed, of its gradient. One invocation runs along n: neighbours read neighbouring memory.

override WORKGROUP: u32 = 64u;
override REVERSE: u32 = 0u;

struct Params {
    outer: u32,
    n: u32,
    inner: u32,
    heads: u32,
    x_offset: u32,
    factor_offset: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> factor: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let at = group * WORKGROUP + local;
    if (at < p.outer * p.inner) {
        let o = at / p.inner;
        let first = o * p.n * p.inner + at % p.inner;
        let f = factor[p.factor_offset + o % p.heads];
        var sum = 0.0;
        for (var step = 0u; step < p.n; step++) {
            var c = step;
            if (REVERSE != 0u) { c = p.n - 1u - step; }
            let k = first + c * p.inner;
            sum = x[p.x_offset + k] + f * sum;
            y[k] = sum;
        }
    }
}
