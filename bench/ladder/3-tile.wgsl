// Step 3: a workgroup computes 16 x 16 elements of c. It brings 16 x 16 tiles of a and b to workgroup memory, so that each
// number is read from the device's memory once for 16 uses.
struct Params { m: u32, n: u32, k: u32 }

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> tile_a: array<f32, 256>;
var<workgroup> tile_b: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let block = wg.x + wg.y * nwg.x;
    let blocks = p.n / 16u;
    let top = block / blocks * 16u;
    let left = block % blocks * 16u;
    if (top >= p.m) { return; }
    let row = local / 16u;
    let column = local % 16u;
    var sum = 0.0;
    for (var j = 0u; j < p.k; j += 16u) {
        tile_a[local] = a[(top + row) * p.k + j + column];
        tile_b[local] = b[(j + row) * p.n + left + column];
        workgroupBarrier();
        for (var t = 0u; t < 16u; t++) {
            sum += tile_a[row * 16u + t] * tile_b[t * 16u + column];
        }
        workgroupBarrier();
    }
    c[(top + row) * p.n + left + column] = sum;
}
