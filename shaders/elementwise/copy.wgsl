// y = a dense copy of a view of up to eight dimensions; ACCESS says how it is read (common/strided.wgsl). Elements are moved as bits.

//#import common/strided.wgsl
//#import common/fours.wgsl

alias T = u32; // bits

override ACCESS: u32 = 4u;
override OUTER: bool = false; // more than four dimensions after merging

struct Params {
    shape: vec4<u32>, // the last four dimensions
    magic: vec4<u32>,
    strides: vec4<u32>,
    outer_shape: vec4<u32>, // those before
    outer_magic: vec4<u32>,
    outer_strides: vec4<u32>,
    shifts: u32,
    outer_shifts: u32,
    count: u32, // elements of y
    offset: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<T>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<T>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x(i: u32) -> T { return x[i >> 2u][i & 3u]; }
fn load4_x(i: u32) -> vec4<T> { return x[i]; }
fn store4_y(i: u32, v: vec4<T>) { y[i] = v; }

// Where element e is.
fn place(e: u32) -> u32 {
    var c = coordinates(min(e, p.count - 1u));
    if (!OUTER) {
        return index_at(c, p.strides);
    }
    let outer = quotient(c.x, p.magic.x, p.shifts & 31u);
    c.x -= outer * p.shape.x;
    let rows = quotient(outer, p.outer_magic.w, p.outer_shifts >> 24u);
    let planes = quotient(rows, p.outer_magic.z, (p.outer_shifts >> 16u) & 31u);
    let blocks = quotient(planes, p.outer_magic.y, (p.outer_shifts >> 8u) & 31u);
    let before = vec4<u32>(
        blocks,
        planes - blocks * p.outer_shape.y,
        rows - planes * p.outer_shape.z,
        outer - rows * p.outer_shape.w,
    );
    return index_at(c, p.strides) + index_at(before, p.outer_strides);
}

fn places(i: u32) -> vec4<u32> {
    if (!OUTER) {
        return strided_four(i, p.strides);
    }
    return vec4<u32>(place(4u * i), place(4u * i + 1u), place(4u * i + 2u), place(4u * i + 3u));
}

fn four(i: u32) -> vec4<T> {
    switch (ACCESS) {
        case FOUR: { return load4_x((p.offset + place(4u * i)) >> 2u); }
        case SPLAT: { return vec4<T>(load_x(p.offset + place(4u * i))); }
        default: {
            let at = p.offset + places(i);
            return vec4<T>(load_x(at.x), load_x(at.y), load_x(at.z), load_x(at.w));
        }
    }
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
