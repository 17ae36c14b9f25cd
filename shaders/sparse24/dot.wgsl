// y[t, r] = sum over c of x[t, c] w[r, c] + bias[r] with a packed matrix w (common/sparse24.wgsl) and few rows of x: bound by
// reading w once. x: [tokens, 32 blocks]; values: [rows, 16 blocks]; words: [rows, blocks]; y: [tokens, rows].
//
// A workgroup computes 4 rows of w for TOKENS rows of x. Each invocation takes UNITS units of every UNITS * LANES: neighbours read
// neighbouring values. It holds the columns of x in registers and picks those that a row keeps. A tree adds the parts in a fixed order.

//#import common/sparse24.wgsl

override LANES: u32 = 64u; // a power of two
override UNITS: u32 = 1u; // 1, 2 or 4, so that they share a word of positions
override TOKENS: u32 = 4u; // up to 8
override PARTS: u32 = TOKENS * LANES;
override STORE: u32 = 1u; // 4 or 2 where rows are a multiple
override HAS_BIAS: bool = false;

struct Params {
    tokens: u32,
    rows: u32,
    blocks: u32,
    x_offset: u32, // in fours
    values_offset: u32, // in fours
    words_offset: u32,
    bias_offset: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> values: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> words: array<u32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> parts: array<vec4<f32>, PARTS>;

fn load4_x(i: u32) -> vec4<f32> { return x[i]; }
fn load4_values(i: u32) -> vec4<f32> { return values[i]; }
fn load_bias(i: u32) -> f32 { return bias[i]; }
fn store_y(i: u32, v: f32) { y[i >> 2u][i & 3u] = v; }
fn store2_y(i: u32, v: vec2<f32>) { y[i >> 1u][2u * (i & 1u)] = v.x; y[i >> 1u][2u * (i & 1u) + 1u] = v.y; }
fn store4_y(i: u32, v: vec4<f32>) { y[i] = v; }

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let fours = (p.rows + 3u) / 4u;
    let row = group % fours * 4u;
    let token = group / fours * TOKENS;
    if (token < p.tokens) {
        // Rows beyond the end read the last one, and are not stored.
        let rows = min(vec4<u32>(row) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.rows - 1u));
        let at_words = vec4<u32>(p.words_offset) + rows * p.blocks;
        let starts = vec4<u32>(p.values_offset) + rows * p.blocks * 4u;
        let of_block = 4u / UNITS;
        var s: array<vec4<f32>, 8>;
        for (var i = local; i < p.blocks * of_block; i += LANES) {
            let block = i / of_block;
            let m = vec4<u32>(words[at_words.x + block], words[at_words.y + block], words[at_words.z + block], words[at_words.w + block]);
            for (var n = 0u; n < UNITS; n++) {
                let unit = i * UNITS + n;
                let byte = m >> vec4<u32>(8u * (unit & 3u));
                let v0 = load4_values(starts.x + unit);
                let v1 = load4_values(starts.y + unit);
                let v2 = load4_values(starts.z + unit);
                let v3 = load4_values(starts.w + unit);
                for (var t = 0u; t < TOKENS; t++) {
                    let at = p.x_offset + (min(token + t, p.tokens - 1u) * p.blocks * 4u + unit) * 2u;
                    let a = load4_x(at);
                    let b = load4_x(at + 1u);
                    s[t] += vec4<f32>(
                        dot(v0, kept_of_unit(a, b, byte.x)),
                        dot(v1, kept_of_unit(a, b, byte.y)),
                        dot(v2, kept_of_unit(a, b, byte.z)),
                        dot(v3, kept_of_unit(a, b, byte.w)),
                    );
                }
            }
        }
        for (var t = 0u; t < TOKENS; t++) { parts[t * LANES + local] = s[t]; }
        for (var half = LANES / 2u; half > 0u; half /= 2u) {
            workgroupBarrier();
            if (local < half) {
                for (var t = 0u; t < TOKENS; t++) { parts[t * LANES + local] += parts[t * LANES + local + half]; }
            }
        }
        workgroupBarrier();
        for (var t = local; t < min(TOKENS, p.tokens - token); t += LANES) {
            var v = parts[t * LANES];
            if (HAS_BIAS) {
                let i = vec4<u32>(p.bias_offset) + rows;
                v += vec4<f32>(load_bias(i.x), load_bias(i.y), load_bias(i.z), load_bias(i.w));
            }
            let at = (token + t) * p.rows + row;
            let count = min(p.rows - row, 4u);
            if (STORE == 4u) {
                store4_y(at >> 2u, v);
            } else if (STORE == 2u) {
                store2_y(at >> 1u, v.xy);
                if (count > 2u) { store2_y((at >> 1u) + 1u, v.zw); }
            } else {
                for (var r = 0u; r < count; r++) { store_y(at + r, v[r]); }
            }
        }
    }
}
