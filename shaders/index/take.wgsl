// y[o, e, c] = x[o, slots[e] - 1, c]; where slots[e] is 0, base[o, e, c], or 0 without a base.
// x: [outer, rows, inner]; slots: [entries]; base, y: [outer, entries, inner]. Elements are moved as bits.

//#import common/wide.wgsl
//#import common/fours.wgsl

alias T = u32; // bits

// Whether `inner` and the offsets are multiples of 4, so that four elements have one slot.
override ALIGNED: bool = false;
override HAS_BASE: bool = false;

struct Params {
    count: u32, // elements of y
    entries: u32,
    rows: u32,
    inner: u32,
    x_offset: u32,
    base_offset: u32,
    inner_magic: u32,
    inner_shift: u32,
    entries_magic: u32,
    entries_shift: u32,
}

@group(0) @binding(0) var<storage, read> base: array<vec4<T>>;
@group(0) @binding(1) var<storage, read> x: array<vec4<T>>;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<T>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_base(i: u32) -> T { return base[i >> 2u][i & 3u]; }
fn load4_base(i: u32) -> vec4<T> { return base[i]; }
fn load_x(i: u32) -> T { return x[i >> 2u][i & 3u]; }
fn load4_x(i: u32) -> vec4<T> { return x[i]; }
fn store4_y(i: u32, v: vec4<T>) { y[i] = v; }

const NOTHING = 0xffffffffu;

// Where element e of y comes from in x.
fn source(e: u32) -> u32 {
    let row = quotient(e, p.inner_magic, p.inner_shift);
    let outer = quotient(row, p.entries_magic, p.entries_shift);
    let slot = slots[row - outer * p.entries];
    let index = p.x_offset + (outer * p.rows + slot - 1u) * p.inner + e - row * p.inner;
    return select(index, NOTHING, slot == 0u);
}

fn element(e: u32) -> T {
    if (e >= p.count) {
        return T(0);
    }
    let at = source(e);
    if (at != NOTHING) {
        return load_x(at);
    }
    if (HAS_BASE) {
        return load_base(p.base_offset + e);
    }
    return T(0);
}

fn four(i: u32) -> vec4<T> {
    let e = 4u * i;
    if (!ALIGNED) {
        return vec4<T>(element(e), element(e + 1u), element(e + 2u), element(e + 3u));
    }
    let at = source(e);
    if (at != NOTHING) {
        return load4_x(at >> 2u);
    }
    if (HAS_BASE) {
        return load4_base((p.base_offset >> 2u) + i);
    }
    return vec4<T>();
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
