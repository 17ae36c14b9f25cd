// One step of Adam on a range of flat buffers, in place, without bias in its running means:
//   g = gradient * factor + l2 * value + sr_ste * unseen(value)
//   mean   = beta1 * mean   + (1 - beta1) * g
//   square = beta2 * square + (1 - beta2) * g^2
//   value  = value * shrink - rate * mean / (sqrt(square) * root + eps)
// with rate = lr / (1 - beta1^t) and root = 1 / sqrt(1 - beta2^t). Of the `step` steps so far only the device may know how many were
// skipped: then t is less, and these two are computed here.
// AdamW (Loshchilov and Hutter, 2019): shrink = 1 - lr * weight_decay, l2 = 0. Adam (Kingma and Ba, 2015): shrink = 1.
// SR-STE (Zhou et al., 2021): each vec4 is a group of four weights, of which 2:4 sparsity sees the two largest.

//#import common/fours.wgsl
//#import common/two_of_four.wgsl

override SR_STE: bool = false;

struct Params {
    start: u32, // in vec4s
    gradient_start: u32,
    count: u32, // vec4s
    beta1: f32,
    rest1: f32, // 1 - beta1
    beta2: f32,
    rest2: f32,
    eps: f32,
    shrink: f32,
    l2: f32,
    rate: f32,
    root: f32,
    step: f32,
    lr: f32,
    ln_beta1: f32,
    ln_beta2: f32,
    sr_ste: f32,
}

@group(0) @binding(0) var<storage, read> gradient: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> stats: array<f32>; // factor, norm, 1 if not finite, skipped steps
@group(0) @binding(2) var<storage, read_write> value: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> mean: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> square: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

// 1 - exp(x) for x up to 0, without cancellation near 0.
fn rest_of_power(x: f32) -> f32 {
    if (x < -0.25) {
        return 1.0 - exp(x);
    }
    return -x * (1.0 + x / 2.0 * (1.0 + x / 3.0 * (1.0 + x / 4.0 * (1.0 + x / 5.0 * (1.0 + x / 6.0)))));
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    // Read where all invocations surely do: a software driver loads them once then.
    let factor = stats[0];
    let wrong = stats[2];
    let skipped = stats[3];
    var rate = p.rate;
    var root = p.root;
    if (skipped > 0.0) {
        rate = p.lr / rest_of_power((p.step - skipped) * p.ln_beta1);
        root = inverseSqrt(rest_of_power((p.step - skipped) * p.ln_beta2));
    }
    let first = first_four(wg.x + wg.y * nwg.x, local);
    for (var k = 0u; k < FOURS; k++) {
        let at = first + k * WORKGROUP;
        // Gradients that are not finite change nothing.
        if (at < p.count && wrong == 0.0) {
            let i = p.start + at;
            let old = value[i];
            var g = gradient[p.gradient_start + at] * factor + p.l2 * old;
            if (SR_STE) { g += p.sr_ste * unseen(old); }
            let m = p.beta1 * mean[i] + p.rest1 * g;
            let v = p.beta2 * square[i] + p.rest2 * g * g;
            mean[i] = m;
            square[i] = v;
            value[i] = old * p.shrink - rate * m / (sqrt(v) * root + p.eps);
        }
    }
}
