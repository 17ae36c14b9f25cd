// Step 1: a thread for each element of c; it walks a row of a and a column of b.
struct Params { m: u32, n: u32, k: u32 }

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let i = (wg.x + wg.y * nwg.x) * 64u + local;
    if (i >= p.m * p.n) { return; }
    let row = i / p.n;
    let column = i % p.n;
    var sum = 0.0;
    for (var j = 0u; j < p.k; j++) {
        sum += a[row * p.k + j] * b[j * p.n + column];
    }
    c[i] = sum;
}
