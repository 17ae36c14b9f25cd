// Bits of a bool mask, as common/mask.wgsl reads them: for each of `matrices` matrices [height, width], `height` rows of words, then
// for each 32 x 32 bits a word that says whether none (0), some (1) or all (2) are set. One invocation has 32 x 32 of them.

const WORKGROUP: u32 = 64u;

struct Params {
    matrices: u32,
    height: u32,
    width: u32,
    start: u32,
}

@group(0) @binding(0) var<storage, read> seen: array<u32>;
@group(0) @binding(1) var<storage, read_write> words: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let cell = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    let columns = (p.width + 31u) / 32u;
    let blocks = (p.height + 31u) / 32u;
    let matrix = cell / (columns * blocks);
    if (matrix < p.matrices) {
        let block = cell / columns % blocks;
        let column = cell % columns;
        let bits = min(32u, p.width - 32u * column);
        let whole = 0xffffffffu >> (32u - bits);
        let start = matrix * (p.height + blocks) * columns;
        var none = true;
        var all = true;
        for (var row = 32u * block; row < min(32u * block + 32u, p.height); row++) {
            let source = p.start + (matrix * p.height + row) * p.width + 32u * column;
            var word = 0u;
            for (var bit = 0u; bit < bits; bit++) {
                word |= select(0u, 1u << bit, seen[source + bit] != 0u);
            }
            words[start + row * columns + column] = word;
            none = none && word == 0u;
            all = all && word == whole;
        }
        words[start + (p.height + block) * columns + column] = select(select(1u, 2u, all), 0u, none);
    }
}
