// One step of gradient descent with momentum on a range of flat buffers, in place:
//   g = gradient * factor + l2 * value + sr_ste * unseen(value)
//   momentum = decay * momentum + g
//   value = value - lr * (nesterov ? g + decay * momentum : momentum)
// SR-STE (Zhou et al., 2021): each vec4 is a group of four weights, of which 2:4 sparsity sees the two largest.

//#import common/fours.wgsl
//#import common/two_of_four.wgsl

override SR_STE: bool = false;

struct Params {
    start: u32, // in vec4s
    gradient_start: u32,
    count: u32, // vec4s
    lr: f32,
    decay: f32,
    nesterov: f32, // 0 or 1
    l2: f32,
    sr_ste: f32,
}

@group(0) @binding(0) var<storage, read> gradient: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> stats: array<f32>; // factor, norm, 1 if not finite, skipped steps
@group(0) @binding(2) var<storage, read_write> value: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> momentum: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    // Read where all invocations surely do: a software driver loads them once then.
    let factor = stats[0];
    let wrong = stats[2];
    let first = first_four(wg.x + wg.y * nwg.x, local);
    for (var k = 0u; k < FOURS; k++) {
        let at = first + k * WORKGROUP;
        // Gradients that are not finite change nothing.
        if (at < p.count && wrong == 0.0) {
            let i = p.start + at;
            let old = value[i];
            var g = gradient[p.gradient_start + at] * factor + p.l2 * old;
            if (SR_STE) { g += p.sr_ste * unseen(old); }
            let m = p.decay * momentum[i] + g;
            momentum[i] = m;
            value[i] = old - p.lr * select(m, g + p.decay * m, p.nesterov != 0.0);
        }
    }
}
