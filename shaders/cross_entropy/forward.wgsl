// Softmax cross-entropy of logits x [rows, cols] (a column for each class) against a class index per row, with class weights w (1
// without WEIGHTED) and label smoothing e: the target distribution is (1 - e) onehot(t) + e / cols.
//
//   lse  = ln(sum exp(x))
//   loss = (1 - e) w_t (lse - x_t) + e / cols * sum_c w_c (lse - x_c)
//   mass = (1 - e) w_t             + e / cols * sum_c w_c              (what the gradient multiplies softmax(x) with)
//
// stats: [5, rows], with loss, lse in two parts (the maximum, and ln(sum exp(x - maximum)): their sum would lose digits where
// logits are large), w_t and mass. A row whose target is ignored has loss, weight and mass 0. A target that is no
// class is noted and counts as ignored. LANES invocations work on one row, in one pass: sums are relative to the maximum so far.

override WORKGROUP: u32 = 256u;
override LANES: u32 = 32u; // a power of two that divides WORKGROUP, which is at most 256
override WEIGHTED: bool = false;
override IGNORES: bool = false;
override SMOOTH: bool = false;
override X_ALIGNED: bool = true; // rows begin at multiples of four elements

struct Params {
    rows: u32,
    cols: u32,
    x_offset: u32,
    x_stride: u32,
    target_offset: u32,
    weight_offset: u32,
    ignored: u32, // the target to ignore, as the bits of its 32-bit integer
    smoothing: f32,
    code: u32, // of the operation, for the note
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> stats: array<f32>;
@group(0) @binding(4) var<storage, read_write> fault: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x(i: u32) -> f32 { return x[i >> 2u][i & 3u]; }
fn load4_x(i: u32) -> vec4<f32> { return x[i]; }

//#import common/rows.wgsl
//#import common/quads.wgsl
//#import common/exp.wgsl
//#import common/fault.wgsl

const LOWEST: f32 = -3e38;

fn weight_of(c: u32) -> f32 {
    if (!WEIGHTED) { return 1.0; }
    return weight[p.weight_offset + c];
}

fn weights4(k: u32) -> vec4<f32> {
    let c = four_of(0u, k);
    return kept(vec4<f32>(weight_of(c.x), weight_of(c.y), weight_of(c.z), weight_of(c.w)), k);
}

// Logits, finite all.
fn logits(start: u32, k: u32) -> vec4<f32> {
    var v = vec4<f32>();
    if (X_ALIGNED) {
        v = load4_x((start >> 2u) + k);
    } else {
        let i = four_of(start, k);
        v = vec4<f32>(load_x(i.x), load_x(i.y), load_x(i.z), load_x(i.w));
    }
    v = max(v, vec4<f32>(LOWEST));
    if (TAIL) { v = select(vec4<f32>(LOWEST), v, inside(k)); }
    return v;
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
    let start = p.x_offset + row * p.x_stride;
    let end = select(0u, (p.cols + 3u) >> 2u, row < p.rows);

    // Sums of exp(x - highest), of the weights, and of the weighted x - highest. The last two only matter with smoothing.
    var highest = LOWEST;
    var sums = vec4<f32>();
    var weights = vec4<f32>();
    var below = vec4<f32>();
    for (var k = lane; k < end; k += LANES) {
        let v = logits(start, k);
        let higher = max(highest, highest_of(v));
        sums = sums * exp_below(vec4<f32>(highest - higher)).x + exp_below(v - higher);
        if (SMOOTH) {
            let w = weights4(k);
            below += kept(w * (v - higher), k) - select(vec4<f32>(), weights * (higher - highest), weights > vec4<f32>());
            weights += w;
        }
        highest = higher;
    }
    let top = row_max(highest, local);
    let sum = row_sum(added(sums) * exp_below(vec4<f32>(highest - top)).x, local);
    var all_weights = 0.0;
    var all_below = 0.0;
    if (SMOOTH) {
        let shifted = below - select(vec4<f32>(), weights * (top - highest), weights > vec4<f32>());
        all_weights = row_sum(added(weights), local);
        all_below = row_sum(added(shifted), local);
    }

    if (lane == 0u && row < p.rows) {
        let wanted = targets[p.target_offset + row];
        let ignored = IGNORES && wanted == p.ignored;
        if (!ignored && wanted >= p.cols) {
            report_fault(p.code, wanted, p.cols);
        }
        let nearest = min(wanted, p.cols - 1u);
        let log_sum = log(sum);
        let kept_row = select(0.0, 1.0, !ignored && wanted < p.cols);
        let weight = kept_row * weight_of(nearest);
        let share = p.smoothing / f32(p.cols);
        let direct = (1.0 - p.smoothing) * weight;
        var loss = direct * (log_sum - (max(load_x(start + nearest), LOWEST) - top));
        if (SMOOTH) {
            loss += kept_row * share * (all_weights * log_sum - all_below);
        }
        stats[row] = loss;
        stats[p.rows + row] = top;
        stats[2u * p.rows + row] = log_sum;
        stats[3u * p.rows + row] = weight;
        stats[4u * p.rows + row] = direct + kept_row * share * all_weights;
    }
}
