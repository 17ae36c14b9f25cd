// Queries, keys and values of common/attention.wgsl.

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;

fn load4_q(i: u32) -> vec4<f32> { return q[i]; }
fn load4_k(i: u32) -> vec4<f32> { return k[i]; }
fn load4_v(i: u32) -> vec4<f32> { return v[i]; }
