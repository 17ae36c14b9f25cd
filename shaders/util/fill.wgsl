// y[i] = word, for every 32-bit word of a tensor of any element type: zeros, ones, or two equal halves.
// Memory is rounded up to 16 bytes, so the last vec4 may pass the end of the tensor but not of its memory.

struct Params {
    count: u32, // vec4s to write
    word: u32,
}

@group(0) @binding(0) var<storage, read_write> y: array<vec4<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let i = group * 256u + local;
    if (i < p.count) {
        y[i] = vec4<u32>(p.word);
    }
}
