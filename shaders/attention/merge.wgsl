// The results of attention/decode.wgsl brought together in the order of the splits:
//
//   m = max of most_s, sink;  e_s = exp(most_s - m);  o = sum of e_s partial_s / (sum of e_s total_s + exp(sink - m))
//
// o: [batch, queries, heads, 4 dv4]. An invocation has four elements. A row that saw nothing is zeros.

override HAS_SINKS: bool = false;

const WORKGROUP: u32 = 64u;
const NOTHING: f32 = -1e30;

struct Params {
    rows: u32,
    heads: u32,
    queries: u32,
    splits: u32,
    dv4: u32,
    sinks_start: u32,
}

@group(0) @binding(0) var<storage, read> partial: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> aux: array<f32>;
@group(0) @binding(3) var<storage, read_write> o: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

//#import common/exp.wgsl

fn load_aux(i: u32) -> f32 { return aux[i]; }
fn store4_o(i: u32, v: vec4<f32>) { o[i] = v; }

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let cell = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    let row = cell / p.dv4;
    let column = cell % p.dv4;
    if (row < p.rows) {
        let query = row % p.queries;
        let head = row / p.queries % p.heads;
        let batch = row / (p.queries * p.heads);
        let start = row * p.splits;
        var most = NOTHING;
        for (var s = 0u; s < p.splits; s++) { most = max(most, stats[start + s].x); }
        var total = 0.0;
        if (HAS_SINKS) {
            let sink = load_aux(p.sinks_start + head);
            most = max(most, sink);
            total = exp_below(vec4<f32>(sink - most)).x;
        }
        var sum = vec4<f32>();
        for (var s = 0u; s < p.splits; s++) {
            let stat = stats[start + s];
            if (stat.y > 0.0) {
                let e = exp_below(vec4<f32>(stat.x - most)).x;
                total += e * stat.y;
                sum += e * partial[(start + s) * p.dv4 + column];
            }
        }
        store4_o(((batch * p.queries + query) * p.heads + head) * p.dv4 + column, sum / max(total, 1e-30));
    }
}
