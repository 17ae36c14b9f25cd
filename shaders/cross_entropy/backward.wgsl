// The gradient of softmax cross-entropy (see forward.wgsl) from the logits x [rows, classes], the saved stats [5, rows] and the
// gradient g [rows] of each row's loss, for all elements in one pass:
//
//   dx_c = g (mass softmax(x)_c - (1 - e) w_t [c = t] - e / classes w_c)

override WORKGROUP: u32 = 256u;
override LANES: u32 = 32u; // divides WORKGROUP
override WEIGHTED: u32 = 0u;

struct Params {
    rows: u32,
    classes: u32,
    x_offset: u32,
    target_offset: u32,
    weight_offset: u32,
    g_offset: u32,
    smoothing: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> stats: array<f32>;
@group(0) @binding(4) var<storage, read> g: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x(i: u32) -> f32 { return x[i]; }

fn weight_of(c: u32) -> f32 {
    if (WEIGHTED == 0u) { return 1.0; }
    return weight[p.weight_offset + c];
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
        let wanted = targets[p.target_offset + row];
        let highest = stats[p.rows + row];
        let log_sum = stats[2u * p.rows + row];
        let mass = stats[4u * p.rows + row];
        let direct = (1.0 - p.smoothing) * stats[3u * p.rows + row];
        // An ignored row has no mass.
        let share = select(0.0, p.smoothing / f32(p.classes), mass != 0.0);
        let gradient = g[p.g_offset + row];
        for (var c = lane; c < p.classes; c += LANES) {
            let v = load_x(p.x_offset + row * p.classes + c);
            let hit = select(0.0, direct, c == wanted);
            let probability = exp((max(v, -3e38) - highest) - log_sum);
            dx[row * p.classes + c] = gradient * (mass * probability - hit - share * weight_of(c));
        }
    }
}
