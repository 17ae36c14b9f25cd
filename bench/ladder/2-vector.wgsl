// Step 2: a thread for four neighbouring elements of c, so that b is read and c is written in vectors of four, and each
// number of a serves four times.
struct Params { m: u32, n: u32, k: u32 }

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let i = (wg.x + wg.y * nwg.x) * 64u + local;
    let n4 = p.n / 4u;
    if (i >= p.m * n4) { return; }
    let row = i / n4;
    let column = i % n4;
    var sum = vec4<f32>();
    for (var j = 0u; j < p.k; j++) {
        sum += a[row * p.k + j] * b[j * n4 + column];
    }
    c[i] = sum;
}
