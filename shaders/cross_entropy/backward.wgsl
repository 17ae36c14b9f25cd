// The gradient of softmax cross-entropy (see forward.wgsl) from the logits x [rows, cols], the saved stats [5, rows] and the
// gradient g [rows] of each row's loss, for all elements in one pass:
//
//   dx_c = g (mass softmax(x)_c - (1 - e) w_t [c = t] - e / cols w_c)
//
// Rows of dx are rounded up to fours.

override WORKGROUP: u32 = 256u;
override LANES: u32 = 32u; // divides WORKGROUP
override WEIGHTED: bool = false;
override X_ALIGNED: bool = true; // rows begin at multiples of four elements

struct Params {
    rows: u32,
    cols: u32,
    x_offset: u32,
    x_stride: u32,
    target_offset: u32,
    weight_offset: u32,
    g_offset: u32,
    smoothing: f32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> stats: array<f32>;
@group(0) @binding(4) var<storage, read> g: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x(i: u32) -> f32 { return x[i >> 2u][i & 3u]; }
fn load4_x(i: u32) -> vec4<f32> { return x[i]; }
fn store4_dx(i: u32, v: vec4<f32>) { dx[i] = v; }

//#import common/quads.wgsl
//#import common/exp.wgsl

fn x4(row: u32, k: u32) -> vec4<f32> {
    let start = p.x_offset + row * p.x_stride;
    if (X_ALIGNED) { return load4_x((start >> 2u) + k); }
    let i = four_of(start, k);
    return vec4<f32>(load_x(i.x), load_x(i.y), load_x(i.z), load_x(i.w));
}

fn weights4(k: u32) -> vec4<f32> {
    if (!WEIGHTED) { return vec4<f32>(1.0); }
    let c = four_of(p.weight_offset, k);
    return vec4<f32>(weight[c.x], weight[c.y], weight[c.z], weight[c.w]);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let lane = local % LANES;
    let row = group * (WORKGROUP / LANES) + local / LANES;
    if (row < p.rows) {
        let fours = (p.cols + 3u) >> 2u;
        let wanted = targets[p.target_offset + row];
        let highest = stats[p.rows + row];
        let log_sum = stats[2u * p.rows + row];
        let mass = stats[4u * p.rows + row];
        let direct = (1.0 - p.smoothing) * stats[3u * p.rows + row];
        // An ignored row has no mass.
        let share = select(0.0, p.smoothing / f32(p.cols), mass != 0.0);
        let gradient = g[p.g_offset + row];
        for (var k = lane; k < fours; k += LANES) {
            let c = vec4<u32>(4u * k) + vec4<u32>(0u, 1u, 2u, 3u);
            let hit = select(vec4<f32>(), vec4<f32>(direct), c == vec4<u32>(wanted));
            let probability = exp_below((max(x4(row, k), vec4<f32>(-3e38)) - highest) - log_sum);
            store4_dx(row * fours + k, gradient * (mass * probability - hit - share * weights4(k)));
        }
    }
}
