// The weights of groups of four under a choice among six patterns (common/patterns.wgsl), and the mask: masked = mask * weight.
// gates: [groups, 6]; weight, masked, mask: [groups, 4].

//#import common/patterns.wgsl

const WORKGROUP: u32 = 64u;

@group(0) @binding(2) var<storage, read_write> masked: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> mask: array<vec4<f32>>;

fn store4_masked(i: u32, v: vec4<f32>) { masked[i] = v; }
fn store4_mask(i: u32, v: vec4<f32>) { mask[i] = v; }

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    if (group < p.count) {
        var y = probabilities(group);
        if (HARD) { y = likeliest(y); }
        let kept = vec4<f32>(
            y.low.x + y.low.y + y.low.z,
            y.low.x + y.low.w + y.high.x,
            y.low.y + y.low.w + y.high.y,
            y.low.z + y.high.x + y.high.y,
        );
        store4_mask(group, kept);
        store4_masked(group, kept * load4_weight(p.weight_offset + group));
    }
}
