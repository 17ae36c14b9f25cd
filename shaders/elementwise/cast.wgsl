// y = x in another element type, four at a time. Floats become integers by truncation; what lies beyond an integer's range
// becomes its end, NaN becomes 0. Anything but zero becomes true.

//#import common/fours.wgsl

alias X = f32;
alias Y = f32;

override FROM: u32 = 0u;
override TO: u32 = 0u;

const FLOAT = 0u;
const I32 = 1u;
const U32 = 2u;
const BOOL = 3u;

struct Params {
    count: u32, // fours
    offset: u32, // of x, in fours
}

@group(0) @binding(0) var<storage, read> x: array<vec4<X>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<Y>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load4_x(i: u32) -> vec4<X> { return x[i]; }
fn store4_y(i: u32, v: vec4<Y>) { y[i] = v; }

fn is_nan(v: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
}

fn converted(v: vec4<X>) -> vec4<Y> {
    if (TO == BOOL) {
        return vec4<Y>(v != vec4<X>());
    }
    if (FROM == FLOAT && TO == I32) {
        let f = vec4<f32>(v);
        let inside = vec4<i32>(clamp(f, vec4<f32>(-2147483648.0), vec4<f32>(2147483520.0)));
        let bounded = select(inside, vec4<i32>(2147483647), f >= vec4<f32>(2147483648.0));
        return vec4<Y>(select(bounded, vec4<i32>(0), is_nan(f)));
    }
    if (FROM == FLOAT && TO == U32) {
        let f = vec4<f32>(v);
        let inside = vec4<u32>(clamp(f, vec4<f32>(0.0), vec4<f32>(4294967040.0)));
        let bounded = select(inside, vec4<u32>(4294967295u), f >= vec4<f32>(4294967296.0));
        return vec4<Y>(select(bounded, vec4<u32>(0u), is_nan(f)));
    }
    if (FROM == I32 && TO == U32) {
        return vec4<Y>(max(vec4<i32>(v), vec4<i32>(0)));
    }
    if (FROM == U32 && TO == I32) {
        return vec4<Y>(min(vec4<u32>(v), vec4<u32>(2147483647u)));
    }
    return vec4<Y>(v);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let first = first_four(wg.x + wg.y * nwg.x, local);
    for (var k = 0u; k < FOURS; k++) {
        let i = first + k * WORKGROUP;
        if (i < p.count) {
            store4_y(i, converted(load4_x(p.offset + i)));
        }
    }
}
