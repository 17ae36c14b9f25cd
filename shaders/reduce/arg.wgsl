// y[o, i] = the smallest k whose x[o, k, i] is the largest (or smallest) along k. x: [outer, n, inner]; y: [outer, inner].
// LANES invocations work on one result, as in fold.wgsl. Of equal elements the one with the smaller index wins, within a lane
// because it came first and between lanes by comparison.

alias T = f32;

override WORKGROUP: u32 = 256u;
override LANES: u32 = 32u; // a power of two that divides WORKGROUP, which is at most 256
override LARGEST: u32 = 1u;

struct Params {
    results: u32,
    n: u32, // at least 1
    inner: u32,
    offset: u32,
}

@group(0) @binding(0) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x(i: u32) -> T { return x[i]; }

var<workgroup> values: array<T, 256>;
var<workgroup> places: array<u32, 256>;

fn better(a: T, b: T) -> bool {
    if (LARGEST != 0u) { return a > b; }
    return a < b;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let lane = local % LANES;
    let result = group * (WORKGROUP / LANES) + local / LANES;
    var best = T(0);
    var place = 0u;
    if (result < p.results) {
        let base = p.offset + (result / p.inner) * p.n * p.inner + result % p.inner;
        // A lane without elements of its own stands for the first one.
        best = load_x(base);
        for (var k = lane; k < p.n; k += LANES) {
            let v = load_x(base + k * p.inner);
            if (better(v, best)) {
                best = v;
                place = k;
            }
        }
    }
    values[local] = best;
    places[local] = place;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            let other = local + half;
            let first = values[other] == values[local] && places[other] < places[local];
            if (better(values[other], values[local]) || first) {
                values[local] = values[other];
                places[local] = places[other];
            }
        }
    }
    if (lane == 0u && result < p.results) {
        y[result] = places[local];
    }
}
