// values = what a dense matrix has at the positions of a packed one (common/sparse24.wgsl). dense: [rows, 32 blocks]; words:
// [rows, blocks]; values: [rows, 16 blocks]. An invocation has a unit.

//#import common/sparse24.wgsl

const WORKGROUP: u32 = 64u;

struct Params {
    units: u32,
    dense_offset: u32, // in fours
    words_offset: u32,
}

@group(0) @binding(0) var<storage, read> dense: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> words: array<u32>;
@group(0) @binding(2) var<storage, read_write> values: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load4_dense(i: u32) -> vec4<f32> { return dense[i]; }
fn store4_values(i: u32, v: vec4<f32>) { values[i] = v; }

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let unit = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    if (unit < p.units) {
        let byte = byte_of(words[p.words_offset + unit / 4u], unit);
        let at = p.dense_offset + 2u * unit;
        store4_values(unit, kept_of_unit(load4_dense(at), load4_dense(at + 1u), byte));
    }
}
