// The bindings of norms of a sum. Rows of sum are rounded up to fours, as those of y.

override RESIDUAL_ALIGNED: bool = true; // rows of residual begin at multiples of four elements

@group(0) @binding(5) var<storage, read> residual: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> sum: array<vec4<f32>>;

fn load_residual(i: u32) -> f32 { return residual[i >> 2u][i & 3u]; }
fn load4_residual(i: u32) -> vec4<f32> { return residual[i]; }
fn load4_sum(i: u32) -> vec4<f32> { return sum[i]; }
fn store4_sum(i: u32, v: vec4<f32>) { sum[i] = v; }

fn residual4(row: u32, k: u32) -> vec4<f32> {
    let start = p.residual_offset + row * p.residual_stride;
    if (RESIDUAL_ALIGNED) { return load4_residual((start >> 2u) + k); }
    let i = four_of(start, k);
    return vec4<f32>(load_residual(i.x), load_residual(i.y), load_residual(i.z), load_residual(i.w));
}

fn again4(row: u32, k: u32) -> vec4<f32> {
    return load4_sum(row * ((p.cols + 3u) >> 2u) + k);
}

fn summed4(row: u32, k: u32, v: vec4<f32>) -> vec4<f32> {
    store4_sum(row * ((p.cols + 3u) >> 2u) + k, v + residual4(row, k));
    return again4(row, k);
}
