// y[a, b, r, c] = x[offset + a a_stride + b b_stride + r + c c_stride] for words: a copy that turns columns of neighbours into rows.
// y lies dense but for the rows of a plane, which are row_stride apart. Through a tile in workgroup memory, so that reads and
// writes both run along memory. One workgroup makes a tile.

const WORKGROUP: u32 = 256u;

const TILE = 32u;
const LINES = WORKGROUP / TILE; // of a tile at a time

struct Params {
    rows: u32,
    cols: u32,
    tiles_down: u32,
    tiles_across: u32,
    blocks: u32, // size of b
    offset: u32,
    x_outer: u32, // strides of a, b and c in x
    x_inner: u32,
    x_col: u32,
    y_outer: u32, // strides of a, b and r in y
    y_inner: u32,
    y_row: u32,
    tiles: u32,
}

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

// Lines are one longer than the tile, so that columns fall into different banks.
var<workgroup> tile: array<u32, 1056>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let plane = group / (p.tiles_down * p.tiles_across);
    let within = group % (p.tiles_down * p.tiles_across);
    let row = within / p.tiles_across * TILE;
    let col = within % p.tiles_across * TILE;
    let outer = plane / p.blocks;
    let inner = plane % p.blocks;
    let along = local % TILE;
    let line = local / TILE;

    let source = p.offset + outer * p.x_outer + inner * p.x_inner + row + along;
    for (var k = line; k < TILE; k += LINES) {
        if (group < p.tiles && row + along < p.rows && col + k < p.cols) {
            tile[k * (TILE + 1u) + along] = x[source + (col + k) * p.x_col];
        }
    }
    workgroupBarrier();
    let to = outer * p.y_outer + inner * p.y_inner + col + along;
    for (var k = line; k < TILE; k += LINES) {
        if (group < p.tiles && row + k < p.rows && col + along < p.cols) {
            y[to + (row + k) * p.y_row] = tile[along * (TILE + 1u) + k];
        }
    }
}
