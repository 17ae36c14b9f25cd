// until[r, j] = the first i >= j at which at least `window` of the numbers x[r, 0..i] come before x[r, j], or cols: larger ones come first,
// and of equal ones the later (trainable dynamic mask attention, arXiv 2508.02124). x, until: [rows, cols].

const WORKGROUP: u32 = 64u;

struct Params {
    rows: u32,
    cols: u32,
    window: u32,
    offset: u32, // of x
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> until: array<i32>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x(i: u32) -> f32 { return x[i]; }

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let blocks = (p.cols + WORKGROUP - 1u) / WORKGROUP;
    let row = group / blocks;
    let j = group % blocks * WORKGROUP + local;
    if (row < p.rows && j < p.cols) {
        let start = p.offset + row * p.cols;
        let own = load_x(start + j);
        var before = 0u;
        for (var i = 0u; i < j; i++) {
            before += u32(load_x(start + i) > own);
        }
        var i = j;
        while (before < p.window && i < p.cols) {
            i++;
            if (i < p.cols) { before += u32(load_x(start + i) >= own); }
        }
        until[row * p.cols + j] = i32(i);
    }
}
