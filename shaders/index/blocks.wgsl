// blocks[o, b, c] = sum over the 64 entries e = order[64 b .. 64 b + 64] of src[o, e, c] if all of them go to one row, else 0.
// With these sum.wgsl adds up a row of thousands of entries in few steps.
// slots: [entries], by entry; order: the entries sorted by row; src: [outer, entries, inner]; blocks: [outer, entries / 64, inner].
// Each invocation writes four elements.

//#import common/wide.wgsl

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
    blocks: u32, // entries / 64
    inner_magic: u32,
    inner_shift: u32,
    blocks_magic: u32,
    blocks_shift: u32,
}

@group(0) @binding(0) var<storage, read> src: array<vec4<T>>;
@group(0) @binding(1) var<storage, read> order: array<u32>;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read_write> blocks: array<vec4<T>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_src(i: u32) -> T { return src[i >> 2u][i & 3u]; }
fn load4_src(i: u32) -> vec4<T> { return src[i]; }
fn store4_blocks(i: u32, v: vec4<T>) { blocks[i] = v; }

// Element i of blocks: the first entry of its block, in the order, and where in src the element of entry 0 is.
struct Place {
    first: u32,
    start: u32,
}

fn place_of(i: u32) -> Place {
    let line = quotient(i, p.inner_magic, p.inner_shift);
    let outer = quotient(line, p.blocks_magic, p.blocks_shift);
    let start = p.src_offset + outer * p.entries * p.inner + i - line * p.inner;
    return Place((line - outer * p.blocks) * BLOCK, start);
}

fn one_row(first: u32) -> bool {
    return slots[order[first]] == slots[order[first + BLOCK - 1u]];
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
            let at = place_of(i);
            if (one_row(at.first)) {
                for (var k = at.first; k < at.first + BLOCK; k++) {
                    sum += load4_src((at.start + order[k] * p.inner) >> 2u);
                }
            }
        } else {
            for (var lane = 0u; lane < 4u; lane++) {
                let at = place_of(min(i + lane, p.count - 1u));
                if (i + lane < p.count && one_row(at.first)) {
                    for (var k = at.first; k < at.first + BLOCK; k++) {
                        sum[lane] += load_src(at.start + order[k] * p.inner);
                    }
                }
            }
        }
        store4_blocks(quad, sum);
    }
}
