// y = f(a, b), element by element, four at a time. OP is the number of engine/src/ops/elementwise/binary.rs. a and b are views of
// one shape, with neighbouring dimensions merged; A_ACCESS and B_ACCESS say how they are read (common/strided.wgsl).

//#import common/math.wgsl
//#import common/strided.wgsl
//#import common/fours.wgsl

alias T = f32;
alias R = f32; // u32 for comparisons

override OP: u32 = 0u;
override A_ACCESS: u32 = 0u;
override B_ACCESS: u32 = 0u;
override INTEGER: bool = false;
override SIGNED: bool = false;

struct Params {
    shape: vec4<u32>,
    magic: vec4<u32>,
    a_strides: vec4<u32>,
    b_strides: vec4<u32>,
    shifts: u32,
    count: u32, // elements of y
    a_offset: u32,
    b_offset: u32,
}

@group(0) @binding(0) var<storage, read> a: array<vec4<T>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<T>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<R>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_a(i: u32) -> T { return a[i >> 2u][i & 3u]; }
fn load4_a(i: u32) -> vec4<T> { return a[i]; }
fn load_b(i: u32) -> T { return b[i >> 2u][i & 3u]; }
fn load4_b(i: u32) -> vec4<T> { return b[i]; }
fn store4_y(i: u32, v: vec4<R>) { y[i] = v; }

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

// Truncates; x / 0 is 0, and the smallest i32 divided by -1 is itself.
fn divide(a: vec4<T>, b: vec4<T>) -> vec4<R> {
    if (!INTEGER) {
        return vec4<R>(a / b);
    }
    let by_zero = b == vec4<T>();
    let overflow = (bitcast<vec4<u32>>(b) == vec4<u32>(0xffffffffu)) & (bitcast<vec4<u32>>(a) == vec4<u32>(0x80000000u));
    let one = by_zero | (overflow & vec4<bool>(SIGNED));
    return vec4<R>(select(a / select(b, vec4<T>(1), one), vec4<T>(), by_zero));
}

fn value(a: vec4<T>, b: vec4<T>) -> vec4<R> {
    switch (OP) {
        case 0u: { return vec4<R>(a + b); }
        case 1u: { return vec4<R>(a - b); }
        case 2u: { return vec4<R>(a * b); }
        case 3u: { return divide(a, b); }
        case 4u: { return vec4<R>(select(a, b, b < a)); }
        case 5u: { return vec4<R>(select(a, b, b > a)); }
        case 6u: { return vec4<R>(pow_(V(a), V(b))); }
        case 7u: { return vec4<R>(-V(a) / V(b) / V(b)); } // slope of a / b in b
        case 8u: { // slope of a^b in a
            let slope = V(b) * pow_(V(a), V(b) - 1.0);
            return vec4<R>(select(slope, V(0.0), V(b) == V(0.0)));
        }
        case 9u: { // slope of a^b in b
            let flat = (V(a) == V(0.0)) & (V(b) >= V(0.0));
            return vec4<R>(select(pow_(V(a), V(b)) * ln_(V(a)), V(0.0), flat));
        }
        case 10u: { return vec4<R>(select(select(V(0.0), V(0.5), a == b), V(1.0), a > b)); } // share of max(a, b)
        case 11u: { return vec4<R>(vec4<u32>(a) & vec4<u32>(b)); }
        case 12u: { return vec4<R>(vec4<u32>(a) | vec4<u32>(b)); }
        case 13u: { return vec4<R>(vec4<u32>(a) ^ vec4<u32>(b)); }
        case 16u: { return vec4<R>(a == b); }
        case 17u: { return vec4<R>(a != b); }
        case 18u: { return vec4<R>(a < b); }
        case 19u: { return vec4<R>(a <= b); }
        case 20u: { return vec4<R>(a > b); }
        case 21u: { return vec4<R>(a >= b); }
        default: { return vec4<R>(a); }
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    // Scalars are read here, where all invocations surely do: a software driver loads them once then.
    var left = vec4<T>();
    var right = vec4<T>();
    if (A_ACCESS == SCALAR) { left = vec4<T>(load_a(p.a_offset)); }
    if (B_ACCESS == SCALAR) { right = vec4<T>(load_b(p.b_offset)); }
    let first = first_four(wg.x + wg.y * nwg.x, local);
    for (var k = 0u; k < FOURS; k++) {
        let i = first + k * WORKGROUP;
        if (4u * i < p.count) {
            if (A_ACCESS != SCALAR) { left = four_a(i); }
            if (B_ACCESS != SCALAR) { right = four_b(i); }
            store4_y(i, value(left, right));
        }
    }
}
