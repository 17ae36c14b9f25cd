// mask[r, c] = 1 if fewer than n scores of the group of m columns that c is in come before its own, else 0: larger scores come first,
// then smaller columns. keys: u32 [rows, cols] that ascend as the scores descend (sort/keys). The last group of a row may be cut.

const WORKGROUP: u32 = 64u;

struct Params {
    count: u32, // rows * cols
    cols: u32,
    n: u32,
    m: u32,
}

@group(0) @binding(0) var<storage, read> keys: array<u32>;
@group(0) @binding(1) var<storage, read_write> mask: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let i = group * WORKGROUP + local;
    if (i < p.count) {
        let column = i % p.cols;
        let first = i - column % p.m;
        let end = min(first + p.m, i - column + p.cols);
        let mine = keys[i];
        var before = 0u;
        for (var other = first; other < i; other++) {
            before += select(0u, 1u, keys[other] <= mine);
        }
        for (var other = i + 1u; other < end; other++) {
            before += select(0u, 1u, keys[other] < mine);
        }
        mask[i] = select(0u, 1u, before < p.n);
    }
}
