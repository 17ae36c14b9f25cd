// The mask of 4 x 4 tiles with two ones in each row and each column, 90 patterns, that keeps the largest sum of scores (Hubara et al.
// 2021). scores, mask: [strips, 4, cols]. An invocation has a tile; beyond the edge scores are 0. All choices of patterns for three
// rows are tried; the last row's follows from them. The first of equally good ones is kept, as engine/src/cpu/prune.rs does.

const WORKGROUP: u32 = 64u;

struct Params {
    tiles: u32,
    cols: u32,
    offset: u32,
}

@group(0) @binding(0) var<storage, read> scores: array<f32>;
@group(0) @binding(1) var<storage, read_write> mask: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_scores(i: u32) -> f32 { return scores[i]; }

// The six patterns of a row in their order, as counts of the four columns in four bits each.
fn counts_of(pattern: u32) -> u32 {
    switch (pattern) {
        case 0u: { return 0x0011u; }
        case 1u: { return 0x0101u; }
        case 2u: { return 0x1001u; }
        case 3u: { return 0x0110u; }
        case 4u: { return 0x1010u; }
        default: { return 0x1100u; }
    }
}

fn is_pattern(counts: u32) -> bool {
    return (counts & 0xffffeeeeu) == 0u && countOneBits(counts) == 2u;
}

// The sum of the two scores that a pattern keeps.
fn kept(row: vec4<f32>, counts: u32) -> f32 {
    let low = select(select(row.z, row.y, (counts & 0x10u) != 0u), row.x, (counts & 1u) != 0u);
    let high = select(select(row.y, row.z, (counts & 0x100u) != 0u), row.w, (counts & 0x1000u) != 0u);
    return low + high;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let tile = group * WORKGROUP + local;
    if (tile < p.tiles) {
        let across = (p.cols + 3u) / 4u;
        let column = tile % across * 4u;
        let start = tile / across * 4u * p.cols + column;
        var x: array<vec4<f32>, 4>;
        for (var r = 0u; r < 4u; r++) {
            for (var c = 0u; c < 4u; c++) {
                if (column + c < p.cols) {
                    x[r][c] = load_scores(p.offset + start + r * p.cols + c);
                }
            }
        }
        var best = 0.0;
        var found = vec4<u32>(0u);
        for (var first = 0u; first < 6u; first++) {
            let a = counts_of(first);
            for (var second = 0u; second < 6u; second++) {
                let b = counts_of(second);
                let upper = kept(x[0], a) + kept(x[1], b);
                for (var third = 0u; third < 6u; third++) {
                    let c = counts_of(third);
                    let d = 0x2222u - (a + b + c);
                    let sum = upper + (kept(x[2], c) + kept(x[3], d));
                    if (is_pattern(d) && (found.x == 0u || sum > best)) {
                        best = sum;
                        found = vec4<u32>(a, b, c, d);
                    }
                }
            }
        }
        for (var r = 0u; r < 4u; r++) {
            for (var c = 0u; c < 4u; c++) {
                if (column + c < p.cols) {
                    mask[start + r * p.cols + c] = (found[r] >> (4u * c)) & 1u;
                }
            }
        }
    }
}
