// Connectionist temporal classification, backward (Graves et al. 2006, section 4.1), in logarithms: what may follow state s,
//
//   beta[T-1, s] = 0 for the last two states of a sample of T times
//   beta[t, s] = ln(sum over s' in s, s+1, s+2 of exp(e[t+1, s'] + beta[t+1, s']))
//
// the last only where the labels of s and s+2 differ, and from it the gradient of the loss -total by e,
//
//   de[t, s] = -dloss exp(alpha[t, s] + beta[t, s] - total)
//
// zeros where no path exists. As ctc/forward, from the last states to the first; `next` holds e + beta, which the launch of the
// states before reads. total, dloss: [samples].

//#import common/log_sum.wgsl

override WORKGROUP: u32 = 256u;

struct Params {
    samples: u32,
    time: u32,
    states: u32,
    first: u32,
}

@group(0) @binding(0) var<storage, read> e: array<f32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read> lengths: array<u32>;
@group(0) @binding(3) var<storage, read> alpha: array<f32>;
@group(0) @binding(4) var<storage, read> total: array<f32>;
@group(0) @binding(5) var<storage, read> dloss: array<f32>;
@group(0) @binding(6) var<storage, read_write> next: array<f32>;
@group(0) @binding(7) var<storage, read_write> de: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

// The states of this time and of the one after.
var<workgroup> rows: array<f32, 512>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let sample = wg.x + wg.y * nwg.x;
    let s = p.first + local;
    var times = 0u;
    var states = 0u;
    var jumps = false;
    var whole = LOWEST;
    var slope = 0.0;
    if (sample < p.samples && s < p.states) {
        times = lengths[2u * sample];
        states = 2u * lengths[2u * sample + 1u] + 1u;
        if (s + 2u < states) { jumps = labels[sample * p.states + s] != labels[sample * p.states + s + 2u]; }
        whole = total[sample];
        slope = dloss[sample];
    }
    var own = LOWEST;
    for (var left = p.time; left > 0u; left--) {
        let t = left - 1u;
        let at = (sample * p.time + t) * p.states + s;
        let after = (t & 1u) * WORKGROUP;
        var beta = LOWEST;
        var v = LOWEST;
        if (t < times && s < states) {
            if (t + 1u == times) {
                if (s + 2u >= states) { beta = 0.0; }
            } else {
                var one = LOWEST;
                var two = LOWEST;
                if (s + 1u < states) {
                    if (local + 1u < WORKGROUP) { one = rows[after + local + 1u]; } else { one = next[at + p.states + 1u]; }
                }
                if (jumps) {
                    if (local + 2u < WORKGROUP) { two = rows[after + local + 2u]; } else { two = next[at + p.states + 2u]; }
                }
                beta = log_sum(own, one, two);
            }
            v = max(e[at] + beta, LOWEST);
        }
        own = v;
        rows[WORKGROUP - after + local] = v;
        if (sample < p.samples && s < p.states) {
            next[at] = v;
            var slope_here = 0.0;
            if (whole > 0.1 * LOWEST && t < times && s < states) { slope_here = -slope * exp(min(alpha[at] + beta - whole, 1.0)); }
            de[at] = slope_here;
        }
        workgroupBarrier();
    }
}
