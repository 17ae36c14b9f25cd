// y [outer, size, inner] = zeros, with x [outer, length, inner] at start, start + step, ... of the middle dimension: the
// gradient of a slice. Elements are moved as bits: whole words, or with HALF two to a word.

override HALF: bool = false;
override WORKGROUP: u32 = 256u;

struct Params {
    count: u32, // elements of y
    inner: u32,
    size: u32,
    length: u32,
    start: u32,
    step: u32,
    offset: u32, // of x
}

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

fn element(e: u32) -> u32 {
    let row = e / p.inner;
    let at = row % p.size;
    if (at < p.start) {
        return 0u;
    }
    let k = (at - p.start) / p.step;
    if (e >= p.count || k >= p.length || k * p.step != at - p.start) {
        return 0u;
    }
    let i = p.offset + ((row / p.size) * p.length + k) * p.inner + e % p.inner;
    if (HALF) {
        return (x[i >> 1u] >> (16u * (i & 1u))) & 0xffffu;
    }
    return x[i];
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    let e = 4u * i;
    if (e < p.count) {
        let v = vec4<u32>(element(e), element(e + 1u), element(e + 2u), element(e + 3u));
        if (HALF) {
            y[2u * i] = v.x | (v.y << 16u);
            y[2u * i + 1u] = v.z | (v.w << 16u);
        } else {
            y[e] = v.x;
            y[e + 1u] = v.y;
            y[e + 2u] = v.z;
            y[e + 3u] = v.w;
        }
    }
}
