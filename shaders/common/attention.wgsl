// What all attention kernels share. For batch element b, query head h and its key head h / group,
//
//   s_ij = softcap tanh(score(scale q_i k_j) / softcap) + bias[b, h, i, j] + relative[h, j - i + queries - 1]
//          + c2p[b, h, i, bucket] + p2c[b, h, j, bucket],  if i sees j
//   w_ij = exp(s_ij) / (sum over j of exp(s_ij) + exp(sink_h)),  or 0
//
// q: [batch, heads, queries, 4 D4]; k: [batch, heads / group, keys, 4 D4]; v: [batch, heads / group, keys, 4 DV4], each with its
// strides, bound by common/attention_inputs.wgsl, or as halves by common/attention_units.wgsl. `aux` holds relative bias, sinks, c2p, p2c and bias, `mask` the words of common/mask.wgsl, and behind them the bucket of
// each j - i + queries - 1; where there are none, other memory is bound and not read. Scores are worked on by fours: of one query and four keys, or of four queries and one key.

override D4: u32 = 16u;
override DV4: u32 = 16u;
override HAS_SCORE: bool = false;
override HAS_SOFTCAP: bool = false;
override HAS_BIAS: bool = false;
override HAS_RELATIVE: bool = false;
override HAS_SINKS: bool = false;
override HAS_C2P: bool = false;
override HAS_P2C: bool = false;
override HAS_DROPOUT: bool = false;

// Hidden: what no real score comes near.
const NOTHING: f32 = -1e30;

struct Params {
    batch: u32,
    heads: u32,
    group: u32, // query heads of a key head
    queries: u32,
    keys: u32,
    // In units of vec4: first element, strides of batch, head, row.
    q_start: u32,
    q_batch: u32,
    q_head: u32,
    q_row: u32,
    k_start: u32,
    k_batch: u32,
    k_head: u32,
    k_row: u32,
    v_start: u32,
    v_batch: u32,
    v_head: u32,
    v_row: u32,
    bias_start: u32,
    bias_batch: u32,
    bias_head: u32,
    bias_row: u32,
    bias_column: u32,
    buckets: u32,
    buckets_start: u32,
    scale: f32,
    softcap: f32,
    seed_low: u32,
    seed_high: u32,
    draw_low: u32,
    draw_high: u32,
    threshold: u32, // of dropout; what is kept is scaled by keep
    keep: f32,
}

@group(0) @binding(3) var<storage, read> aux: array<f32>;
@group(0) @binding(4) var<storage, read> mask: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

//#import common/math.wgsl
//#import common/philox.wgsl
//#import common/score.wgsl
//#import common/steps.wgsl

fn load_aux(i: u32) -> f32 { return aux[i]; }

// Which head of which batch element.
struct Head {
    batch: u32,
    head: u32,
}

// Where rows begin. Rows beyond the end are the last one: they are read, and then hidden or not stored.
fn q_at(at: Head, i: u32) -> u32 {
    return p.q_start + at.batch * p.q_batch + at.head * p.q_head + min(i, p.queries - 1u) * p.q_row;
}

fn k_at(at: Head, j: u32) -> u32 {
    return p.k_start + at.batch * p.k_batch + at.head / p.group * p.k_head + min(j, p.keys - 1u) * p.k_row;
}

fn v_at(at: Head, j: u32) -> u32 {
    return p.v_start + at.batch * p.v_batch + at.head / p.group * p.v_head + min(j, p.keys - 1u) * p.v_row;
}

// Of the result and its gradient, [batch, queries, heads, 4 DV4].
fn o_at(at: Head, i: u32) -> u32 {
    return ((at.batch * p.queries + min(i, p.queries - 1u)) * p.heads + at.head) * DV4;
}

// Row of [batch, heads, queries].
fn row_of(at: Head, i: u32) -> u32 {
    return (at.batch * p.heads + at.head) * p.queries + min(i, p.queries - 1u);
}

fn seen(at: Head, i: u32, j: u32, tile: u32) -> bool {
    var inside = i < p.queries && j < p.keys;
    if (KINDS != 0u) {
        if (inside && tile != FULL) {
            inside = mask_sees(at.batch, at.head, i, j);
        }
    }
    return inside;
}

// Which of the keys from j to j + 3 are seen.
fn seen4(at: Head, i: u32, j: u32, tile: u32) -> vec4<bool> {
    var inside = vec4<bool>(i < p.queries) & (j + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.keys));
    if (KINDS != 0u) {
        if (inside.x && tile != FULL) {
            inside = inside & mask_sees4(at.batch, at.head, i, i32(i), j);
        }
    }
    return inside;
}

// Which of the four columns of a step from `column` on a query sees.
fn sees4(at: Head, i: u32, column: u32, tile: u32) -> vec4<bool> {
    if (!HAS_UNIONS) {
        return seen4(at, i, column, tile);
    }
    let listed = vec4<u32>(listing(column), listing(column + 1u), listing(column + 2u), listing(column + 3u));
    var inside = ((listed >> vec4<u32>(i & 31u)) & vec4<u32>(1u)) != vec4<u32>();
    if (KINDS != 0u) {
        for (var c = 0u; c < 4u; c++) {
            if (inside[c]) { inside[c] = mask_sees(at.batch, at.head, i, key_of(column + c)); }
        }
    }
    return inside;
}

struct Scores {
    value: vec4<f32>,
    slope: vec4<f32>, // by the product q_i k_j
}

fn scores(products: vec4<f32>, at: Head, i: vec4<u32>, j: vec4<u32>) -> Scores {
    var s = Scores(products * p.scale, vec4<f32>(p.scale));
    let row = min(i, vec4<u32>(p.queries - 1u));
    let column = min(j, vec4<u32>(p.keys - 1u));
    if (HAS_SCORE) {
        for (var n = 0u; n < 4u; n++) {
            let x = s.value[n];
            s.value[n] = score(x, row[n], column[n], at.head, at.batch);
            s.slope[n] *= score_grad(x, row[n], column[n], at.head, at.batch);
        }
    }
    if (HAS_SOFTCAP) {
        let t = tanh_(s.value / p.softcap);
        s = Scores(p.softcap * t, s.slope * (1.0 - t * t));
    }
    if (HAS_BIAS || HAS_RELATIVE || HAS_C2P || HAS_P2C) {
        if (HAS_BIAS) {
            let places = vec4<u32>(p.bias_start + at.batch * p.bias_batch + at.head * p.bias_head)
                + row * p.bias_row + column * p.bias_column;
            s.value += aux4(places);
        }
        if (HAS_RELATIVE) {
            s.value += aux4(at.head * (p.queries + p.keys - 1u) + column + (p.queries - 1u - row));
        }
        if (HAS_C2P || HAS_P2C) {
            let bucket = buckets4(p.buckets_start + column + (p.queries - 1u - row));
            let of_head = at.batch * p.heads + at.head;
            if (HAS_C2P) { s.value += aux4(c2p_start() + (of_head * p.queries + row) * p.buckets + bucket); }
            if (HAS_P2C) { s.value += aux4(p2c_start() + (of_head * p.keys + column) * p.buckets + bucket); }
        }
    }
    return s;
}

// Where the parts of aux begin, behind the relative bias.
fn sinks_start() -> u32 { return select(0u, p.heads * (p.queries + p.keys - 1u), HAS_RELATIVE); }
fn c2p_start() -> u32 { return sinks_start() + select(0u, p.heads, HAS_SINKS); }
fn p2c_start() -> u32 { return c2p_start() + select(0u, p.batch * p.heads * p.queries * p.buckets, HAS_C2P); }

fn buckets4(i: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(mask[i.x], mask[i.y], mask[i.z], mask[i.w]);
}

fn aux4(i: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(load_aux(i.x), load_aux(i.y), load_aux(i.z), load_aux(i.w));
}

// Bit n: the n-th of four.
fn bits4(which: vec4<bool>) -> u32 {
    let bits = select(vec4<u32>(), vec4<u32>(1u, 2u, 4u, 8u), which);
    return bits.x | bits.y | bits.z | bits.w;
}

// exp(x) for x <= 0, to a few units in the last place.
fn exp_of_negative(x: vec4<f32>) -> vec4<f32> {
    let bounded = max(x, vec4<f32>(-87.0));
    let n = round(bounded * LOG2_E);
    return (1.0 + expm1_near_zero(bounded - n * LN2_HI - n * LN2_LO)) * pow2(vec4<i32>(n));
}

// exp(s - most) for what is seen.
fn weights(s: vec4<f32>, most: vec4<f32>, is_seen: vec4<bool>) -> vec4<f32> {
    return select(vec4<f32>(0.0), exp_of_negative(min(s - most, vec4<f32>(0.0))), is_seen);
}

// Whether dropout keeps a weight, which it then scales by p.keep.
fn kept(at: Head, i: u32, j: u32) -> bool {
    let element = element_of(at, i, j);
    return words_of(element.xy)[element.z] >= p.threshold;
}

// The same of the four columns of a step from j on.
fn kept4(at: Head, i: u32, j: u32) -> vec4<bool> {
    if (HAS_UNIONS) {
        let keys = keys4(j);
        return vec4<bool>(kept(at, i, keys.x), kept(at, i, keys.y), kept(at, i, keys.z), kept(at, i, keys.w));
    }
    let first = element_of(at, i, j);
    var words = words_of(first.xy);
    if (first.z > 0u) {
        let more = words_of(element_of(at, i, j + 4u).xy);
        words = select(vec4<u32>(words.yzw, more.x), vec4<u32>(words.zw, more.xy), first.z > 1u);
        words = select(words, vec4<u32>(words.y, more.xyz), first.z > 2u);
    }
    return words >= vec4<u32>(p.threshold);
}

// Element e of the weights [batch, heads, queries, keys] has word e % 4 of block e / 4, counted in 64 bits.
fn element_of(at: Head, i: u32, j: u32) -> vec3<u32> {
    let start = wide_product(row_of(at, i), p.keys);
    let low = start.y + j;
    let high = start.x + select(0u, 1u, low < j);
    return vec3<u32>((low >> 2u) | (high << 30u), high >> 2u, low & 3u);
}

fn words_of(block: vec2<u32>) -> vec4<u32> {
    return philox(vec4<u32>(block, p.draw_low, p.draw_high), vec2<u32>(p.seed_low, p.seed_high));
}
