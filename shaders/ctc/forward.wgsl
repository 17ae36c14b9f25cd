// Connectionist temporal classification, forward (Graves et al. 2006, section 4.1), in logarithms. A sample's states are its labels
// with blanks between and around them; with the log-probability e[n, t, s] of the label of state s at time t
//
//   alpha[0, s] = e[0, s] for the first two states
//   alpha[t, s] = e[t, s] + ln(exp alpha[t-1, s] + exp alpha[t-1, s-1] + exp alpha[t-1, s-2])
//
// the last term only where the labels of s and s-2 differ. Paths that do not exist have LOWEST. e, alpha: [samples, time, states];
// labels: [samples, states]; lengths: times and labels of each sample. One workgroup for a sample, one invocation for a state: a launch
// makes the states `first`.. of all samples, and reads those before them from the launch before.

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
@group(0) @binding(3) var<storage, read_write> alpha: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

// The states of this time and of the one before.
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
    if (sample < p.samples && s < p.states) {
        times = lengths[2u * sample];
        states = 2u * lengths[2u * sample + 1u] + 1u;
        if (s > 1u) { jumps = labels[sample * p.states + s] != labels[sample * p.states + s - 2u]; }
    }
    var own = LOWEST;
    for (var t = 0u; t < p.time; t++) {
        let at = (sample * p.time + t) * p.states + s;
        let before = (t & 1u) * WORKGROUP;
        var v = LOWEST;
        if (t < times && s < states) {
            if (t == 0u) {
                if (s < 2u) { v = e[at]; }
            } else {
                var one = LOWEST;
                var two = LOWEST;
                if (local > 0u) { one = rows[before + local - 1u]; } else if (s > 0u) { one = alpha[at - p.states - 1u]; }
                if (jumps) {
                    if (local > 1u) { two = rows[before + local - 2u]; } else { two = alpha[at - p.states - 2u]; }
                }
                v = max(log_sum(own, one, two) + e[at], LOWEST);
            }
        }
        own = v;
        rows[WORKGROUP - before + local] = v;
        if (sample < p.samples && s < p.states) { alpha[at] = v; }
        workgroupBarrier();
    }
}
