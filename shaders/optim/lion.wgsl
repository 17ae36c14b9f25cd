// One step of Lion (Chen et al., "Symbolic discovery of optimization algorithms", 2023) on a range of flat buffers, in place:
//   g = gradient * factor
//   value = value * shrink - lr * sign(beta1 * momentum + (1 - beta1) * g)
//   momentum = beta2 * momentum + (1 - beta2) * g

//#import common/fours.wgsl

struct Params {
    start: u32, // in vec4s
    gradient_start: u32,
    count: u32, // vec4s
    lr: f32,
    beta1: f32,
    rest1: f32, // 1 - beta1
    beta2: f32,
    rest2: f32,
    shrink: f32, // 1 - lr * weight_decay
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
            let g = gradient[p.gradient_start + at] * factor;
            let m = momentum[i];
            value[i] = value[i] * p.shrink - p.lr * sign(p.beta1 * m + p.rest1 * g);
            momentum[i] = p.beta2 * m + p.rest2 * g;
        }
    }
}
