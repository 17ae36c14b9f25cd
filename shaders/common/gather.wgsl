// Attention by lists of keys, one for each query. They are the first term of the words of common/mask.wgsl, [KEYS, lists, starts,
// batches, heads, order, k, unions or 0], as engine/src/sparse/keys.rs writes it: lists [batches, heads, queries, k], ascending, PADDING behind; and by key
// j of matrix m, numbers e of entries of the lists, ascending: order[starts[m keys + j]..starts[m keys + j + 1]].

//#import common/attention_inputs.wgsl
//#import common/attention.wgsl

const WORKGROUP: u32 = 64u;

// Four keys of the list of a query, from the n-th on.
fn listed_keys(at: Head, i: u32, n: u32) -> vec4<u32> {
    let k = mask[7];
    let list = mask[2] + (list_matrix(at) * p.queries + i) * k;
    var keys = vec4<u32>(PADDING);
    for (var c = 0u; c < 4u; c++) {
        if (n + c < k) { keys[c] = mask[list + n + c]; }
    }
    return keys;
}

// The entries of a key, from .x to before .y.
fn entries_of(at: Head, j: u32) -> vec2<u32> {
    let starts = mask[3] + list_matrix(at) * p.keys + j;
    return vec2<u32>(mask[starts], mask[starts + 1u]);
}

// Four queries that list a key, from entry e to before `end`.
fn listing_queries(e: u32, end: u32) -> vec4<u32> {
    var queries = vec4<u32>(PADDING);
    for (var c = 0u; c < 4u; c++) {
        if (e + c < end) { queries[c] = mask[mask[6] + e + c] / mask[7] % p.queries; }
    }
    return queries;
}

// Which of four pairs are listed and seen.
fn pairs_seen(at: Head, i: vec4<u32>, j: vec4<u32>) -> vec4<bool> {
    var is_seen = vec4<bool>();
    for (var c = 0u; c < 4u; c++) { is_seen[c] = seen(at, i[c], j[c], PARTIAL); }
    return is_seen;
}

// What dropout multiplies the weights of four pairs by.
fn factor4(at: Head, i: vec4<u32>, j: vec4<u32>) -> vec4<f32> {
    if (!HAS_DROPOUT) {
        return vec4<f32>(1.0);
    }
    var factors = vec4<f32>();
    for (var c = 0u; c < 4u; c++) { factors[c] = select(0.0, p.keep, kept(at, i[c], j[c])); }
    return factors;
}
