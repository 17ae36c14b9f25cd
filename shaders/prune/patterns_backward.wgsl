// Gradient of the gates of a choice among six patterns (common/patterns.wgsl), from those of the masked weight and of the mask, either
// of which may be missing:
//
//     v = d_masked * weight + d_mask,   u[i] = v[low of pattern i] + v[high of pattern i],   d_gates = steep y (u - y . u)
//
// The noise is drawn again. A hard choice has the gradient of the soft one. gates, d_gates: [groups, 6]; the others: [groups, 4].

//#import common/patterns.wgsl

const WORKGROUP: u32 = 64u;
override HAS_MASKED: bool = true;
override HAS_MASK: bool = false;

@group(0) @binding(2) var<storage, read> d_masked: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> d_mask: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> d_gates: array<f32>;

fn load4_d_masked(i: u32) -> vec4<f32> { return d_masked[i]; }
fn load4_d_mask(i: u32) -> vec4<f32> { return d_mask[i]; }
fn store2_d_gates(i: u32, v: vec2<f32>) { d_gates[2u * i] = v.x; d_gates[2u * i + 1u] = v.y; }

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    if (group < p.count) {
        var v = vec4<f32>();
        if (HAS_MASKED) { v = load4_d_masked(p.masked_offset + group) * load4_weight(p.weight_offset + group); }
        if (HAS_MASK) { v += load4_d_mask(p.mask_offset + group); }
        let y = probabilities(group);
        let low = vec4<f32>(v.x + v.y, v.x + v.z, v.x + v.w, v.y + v.z);
        let high = vec2<f32>(v.y + v.w, v.z + v.w);
        let mean = dot(y.low, low) + dot(y.high.xy, high);
        let d_low = p.steep * y.low * (low - mean);
        let d_high = p.steep * y.high.xy * (high - mean);
        store2_d_gates(3u * group, d_low.xy);
        store2_d_gates(3u * group + 1u, d_low.zw);
        store2_d_gates(3u * group + 2u, d_high);
    }
}
