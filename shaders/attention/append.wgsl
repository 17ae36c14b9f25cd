// New rows of keys or values, written into the pages of a cache: row i of sequence b, if i < counts[b], is its token
// t = lengths[b] - counts[b] + i, which has row t mod size of its page:
//
//   pages[page(b, t), h, t mod size, :] = x[b, h, i, :], zeros up to the whole fours
//
// x: [batch, heads, rows, width] of any strides; pages: [count, heads, size, 4 fours]; places: lengths [batch], counts [batch], pages of each
// sequence [batch, table], or with table 0 page b for sequence b. An invocation has four elements.

const WORKGROUP: u32 = 64u;

struct Params {
    batch: u32,
    heads: u32,
    rows: u32,
    width: u32,
    size: u32,
    table: u32,
    x_start: u32,
    x_batch: u32,
    x_head: u32,
    x_row: u32,
    x_column: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> places: array<u32>;
@group(0) @binding(2) var<storage, read_write> pages: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x(i: u32) -> f32 { return x[i]; }
fn store4_pages(i: u32, v: vec4<f32>) { pages[i] = v; }

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let cell = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    let fours = (p.width + 3u) / 4u;
    let row = cell / fours;
    let batch = row / (p.rows * p.heads);
    if (batch < p.batch) {
        let i = row % p.rows;
        let head = row / p.rows % p.heads;
        let count = places[p.batch + batch];
        if (i < count) {
            let token = places[batch] - count + i;
            var page = batch;
            if (p.table > 0u) { page = places[2u * p.batch + batch * p.table + token / p.size]; }
            let start = p.x_start + batch * p.x_batch + head * p.x_head + i * p.x_row;
            let column = cell % fours * 4u;
            var v = vec4<f32>();
            for (var d = 0u; d < 4u; d++) {
                if (column + d < p.width) { v[d] = load_x(start + (column + d) * p.x_column); }
            }
            store4_pages(((page * p.heads + head) * p.size + token % p.size) * fours + cell % fours, v);
        }
    }
}
