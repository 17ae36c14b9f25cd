// blocks[o, b, c] = sum over the 64 entries e = order[64 b .. 64 b + 64] of src[o, e, c] if all of them go to one row, else 0.
// With these sum.wgsl adds up a row of thousands of entries in few steps.
// slots: [entries], by entry; order: the entries sorted by row; src: [outer, entries, inner]; blocks: [outer, entries / 64, inner].
// Each invocation writes four elements.

const WORKGROUP: u32 = 64u;
const BLOCK: u32 = 64u;
// Whether `inner` and the offset are multiples of 4, so that four elements have one block.
override ALIGNED: bool = false;

alias T = f32;

struct Params {
    count: u32, // elements of blocks
    entries: u32,
    inner: u32,
    src_offset: u32,
}

@group(0) @binding(0) var<storage, read> src: array<vec4<T>>;
@group(0) @binding(1) var<storage, read> order: array<u32>;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read_write> blocks: array<vec4<T>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_src(i: u32) -> T { return src[i >> 2u][i & 3u]; }
fn load4_src(i: u32) -> vec4<T> { return src[i]; }
fn store4_blocks(i: u32, v: vec4<T>) { blocks[i] = v; }

// First entry, in the order, of the block of element i of blocks.
fn first_of(i: u32) -> u32 {
    return i / p.inner % (p.entries / BLOCK) * BLOCK;
}

fn one_row(first: u32) -> bool {
    return slots[order[first]] == slots[order[first + BLOCK - 1u]];
}

// Element of src for element i of blocks and an entry.
fn place(i: u32, entry: u32) -> u32 {
    let outer = i / p.inner / (p.entries / BLOCK);
    return p.src_offset + (outer * p.entries + entry) * p.inner + i % p.inner;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let quad = group * WORKGROUP + local;
    let i = 4u * quad;
    if (i < p.count) {
        var sum = vec4<T>(T(0));
        if (ALIGNED) {
            let first = first_of(i);
            if (one_row(first)) {
                for (var k = first; k < first + BLOCK; k++) {
                    sum += load4_src(place(i, order[k]) >> 2u);
                }
            }
        } else {
            for (var lane = 0u; lane < 4u; lane++) {
                let first = first_of(i + lane);
                if (i + lane < p.count && one_row(first)) {
                    for (var k = first; k < first + BLOCK; k++) {
                        sum[lane] += load_src(place(i + lane, order[k]));
                    }
                }
            }
        }
        store4_blocks(quad, sum);
    }
}
