// y = a dense copy of a view of up to eight dimensions. Elements are moved as bits: whole words, or with HALF two to a word.

//#import common/strided.wgsl

override HALF: bool = false;
override DEEP: bool = false; // more than four dimensions after merging
override WORKGROUP: u32 = 256u;

struct Params {
    outer_shape: vec4<u32>, // dimensions 0 to 3 of eight; the first is 1 where unused
    shape: vec4<u32>, // dimensions 4 to 7
    outer_strides: vec4<u32>,
    strides: vec4<u32>,
    count: u32, // elements of y
    offset: u32,
    inner: u32, // elements of the inner four dimensions
    pad: u32,
}

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

fn element(e: u32) -> u32 {
    let bounded = min(e, p.count - 1u); // past the end, the last one again
    var i = p.offset;
    if (DEEP) {
        i += strided_index(bounded / p.inner, p.outer_shape, p.outer_strides);
        i += strided_index(bounded % p.inner, p.shape, p.strides);
    } else {
        i += strided_index(bounded, p.shape, p.strides);
    }
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
