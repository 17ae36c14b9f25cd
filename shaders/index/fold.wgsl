// y[i] = base[i] + sum over s of parts[s, i], in the order of s. parts: [splits][count], padded to fours; base, y: [count].

const WORKGROUP: u32 = 64u;
override HAS_BASE: bool = false;

alias T = f32;

struct Params {
    count: u32,
    splits: u32,
    base_offset: u32,
}

@group(0) @binding(0) var<storage, read> base: array<vec4<T>>;
@group(0) @binding(1) var<storage, read> parts: array<vec4<T>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<T>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_base(i: u32) -> T { return base[i >> 2u][i & 3u]; }
fn store4_y(i: u32, v: vec4<T>) { y[i] = v; }

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let quad = group * WORKGROUP + local;
    let quads = (p.count + 3u) / 4u;
    if (quad < quads) {
        var out = vec4<T>(T(0));
        for (var s = 0u; s < p.splits; s++) {
            out += parts[s * quads + quad];
        }
        if (HAS_BASE) {
            for (var lane = 0u; lane < 4u; lane++) {
                if (4u * quad + lane < p.count) {
                    out[lane] += load_base(p.base_offset + 4u * quad + lane);
                }
            }
        }
        store4_y(quad, out);
    }
}
