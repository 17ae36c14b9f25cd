// y[o, e, c] = x[o, slots[e] - 1, c]; where slots[e] is 0, base[o, e, c], or 0 without a base.
// x: [outer, rows, inner]; slots: [entries]; base, y: [outer, entries, inner]. Each invocation writes four elements.

const WORKGROUP: u32 = 64u;
// Whether `inner` and the offsets are multiples of 4, so that four elements have one slot.
override ALIGNED: bool = false;
override HAS_BASE: bool = false;

alias T = f32;

struct Params {
    count: u32, // elements of y
    entries: u32,
    rows: u32,
    inner: u32,
    x_offset: u32,
    base_offset: u32,
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

// Where element i of y comes from in x, or -1 as u32.
fn place(i: u32) -> u32 {
    let row = i / p.inner;
    let slot = slots[row % p.entries];
    let source = (row / p.entries * p.rows + slot - 1u) * p.inner + i % p.inner;
    return select(source, 0xffffffffu, slot == 0u);
}

fn element(i: u32) -> T {
    let source = place(i);
    if (source != 0xffffffffu) {
        return load_x(p.x_offset + source);
    }
    if (HAS_BASE) {
        return load_base(p.base_offset + i);
    }
    return T(0);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let quad = group * WORKGROUP + local;
    let first = 4u * quad;
    if (first < p.count) {
        var out = vec4<T>(T(0));
        if (ALIGNED) {
            let source = place(first);
            if (source != 0xffffffffu) {
                out = load4_x((p.x_offset + source) >> 2u);
            } else if (HAS_BASE) {
                out = load4_base((p.base_offset + first) >> 2u);
            }
        } else {
            for (var lane = 0u; lane < 4u; lane++) {
                if (first + lane < p.count) {
                    out[lane] = element(first + lane);
                }
            }
        }
        store4_y(quad, out);
    }
}
