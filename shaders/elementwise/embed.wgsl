// y [outer, size, inner] = zeros, with x [outer, length, inner] at start, start + step, ... of the middle dimension: the
// gradient of a slice. Elements are moved as bits. Without STEPPED, inner is 1: steps of 1 need only two dimensions.

//#import common/wide.wgsl
//#import common/fours.wgsl

alias T = u32; // bits

override STEPPED: bool = false;
override ALIGNED: bool = false; // all sizes, start and offset are multiples of four

struct Params {
    count: u32, // elements of y
    inner: u32,
    size: u32,
    length: u32,
    start: u32,
    step: u32,
    offset: u32, // of x
    inner_magic: u32,
    inner_shift: u32,
    size_magic: u32,
    size_shift: u32,
    step_magic: u32,
    step_shift: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<T>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<T>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x(i: u32) -> T { return x[i >> 2u][i & 3u]; }
fn load4_x(i: u32) -> vec4<T> { return x[i]; }
fn store4_y(i: u32, v: vec4<T>) { y[i] = v; }

const NOTHING = 0xffffffffu;

// Where element e of y comes from in x.
fn source(e: u32) -> u32 {
    var row = e;
    var column = 0u;
    if (STEPPED) {
        row = quotient(e, p.inner_magic, p.inner_shift);
        column = e - row * p.inner;
    }
    let outer = quotient(row, p.size_magic, p.size_shift);
    let at = row - outer * p.size;
    if (e >= p.count || at < p.start) {
        return NOTHING;
    }
    var k = at - p.start;
    if (STEPPED) {
        k = quotient(at - p.start, p.step_magic, p.step_shift);
        if (k * p.step != at - p.start) {
            return NOTHING;
        }
    }
    return select(p.offset + (outer * p.length + k) * p.inner + column, NOTHING, k >= p.length);
}

fn element(e: u32) -> T {
    let at = source(e);
    if (at == NOTHING) {
        return T(0);
    }
    return load_x(at);
}

fn four(i: u32) -> vec4<T> {
    let e = 4u * i;
    if (!ALIGNED) {
        return vec4<T>(element(e), element(e + 1u), element(e + 2u), element(e + 3u));
    }
    let at = source(e);
    if (at == NOTHING) {
        return vec4<T>();
    }
    return load4_x(at >> 2u);
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
        if (4u * i < p.count) {
            store4_y(i, four(i));
        }
    }
}
