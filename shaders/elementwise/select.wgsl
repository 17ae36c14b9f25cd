// y = c ? a : b for views of one shape, with neighbouring dimensions merged; C_ACCESS, A_ACCESS and B_ACCESS say how they are read
// (common/strided.wgsl). Elements are moved as bits.

//#import common/strided.wgsl
//#import common/fours.wgsl

alias T = u32; // bits

override C_ACCESS: u32 = 0u;
override A_ACCESS: u32 = 0u;
override B_ACCESS: u32 = 0u;

struct Params {
    shape: vec4<u32>,
    magic: vec4<u32>,
    c_strides: vec4<u32>,
    a_strides: vec4<u32>,
    b_strides: vec4<u32>,
    shifts: u32,
    count: u32, // elements of y
    c_offset: u32,
    a_offset: u32,
    b_offset: u32,
    pad_0: u32,
    pad_1: u32,
    pad_2: u32,
}

@group(0) @binding(0) var<storage, read> c: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> a: array<vec4<T>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<T>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<T>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_c(i: u32) -> u32 { return c[i >> 2u][i & 3u]; }
fn load_a(i: u32) -> T { return a[i >> 2u][i & 3u]; }
fn load4_a(i: u32) -> vec4<T> { return a[i]; }
fn load_b(i: u32) -> T { return b[i >> 2u][i & 3u]; }
fn load4_b(i: u32) -> vec4<T> { return b[i]; }
fn store4_y(i: u32, v: vec4<T>) { y[i] = v; }

fn four_c(i: u32) -> vec4<u32> {
    switch (C_ACCESS) {
        case DENSE: { return c[p.c_offset + i]; }
        case FOUR: { return c[(p.c_offset + strided_index(i, p.c_strides)) >> 2u]; }
        case SPLAT: { return vec4<u32>(load_c(p.c_offset + strided_index(i, p.c_strides))); }
        default: {
            let at = p.c_offset + strided_four(i, p.c_strides);
            return vec4<u32>(load_c(at.x), load_c(at.y), load_c(at.z), load_c(at.w));
        }
    }
}

fn four_a(i: u32) -> vec4<T> {
    switch (A_ACCESS) {
        case DENSE: { return load4_a(p.a_offset + i); }
        case FOUR: { return load4_a((p.a_offset + strided_index(i, p.a_strides)) >> 2u); }
        case SPLAT: { return vec4<T>(load_a(p.a_offset + strided_index(i, p.a_strides))); }
        default: {
            let at = p.a_offset + strided_four(i, p.a_strides);
            return vec4<T>(load_a(at.x), load_a(at.y), load_a(at.z), load_a(at.w));
        }
    }
}

fn four_b(i: u32) -> vec4<T> {
    switch (B_ACCESS) {
        case DENSE: { return load4_b(p.b_offset + i); }
        case FOUR: { return load4_b((p.b_offset + strided_index(i, p.b_strides)) >> 2u); }
        case SPLAT: { return vec4<T>(load_b(p.b_offset + strided_index(i, p.b_strides))); }
        default: {
            let at = p.b_offset + strided_four(i, p.b_strides);
            return vec4<T>(load_b(at.x), load_b(at.y), load_b(at.z), load_b(at.w));
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    // Scalars are read here, where all invocations surely do: a software driver loads them once then.
    var yes = vec4<T>();
    var no = vec4<T>();
    if (A_ACCESS == SCALAR) { yes = vec4<T>(load_a(p.a_offset)); }
    if (B_ACCESS == SCALAR) { no = vec4<T>(load_b(p.b_offset)); }
    let first = first_four(wg.x + wg.y * nwg.x, local);
    for (var k = 0u; k < FOURS; k++) {
        let i = first + k * WORKGROUP;
        if (4u * i < p.count) {
            let which = four_c(i) != vec4<u32>();
            if (A_ACCESS != SCALAR) { yes = four_a(i); }
            if (B_ACCESS != SCALAR) { no = four_b(i); }
            store4_y(i, select(no, yes, which));
        }
    }
}
