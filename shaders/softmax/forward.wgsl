// Along each row of x [rows, cols], with v = scale x: y = exp(v - max) / sum(exp(v - max)), or with LOG its logarithm. Where the mask
// is 0, v counts as -inf. Elements of -inf get 0 (LOG: stay below every finite number); a row of them alone gets zeros (LOG: the
// elements themselves). Rows of y are rounded up to fours.
//
// LANES invocations work on one row. Each keeps the maximum so far and the sum relative to it (Milakov and Gimelshein 2018,
// arXiv:1805.02867), so that one pass over the row is enough before the one that writes, which finds it in the cache.

override WORKGROUP: u32 = 256u;
override LANES: u32 = 32u; // a power of two that divides WORKGROUP, which is at most 256
override LOG: bool = false;
override MASKED: bool = false;
override X_ALIGNED: bool = true; // rows begin at multiples of four elements
override MASK_ALIGNED: bool = true; // and a row of the mask is contiguous

struct Params {
    rows: u32,
    cols: u32,
    x_offset: u32,
    x_stride: u32,
    scale: f32,
    // The mask is a view of [.., middle, inner, cols].
    middle: u32,
    inner: u32,
    mask_offset: u32,
    mask_outer: u32, // strides
    mask_middle: u32,
    mask_inner: u32,
    mask_column: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> mask: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x(i: u32) -> f32 { return x[i >> 2u][i & 3u]; }
fn load4_x(i: u32) -> vec4<f32> { return x[i]; }
fn store4_y(i: u32, v: vec4<f32>) { y[i] = v; }

//#import common/rows.wgsl
//#import common/quads.wgsl
//#import common/exp.wgsl

const LOWEST: f32 = -3e38;

fn x4(row: u32, k: u32) -> vec4<f32> {
    let start = p.x_offset + row * p.x_stride;
    if (X_ALIGNED) { return load4_x((start >> 2u) + k); }
    let i = four_of(start, k);
    return vec4<f32>(load_x(i.x), load_x(i.y), load_x(i.z), load_x(i.w));
}

fn mask_at(i: u32) -> bool {
    return mask[i >> 2u][i & 3u] != 0u;
}

// Where the row's mask begins.
fn mask_row(row: u32) -> u32 {
    if (!MASKED) { return 0u; }
    let of_middle = row / p.inner;
    return p.mask_offset + (row % p.inner) * p.mask_inner + (of_middle % p.middle) * p.mask_middle
        + of_middle / p.middle * p.mask_outer;
}

// Logits, finite all.
fn logits(row: u32, k: u32, mask_start: u32) -> vec4<f32> {
    var v = max(x4(row, k) * p.scale, vec4<f32>(LOWEST));
    if (MASKED && MASK_ALIGNED) {
        v = select(vec4<f32>(LOWEST), v, mask[(mask_start >> 2u) + k] != vec4<u32>(0u));
    } else if (MASKED) {
        let i = vec4<u32>(mask_start) + p.mask_column * four_of(0u, k);
        v = select(vec4<f32>(LOWEST), v, vec4<bool>(mask_at(i.x), mask_at(i.y), mask_at(i.z), mask_at(i.w)));
    }
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
    let fours = (p.cols + 3u) >> 2u;
    let end = select(0u, fours, row < p.rows);
    let mask_start = mask_row(row);

    var highest = LOWEST;
    var sums = vec4<f32>();
    for (var k = lane; k < end; k += LANES) {
        let v = logits(row, k, mask_start);
        let higher = max(highest, highest_of(v));
        sums = sums * exp_below(vec4<f32>(highest - higher)).x + exp_below(v - higher);
        highest = higher;
    }
    let top = row_max(highest, local);
    let sum = row_sum(added(sums) * exp_below(vec4<f32>(highest - top)).x, local);
    let empty = top < -1e38;
    let scale = select(1.0 / sum, 0.0, empty);
    // Subtracted one after the other: their sum would lose the digits of the logarithm where logits are large.
    let shift = select(top, 0.0, empty);
    let log_sum = select(log(sum), 0.0, empty);

    for (var k = lane; k < end; k += LANES) {
        var v = vec4<f32>();
        if (LOG) {
            v = (x4(row, k) - shift) - log_sum;
        } else {
            v = exp_below(logits(row, k, mask_start) - top) * scale;
        }
        store4_y(row * fours + k, v);
    }
}
