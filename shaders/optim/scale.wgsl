// What a scaled step makes of the statistics of its gradients, and what they make of the scale (Micikevicius et al., "Mixed precision
// training", 2018): halved when a gradient is not finite, doubled after `interval` steps in a row whose gradients were. One invocation.
//
//   found: of norm_finish without scale and clipping; stats: factor, norm, 1 if not finite, number of the steps before that were skipped.

struct Params {
    max_norm: f32,
    interval: f32,
}

@group(0) @binding(0) var<storage, read> found: array<f32>;
@group(0) @binding(1) var<storage, read_write> stats: array<f32>;
@group(0) @binding(2) var<storage, read_write> scaler: array<f32>; // scale, good steps in a row
@group(0) @binding(3) var<storage, read_write> skipped: array<f32>; // number of skipped steps
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) wg: vec3<u32>) {
    if (wg.x + wg.y == 0u) {
        let scale = scaler[0];
        let norm = found[1] / scale;
        stats[0] = min(1.0, p.max_norm / (norm + 1e-6)) / scale;
        stats[1] = norm;
        stats[2] = found[2];
        stats[3] = skipped[0];
        let good = scaler[1] + 1.0;
        if (found[2] != 0.0) {
            scaler[0] = max(0.5 * scale, 1.1754944e-38);
            scaler[1] = 0.0;
            skipped[0] += 1.0;
        } else if (good >= p.interval) {
            scaler[0] = min(2.0 * scale, 4294967296.0);
            scaler[1] = 0.0;
        } else {
            scaler[1] = good;
        }
    }
}
