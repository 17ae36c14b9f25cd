// y[i] = 0 where random word i is below `threshold`, else x[i] * scale. Word i is lane i % 4 of Philox block i / 4: nothing is
// stored for the backward, which runs this again on the gradient.

const WORKGROUP: u32 = 64u;
// Whether `offset` is a multiple of 4.
override ALIGNED: bool = false;

struct Params {
    count: u32,
    offset: u32,
    seed_low: u32,
    seed_high: u32,
    draw_low: u32,
    draw_high: u32,
    threshold: u32,
    scale: f32,
    first: u32, // which four elements of the draw are the first of y
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

//#import common/philox.wgsl

fn load_x(i: u32) -> f32 { return x[i >> 2u][i & 3u]; }
fn load4_x(i: u32) -> vec4<f32> { return x[i]; }
fn store4_y(i: u32, v: vec4<f32>) { y[i] = v; }

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let quad = group * WORKGROUP + local;
    if (4u * quad < p.count) {
        var values = vec4<f32>(0.0);
        if (ALIGNED) {
            values = load4_x((p.offset >> 2u) + quad);
        } else {
            for (var lane = 0u; lane < 4u; lane++) {
                if (4u * quad + lane < p.count) {
                    values[lane] = load_x(p.offset + 4u * quad + lane);
                }
            }
        }
        let words = philox(vec4<u32>(p.first + quad, 0u, p.draw_low, p.draw_high), vec2<u32>(p.seed_low, p.seed_high));
        store4_y(quad, select(values * p.scale, vec4<f32>(0.0), words < vec4<u32>(p.threshold)));
    }
}
