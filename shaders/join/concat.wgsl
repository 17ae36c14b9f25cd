// y[r, c] = the parts side by side: x0[r, c] for c below the first end, x1[r, c - end] for c below the second, and so on.
// Part k: [outer, width k]; y: [outer, total]. Up to seven parts, the rest bound to the first. Elements are moved as bits.

//#import common/wide.wgsl
//#import common/fours.wgsl

alias T = u32; // bits

override ALIGNED: bool = false; // widths and offsets are multiples of four

struct Params {
    ends_low: vec4<u32>, // where parts 0 to 3 end in a row
    ends_high: vec4<u32>, // 4 to 6
    offsets_low: vec4<u32>,
    offsets_high: vec4<u32>,
    count: u32, // elements of y
    total: u32,
    magic: u32, // to divide by total
    shift: u32,
}

@group(0) @binding(0) var<storage, read> x0: array<vec4<T>>;
@group(0) @binding(1) var<storage, read> x1: array<vec4<T>>;
@group(0) @binding(2) var<storage, read> x2: array<vec4<T>>;
@group(0) @binding(3) var<storage, read> x3: array<vec4<T>>;
@group(0) @binding(4) var<storage, read> x4: array<vec4<T>>;
@group(0) @binding(5) var<storage, read> x5: array<vec4<T>>;
@group(0) @binding(6) var<storage, read> x6: array<vec4<T>>;
@group(0) @binding(7) var<storage, read_write> y: array<vec4<T>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x0(i: u32) -> T { return x0[i >> 2u][i & 3u]; }
fn load_x1(i: u32) -> T { return x1[i >> 2u][i & 3u]; }
fn load_x2(i: u32) -> T { return x2[i >> 2u][i & 3u]; }
fn load_x3(i: u32) -> T { return x3[i >> 2u][i & 3u]; }
fn load_x4(i: u32) -> T { return x4[i >> 2u][i & 3u]; }
fn load_x5(i: u32) -> T { return x5[i >> 2u][i & 3u]; }
fn load_x6(i: u32) -> T { return x6[i >> 2u][i & 3u]; }
fn load4_x0(i: u32) -> vec4<T> { return x0[i]; }
fn load4_x1(i: u32) -> vec4<T> { return x1[i]; }
fn load4_x2(i: u32) -> vec4<T> { return x2[i]; }
fn load4_x3(i: u32) -> vec4<T> { return x3[i]; }
fn load4_x4(i: u32) -> vec4<T> { return x4[i]; }
fn load4_x5(i: u32) -> vec4<T> { return x5[i]; }
fn load4_x6(i: u32) -> vec4<T> { return x6[i]; }
fn store4_y(i: u32, v: vec4<T>) { y[i] = v; }

// Where an element comes from.
struct Source {
    part: u32,
    index: u32,
}

fn source_of(e: u32) -> Source {
    let row = quotient(e, p.magic, p.shift);
    let column = e - row * p.total;
    var part = 0u;
    var begin = 0u;
    var end = p.ends_low.x;
    var offset = p.offsets_low.x;
    for (var k = 1u; k < 7u; k++) {
        if (column >= end) {
            part = k;
            begin = end;
            end = select(p.ends_low[k & 3u], p.ends_high[k & 3u], k > 3u);
            offset = select(p.offsets_low[k & 3u], p.offsets_high[k & 3u], k > 3u);
        }
    }
    return Source(part, offset + row * (end - begin) + column - begin);
}

fn element(e: u32) -> T {
    let at = source_of(min(e, p.count - 1u));
    switch (at.part) {
        case 0u: { return load_x0(at.index); }
        case 1u: { return load_x1(at.index); }
        case 2u: { return load_x2(at.index); }
        case 3u: { return load_x3(at.index); }
        case 4u: { return load_x4(at.index); }
        case 5u: { return load_x5(at.index); }
        default: { return load_x6(at.index); }
    }
}

fn four(i: u32) -> vec4<T> {
    if (!ALIGNED) {
        return vec4<T>(element(4u * i), element(4u * i + 1u), element(4u * i + 2u), element(4u * i + 3u));
    }
    let at = source_of(4u * i);
    switch (at.part) {
        case 0u: { return load4_x0(at.index >> 2u); }
        case 1u: { return load4_x1(at.index >> 2u); }
        case 2u: { return load4_x2(at.index >> 2u); }
        case 3u: { return load4_x3(at.index >> 2u); }
        case 4u: { return load4_x4(at.index >> 2u); }
        case 5u: { return load4_x5(at.index >> 2u); }
        default: { return load4_x6(at.index >> 2u); }
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
