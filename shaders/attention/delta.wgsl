// What the gradients of all weights of a query have in common: delta_i = sum over d of do_id o_id. It goes beside the row's lse:
//
//   stats[row] = (lse[row], delta)
//
// o, d_o: [batch, queries, heads, 4 DV4]; lse: [batch, heads, queries]; stats: [batch, heads, queries, 2]. One invocation a row.

const WORKGROUP: u32 = 64u;

struct Params {
    rows: u32,
    heads: u32,
    queries: u32,
    dv4: u32,
}

@group(0) @binding(0) var<storage, read> o: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> d_o: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> lse: array<f32>;
@group(0) @binding(3) var<storage, read_write> stats: array<vec2<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load4_o(i: u32) -> vec4<f32> { return o[i]; }
fn load4_d_o(i: u32) -> vec4<f32> { return d_o[i]; }

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    if (row < p.rows) {
        let query = row % p.queries;
        let head = row / p.queries % p.heads;
        let batch = row / (p.queries * p.heads);
        let start = ((batch * p.queries + query) * p.heads + head) * p.dv4;
        var delta = 0.0;
        for (var d = 0u; d < p.dv4; d++) {
            delta += dot(load4_o(start + d), load4_d_o(start + d));
        }
        stats[row] = vec2<f32>(lse[row], delta);
    }
}
