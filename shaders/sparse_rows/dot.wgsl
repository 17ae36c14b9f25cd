// y[t, r] = sum over j of values[j] x[t, places[j]], j from starts[r] up to starts[r + 1]: a matrix that lists few weights a row (CSR).
// x: [tokens, cols]; starts: [rows + 1]; places, values: [weights]; y: [tokens, rows].
//
// A workgroup computes ROWS rows for TOKENS rows of x; LANES invocations share a row, each of which takes every LANES-th weight. A tree adds
// the parts in a fixed order.

override LANES: u32 = 32u; // a power of two
override ROWS: u32 = 1u;
override TOKENS: u32 = 4u; // up to 8
override SIZE: u32 = LANES * ROWS;
override PARTS: u32 = TOKENS * SIZE;

struct Params {
    tokens: u32,
    rows: u32,
    cols: u32,
    x_offset: u32,
    starts_offset: u32,
    places_offset: u32,
    values_offset: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> starts: array<u32>;
@group(0) @binding(2) var<storage, read> places: array<u32>;
@group(0) @binding(3) var<storage, read> values: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> parts: array<f32, PARTS>;

fn load_x(i: u32) -> f32 { return x[i]; }
fn load_values(i: u32) -> f32 { return values[i]; }

@compute @workgroup_size(SIZE)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let lane = local % LANES;
    let strips = (p.rows + ROWS - 1u) / ROWS;
    let row = group % strips * ROWS + local / LANES;
    let token = group / strips * TOKENS;
    if (token < p.tokens) {
        var s: array<f32, 8>;
        if (row < p.rows) {
            let end = starts[p.starts_offset + row + 1u];
            for (var j = starts[p.starts_offset + row] + lane; j < end; j += LANES) {
                let v = load_values(p.values_offset + j);
                let at = p.x_offset + places[p.places_offset + j];
                for (var t = 0u; t < TOKENS; t++) {
                    s[t] += v * load_x(at + min(token + t, p.tokens - 1u) * p.cols);
                }
            }
        }
        for (var t = 0u; t < TOKENS; t++) { parts[t * SIZE + local] = s[t]; }
        for (var half = LANES / 2u; half > 0u; half /= 2u) {
            workgroupBarrier();
            if (lane < half) {
                for (var t = 0u; t < TOKENS; t++) { parts[t * SIZE + local] += parts[t * SIZE + local + half]; }
            }
        }
        workgroupBarrier();
        if (row < p.rows) {
            for (var t = lane; t < min(TOKENS, p.tokens - token); t += LANES) {
                y[(token + t) * p.rows + row] = parts[t * SIZE + local - lane];
            }
        }
    }
}
