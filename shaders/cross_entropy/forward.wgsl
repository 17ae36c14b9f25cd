// Softmax cross-entropy of logits x [rows, classes] against a class index per row, with class weights w (1 without WEIGHTED) and
// label smoothing e: the target distribution is (1 - e) onehot(t) + e / classes.
//
//   lse  = ln(sum exp(x))
//   loss = (1 - e) w_t (lse - x_t) + e / classes * sum_c w_c (lse - x_c)
//   mass = (1 - e) w_t             + e / classes * sum_c w_c              (what the gradient multiplies softmax(x) with)
//
// stats: [5, rows], with loss, lse in two parts (the maximum, and ln(sum exp(x - maximum)): their sum would lose digits where
// logits are large), w_t and mass. A row whose target is ignored has loss, weight and mass 0. A target that is no
// class is noted and counts as ignored. LANES invocations work on one row.

override WORKGROUP: u32 = 256u;
override LANES: u32 = 32u; // a power of two that divides WORKGROUP, which is at most 256
override WEIGHTED: u32 = 0u;
override IGNORES: u32 = 0u;

struct Params {
    rows: u32,
    classes: u32,
    x_offset: u32,
    target_offset: u32,
    weight_offset: u32,
    ignored: u32, // the target to ignore, as the bits of its 32-bit integer
    smoothing: f32,
    code: u32, // of the operation, for the note
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> stats: array<f32>;
@group(0) @binding(4) var<storage, read_write> fault: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x(i: u32) -> f32 { return x[i]; }

//#import common/rows.wgsl
//#import common/fault.wgsl

const LOWEST: f32 = -3e38;

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
    let base = p.x_offset + row * p.classes;
    let classes = select(0u, p.classes, row < p.rows);

    var highest = LOWEST;
    for (var c = lane; c < classes; c += LANES) {
        highest = max(highest, load_x(base + c));
    }
    highest = row_max(highest, local);

    // Sums of exp(x - highest), of the weights, and of the weighted x - highest. The last two only matter with smoothing.
    var sum = 0.0;
    var weights = 0.0;
    var below = 0.0;
    for (var c = lane; c < classes; c += LANES) {
        let v = max(load_x(base + c), LOWEST) - highest;
        sum += exp(v);
        if (p.smoothing > 0.0) {
            weights += weight_of(c);
            below += weight_of(c) * v;
        }
    }
    sum = row_sum(sum, local);
    weights = row_sum(weights, local);
    below = row_sum(below, local);

    if (lane == 0u && row < p.rows) {
        let wanted = targets[p.target_offset + row];
        let ignored = IGNORES != 0u && wanted == p.ignored;
        if (!ignored && wanted >= p.classes) {
            report_fault(p.code, wanted, p.classes);
        }
        let nearest = min(wanted, p.classes - 1u);
        let log_sum = log(sum);
        let kept = select(0.0, 1.0, !ignored && wanted < p.classes);
        let weight = kept * weight_of(nearest);
        let share = p.smoothing / f32(p.classes);
        let direct = (1.0 - p.smoothing) * weight;
        var loss = direct * (log_sum - (max(load_x(base + nearest), LOWEST) - highest));
        if (p.smoothing > 0.0) {
            loss += kept * share * (weights * log_sum - below);
        }
        stats[row] = loss;
        stats[p.rows + row] = highest;
        stats[2u * p.rows + row] = log_sum;
        stats[3u * p.rows + row] = weight;
        stats[4u * p.rows + row] = direct + kept * share * weights;
    }
}
