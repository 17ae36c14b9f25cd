// Sums of squares of a range of a flat gradient: invocation i sums vec4s i, i + invocations, i + 2 * invocations, ...
// partials[2 * (first + i)] is its sum, the word after it 1 if one of its elements is not finite (told by the exponent bits,
// since a comparison with a NaN or an infinity may be optimised away). `norm_finish` adds them up.

struct Params {
    start: u32, // in vec4s
    count: u32, // vec4s
    invocations: u32,
    first: u32,
}

@group(0) @binding(0) var<storage, read> gradient: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> partials: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let invocation = group * 256u + local;
    if (invocation < p.invocations) {
        var sum = vec4<f32>();
        var wrong = false;
        for (var i = invocation; i < p.count; i += p.invocations) {
            let g = gradient[p.start + i];
            let exponent = bitcast<vec4<u32>>(g) & vec4<u32>(0x7f800000u);
            wrong = wrong || any(exponent == vec4<u32>(0x7f800000u));
            sum += g * g;
        }
        let at = 2u * (p.first + invocation);
        partials[at] = bitcast<u32>(sum.x + sum.y + (sum.z + sum.w));
        partials[at + 1u] = u32(wrong);
    }
}
