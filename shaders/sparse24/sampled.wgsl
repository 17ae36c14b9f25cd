// Gradient of the values of a packed matrix (common/sparse24.wgsl): d_values = what dy^T x has at its positions, computed there alone, for
// few rows of x and dy. x: [tokens, 32 blocks]; dy: [tokens, rows]; words: [rows, blocks]; d_values: [rows, 16 blocks].
//
// An invocation has a unit of four rows, so that columns of x serve all of them.

//#import common/sparse24.wgsl

const WORKGROUP: u32 = 64u;

struct Params {
    tokens: u32,
    rows: u32,
    blocks: u32,
    x_offset: u32, // in fours
    dy_offset: u32,
    words_offset: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> words: array<u32>;
@group(0) @binding(3) var<storage, read_write> d_values: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load4_x(i: u32) -> vec4<f32> { return x[i]; }
fn load_dy(i: u32) -> f32 { return dy[i]; }
fn store4_d_values(i: u32, v: vec4<f32>) { d_values[i] = v; }

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    let units = 4u * p.blocks;
    let row = i / units * 4u;
    let unit = i % units;
    if (row < p.rows) {
        // Rows beyond the end read the last one, and are not stored.
        let rows = min(vec4<u32>(row) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.rows - 1u));
        let at_words = vec4<u32>(p.words_offset + unit / 4u) + rows * p.blocks;
        let byte = vec4<u32>(words[at_words.x], words[at_words.y], words[at_words.z], words[at_words.w]) >> vec4<u32>(8u * (unit & 3u));
        var s0 = vec4<f32>();
        var s1 = vec4<f32>();
        var s2 = vec4<f32>();
        var s3 = vec4<f32>();
        for (var t = 0u; t < p.tokens; t++) {
            let at = p.x_offset + (t * units + unit) * 2u;
            let a = load4_x(at);
            let b = load4_x(at + 1u);
            let d = vec4<u32>(p.dy_offset + t * p.rows) + rows;
            s0 += load_dy(d.x) * kept_of_unit(a, b, byte.x);
            s1 += load_dy(d.y) * kept_of_unit(a, b, byte.y);
            s2 += load_dy(d.z) * kept_of_unit(a, b, byte.z);
            s3 += load_dy(d.w) * kept_of_unit(a, b, byte.w);
        }
        let out = row * units + unit;
        store4_d_values(out, s0);
        if (row + 1u < p.rows) { store4_d_values(out + units, s1); }
        if (row + 2u < p.rows) { store4_d_values(out + 2u * units, s2); }
        if (row + 3u < p.rows) { store4_d_values(out + 3u * units, s3); }
    }
}
