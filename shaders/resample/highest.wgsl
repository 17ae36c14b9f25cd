// The highest of some elements along the middle dimension of x [outer, size, inner], and where it stands:
//
//   y[o, i, c] = max over e in starts[i]..starts[i + 1] of x[o, sources[e], c]
//
// Of equal ones the first. Max pooling is this, along one dimension after the other, the last one first.

const WORKGROUP: u32 = 64u;

struct Params {
    count: u32, // elements of y
    size: u32,
    rows: u32, // number of i
    inner: u32,
    x_offset: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> starts: array<u32>;
@group(0) @binding(2) var<storage, read> sources: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> chosen: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    if (at < p.count) {
        let line = at / p.inner;
        let outer = line / p.rows;
        let row = line - outer * p.rows;
        let first = p.x_offset + outer * p.size * p.inner + at - line * p.inner;
        let begin = starts[row];
        var best = x[first + sources[begin] * p.inner];
        var source = sources[begin];
        for (var e = begin + 1u; e < starts[row + 1u]; e++) {
            let v = x[first + sources[e] * p.inner];
            if (v > best) {
                best = v;
                source = sources[e];
            }
        }
        y[at] = best;
        chosen[at] = source;
    }
}
