// Adds up the partial sums of `norm_partial`, in one workgroup and a fixed order. Writes the four numbers that updates read:
//   factor = min(1, max_norm / (norm + 1e-6)) / scale, the norm, 1 if an element or the norm is not finite, 0.
// `scale` is the loss scale that is still in the gradients.

override WORKGROUP: u32 = 256u;

struct Params {
    count: u32,
    max_norm: f32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read> partials: array<u32>;
@group(0) @binding(1) var<storage, read_write> stats: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> sums: array<f32, WORKGROUP>;
var<workgroup> wrongs: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    var sum = 0.0;
    var wrong = 0u;
    for (var i = local; i < p.count; i += WORKGROUP) {
        sum += bitcast<f32>(partials[2u * i]);
        wrong |= partials[2u * i + 1u];
    }
    sums[local] = sum;
    wrongs[local] = wrong;
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            sums[local] += sums[local + half];
            wrongs[local] |= wrongs[local + half];
        }
    }
    if (local == 0u && wg.x == 0u) {
        let total = sums[0];
        let overflow = (bitcast<u32>(total) & 0x7f800000u) == 0x7f800000u;
        let norm = sqrt(total) / p.scale;
        stats[0] = min(1.0, p.max_norm / (norm + 1e-6)) / p.scale;
        stats[1] = norm;
        stats[2] = f32((wrongs[0] != 0u) || overflow);
        stats[3] = 0.0;
    }
}
