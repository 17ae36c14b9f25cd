// Step 4: a workgroup of 256 threads computes 64 x 64 elements of c, each thread 4 x 4 of them in registers: for eight numbers
// from workgroup memory it does sixteen multiply-adds.
struct Params { m: u32, n: u32, k: u32 }

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

// 16 steps of k: rows of a as columns, so that four rows are one vector; rows of b as they are.
var<workgroup> tile_a: array<vec4<f32>, 256>;
var<workgroup> tile_b: array<vec4<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let block = wg.x + wg.y * nwg.x;
    let blocks = p.n / 64u;
    let top = block / blocks * 64u;
    let left = block % blocks * 64u;
    if (top >= p.m) { return; }
    let n4 = p.n / 4u;
    let k4 = p.k / 4u;
    let row = local / 16u;
    let column = local % 16u;
    var s0 = vec4<f32>();
    var s1 = vec4<f32>();
    var s2 = vec4<f32>();
    var s3 = vec4<f32>();
    for (var j = 0u; j < p.k; j += 16u) {
        // Four threads bring the 16 numbers of a row of a; they go to lane row % 4 of the vectors of row / 4.
        let four = a[(top + local / 4u) * k4 + j / 4u + local % 4u];
        let lane = local / 4u % 4u;
        let at = local % 4u * 64u + local / 16u;
        tile_a[at][lane] = four.x;
        tile_a[at + 16u][lane] = four.y;
        tile_a[at + 32u][lane] = four.z;
        tile_a[at + 48u][lane] = four.w;
        tile_b[local] = b[(j + row) * n4 + left / 4u + column];
        workgroupBarrier();
        for (var t = 0u; t < 16u; t++) {
            let x = tile_a[t * 16u + row];
            let y = tile_b[t * 16u + column];
            s0 += x.x * y;
            s1 += x.y * y;
            s2 += x.z * y;
            s3 += x.w * y;
        }
        workgroupBarrier();
    }
    let to = (top + row * 4u) * n4 + left / 4u + column;
    c[to] = s0;
    c[to + n4] = s1;
    c[to + 2u * n4] = s2;
    c[to + 3u * n4] = s3;
}
