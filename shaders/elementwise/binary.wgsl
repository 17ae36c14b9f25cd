// y = f(a, b), element by element, four at a time. OP is the number of engine/src/ops/elementwise/binary.rs. How each operand
// is found is one of the modes below; operands are views of one shape, with neighbouring dimensions merged.

//#import common/math.wgsl
//#import common/strided.wgsl

alias T = f32;
alias R = f32; // u32 for comparisons

override OP: u32 = 0u;
override A_MODE: u32 = 0u;
override B_MODE: u32 = 0u;
override INTEGER: bool = false;
override SIGNED: bool = false;
override WORKGROUP: u32 = 256u;

const DENSE = 0u; // as it lies; offset in fours
const SCALAR = 1u; // one element for all
const ROW = 2u; // a row of shape.w elements, a multiple of four, for all rows; offset in fours
const COLUMN = 3u; // one element for each row of shape.w elements
const STRIDED = 4u; // any strides

struct Params {
    shape: vec4<u32>,
    a_strides: vec4<u32>,
    b_strides: vec4<u32>,
    count: u32, // elements of y
    a_offset: u32,
    b_offset: u32,
    pad: u32,
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

fn operand_a(i: u32, elements: vec4<u32>) -> vec4<T> {
    switch (A_MODE) {
        case DENSE: { return load4_a(p.a_offset + i); }
        case SCALAR: { return vec4<T>(load_a(p.a_offset)); }
        case ROW: { return load4_a(p.a_offset + i % (p.shape.w >> 2u)); }
        case COLUMN: { return vec4<T>(load_a(p.a_offset + (elements.x / p.shape.w) * p.a_strides.z)); }
        default: {
            return vec4<T>(
                load_a(p.a_offset + strided_index(elements.x, p.shape, p.a_strides)),
                load_a(p.a_offset + strided_index(elements.y, p.shape, p.a_strides)),
                load_a(p.a_offset + strided_index(elements.z, p.shape, p.a_strides)),
                load_a(p.a_offset + strided_index(elements.w, p.shape, p.a_strides)),
            );
        }
    }
}

fn operand_b(i: u32, elements: vec4<u32>) -> vec4<T> {
    switch (B_MODE) {
        case DENSE: { return load4_b(p.b_offset + i); }
        case SCALAR: { return vec4<T>(load_b(p.b_offset)); }
        case ROW: { return load4_b(p.b_offset + i % (p.shape.w >> 2u)); }
        case COLUMN: { return vec4<T>(load_b(p.b_offset + (elements.x / p.shape.w) * p.b_strides.z)); }
        default: {
            return vec4<T>(
                load_b(p.b_offset + strided_index(elements.x, p.shape, p.b_strides)),
                load_b(p.b_offset + strided_index(elements.y, p.shape, p.b_strides)),
                load_b(p.b_offset + strided_index(elements.z, p.shape, p.b_strides)),
                load_b(p.b_offset + strided_index(elements.w, p.shape, p.b_strides)),
            );
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
    let i = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    if (4u * i < p.count) {
        // Lanes past the end repeat the last element.
        let elements = min(vec4<u32>(4u * i) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.count - 1u));
        store4_y(i, value(operand_a(i, elements), operand_b(i, elements)));
    }
}
