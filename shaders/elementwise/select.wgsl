// y = condition ? a : b for views of one shape. Elements are moved as bits: whole words, or with HALF two to a word.

//#import common/strided.wgsl

override HALF: bool = false;
override LINEAR: bool = false; // one merged dimension: each operand steps by strides.w
override WORKGROUP: u32 = 256u;

struct Params {
    shape: vec4<u32>,
    c_strides: vec4<u32>,
    a_strides: vec4<u32>,
    b_strides: vec4<u32>,
    count: u32, // elements of y
    c_offset: u32,
    a_offset: u32,
    b_offset: u32,
}

@group(0) @binding(0) var<storage, read> c: array<u32>;
@group(0) @binding(1) var<storage, read> a: array<u32>;
@group(0) @binding(2) var<storage, read> b: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

fn index(e: u32, strides: vec4<u32>) -> u32 {
    if (LINEAR) {
        return e * strides.w;
    }
    return strided_index(e, p.shape, strides);
}

fn chosen(e: u32) -> u32 {
    let element = min(e, p.count - 1u); // past the end, the last one again
    let which = c[p.c_offset + index(element, p.c_strides)] != 0u;
    if (which) {
        let i = p.a_offset + index(element, p.a_strides);
        if (HALF) {
            return (a[i >> 1u] >> (16u * (i & 1u))) & 0xffffu;
        }
        return a[i];
    }
    let i = p.b_offset + index(element, p.b_strides);
    if (HALF) {
        return (b[i >> 1u] >> (16u * (i & 1u))) & 0xffffu;
    }
    return b[i];
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
        let v = vec4<u32>(chosen(e), chosen(e + 1u), chosen(e + 2u), chosen(e + 3u));
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
