// keys[i] = a u32 that orders as x[i] does, reversed for a descending sort. For floats the bits, with all but the sign flipped
// for negative ones; both zeros are equal, and NaN is above all numbers.

const WORKGROUP: u32 = 64u;
// 0: float, 1: i32, 2: u32.
override KIND: u32 = 0u;
override DESCENDING: bool = false;

alias T = f32;

struct Params {
    count: u32,
    offset: u32,
}

@group(0) @binding(0) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read_write> keys: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x(i: u32) -> T { return x[i]; }

fn key(bits: u32) -> u32 {
    if (KIND == 1u) {
        return bits ^ 0x80000000u;
    }
    if (KIND == 2u) {
        return bits;
    }
    let magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return 0xffffffffu;
    }
    if (magnitude == 0u) {
        return 0x80000000u;
    }
    return select(bits | 0x80000000u, ~bits, magnitude != bits);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let i = group * WORKGROUP + local;
    if (i < p.count) {
        let ascending = key(bitcast<u32>(load_x(p.offset + i)));
        keys[i] = select(ascending, ~ascending, DESCENDING);
    }
}
