// Sorts each tile of `TILE` keys of each row by counting: an element's place is the number of elements that come before it. Stable,
// and without barriers. keys: [rows, n]; sorted, order: [rows, stride]. Where a row is one tile, only the first `stride` places
// are written, which makes this the whole of a short top-k.

const WORKGROUP: u32 = 64u;
override TILE: u32 = 256u;

struct Params {
    count: u32, // rows * n
    n: u32,
    stride: u32,
}

@group(0) @binding(0) var<storage, read> keys: array<u32>;
@group(0) @binding(1) var<storage, read_write> sorted: array<u32>;
@group(0) @binding(2) var<storage, read_write> order: array<u32>;
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
        let row = i / p.n;
        let column = i % p.n;
        let tile = column / TILE * TILE;
        let end = min(tile + TILE, p.n);
        let mine = keys[i];
        var place = tile;
        for (var other = tile; other < column; other++) {
            place += select(0u, 1u, keys[row * p.n + other] <= mine);
        }
        for (var other = column + 1u; other < end; other++) {
            place += select(0u, 1u, keys[row * p.n + other] < mine);
        }
        if (place < p.stride) {
            sorted[row * p.stride + place] = mine;
            order[row * p.stride + place] = column;
        }
    }
}
