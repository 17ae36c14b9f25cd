// dense = a packed matrix (common/sparse24.wgsl) with zeros where it keeps nothing. values: [rows, 16 blocks]; words: [rows, blocks];
// dense: [rows, 32 blocks]. An invocation has a unit.

//#import common/sparse24.wgsl

const WORKGROUP: u32 = 64u;

struct Params {
    units: u32,
    values_offset: u32, // in fours
    words_offset: u32,
}

@group(0) @binding(0) var<storage, read> values: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> words: array<u32>;
@group(0) @binding(2) var<storage, read_write> dense: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load4_values(i: u32) -> vec4<f32> { return values[i]; }
fn store4_dense(i: u32, v: vec4<f32>) { dense[i] = v; }

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let unit = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    if (unit < p.units) {
        let byte = byte_of(words[p.words_offset + unit / 4u], unit);
        let v = load4_values(p.values_offset + unit);
        store4_dense(2u * unit, spread(v.xy, byte));
        store4_dense(2u * unit + 1u, spread(v.zw, byte >> 4u));
    }
}
