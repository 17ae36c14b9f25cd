// Who sees whom: a mask as a list of words, which `engine/src/mask/words.rs` explains and reads in the same way. The file that
// imports this binds `mask: array<u32>` and has the sizes `batch`, `heads`, `queries` and `keys` in its
// parameters.

//#import common/visible.wgsl
//#import common/mask_tile.wgsl

// Whether the first term is a list of blocks, which common/steps.wgsl reads.
override HAS_LISTS: bool = false;

// The kinds of the terms behind it, each a bit: code for the others falls away. Software drivers run every branch.
override KINDS: u32 = 0u;

const KEY_LENGTHS: u32 = 0u;
const QUERY_LENGTHS: u32 = 1u;
const BAND: u32 = 2u;
const SEGMENTS: u32 = 3u;
const INTERVALS: u32 = 4u;
const BITS: u32 = 5u;
const CODE: u32 = 7u;
const KEYS: u32 = 9u;

const EMPTY: u32 = 0u;
const PARTIAL: u32 = 1u;
const FULL: u32 = 2u;

const TERM: u32 = 8u;
const BLOCK: u32 = 32u;
const PADDING: u32 = 0xffffffffu;

fn first_term() -> u32 {
    return select(1u, 1u + TERM, HAS_LISTS);
}

fn is(kind: u32, which: u32) -> bool {
    return (KINDS & (1u << which)) != 0u && kind == which;
}

fn signed(i: u32) -> i32 {
    return bitcast<i32>(mask[i]);
}

fn mask_bit(row: u32, column: u32) -> bool {
    return ((mask[row + column / 32u] >> (column % 32u)) & 1u) == 1u;
}

// Whether query i sees key j.
fn mask_sees(batch: u32, head: u32, i: u32, j: u32) -> bool {
    return mask_sees4(batch, head, i, i32(i), j).x;
}

// Which of the keys from j to j + 3 query i sees, which stands at a position among the keys. Of keys beyond the end it says nothing.
fn mask_sees4(batch: u32, head: u32, i: u32, position: i32, j: u32) -> vec4<bool> {
    var seen = vec4<bool>(true);
    let end = 1u + TERM * mask[0];
    for (var term = first_term(); term < end && any(seen); term += TERM) {
        seen = seen & term_sees4(term, batch, head, i, position, j);
    }
    return seen;
}

fn term_sees4(term: u32, batch: u32, head: u32, i: u32, position: i32, first: u32) -> vec4<bool> {
    let kind = mask[term];
    let a = mask[term + 1u];
    let b = mask[term + 2u];
    let c = mask[term + 3u];
    let d = mask[term + 4u];
    let e = mask[term + 5u];
    let j = min(first + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.keys - 1u));
    var seen = vec4<bool>();
    if (is(kind, KEY_LENGTHS)) {
        seen = j < vec4<u32>(mask[a + batch * b]);
    }
    if (is(kind, QUERY_LENGTHS)) {
        seen = vec4<bool>(i < mask[a + batch * b]);
    }
    if (is(kind, BAND)) {
        let distance = vec4<i32>(j) - position;
        seen = (distance >= vec4<i32>(bitcast<i32>(a))) & (distance <= vec4<i32>(bitcast<i32>(b)));
        seen = seen | vec4<bool>(position < i32(e));
        if (c > 0u) {
            seen = seen | (j < vec4<u32>(mask[c + batch * d]));
        }
    }
    if (is(kind, SEGMENTS)) {
        let number = mask[a + batch * b + i];
        seen = (words4(c + batch * d + j) == vec4<u32>(number)) & vec4<bool>(number != PADDING);
    }
    if (is(kind, INTERVALS)) {
        let pairs = a + batch * b + head * c + 2u * j;
        var time = position + bitcast<i32>(e);
        if (d > 0u) {
            time = signed(d + batch * e + i);
        }
        let start = bitcast<vec4<i32>>(words4(pairs));
        let stop = bitcast<vec4<i32>>(words4(pairs + 1u));
        seen = (start <= vec4<i32>(time)) & (vec4<i32>(time) < stop);
    }
    if (is(kind, CODE)) {
        let q = u32(position + bitcast<i32>(a));
        seen = vec4<bool>(
            visible(q, j.x, head, batch),
            visible(q, j.y, head, batch),
            visible(q, j.z, head, batch),
            visible(q, j.w, head, batch),
        );
    }
    if (is(kind, KEYS)) {
        let list = key_list(term, batch, head, i);
        let at = lower_bound(list, first) + vec4<u32>(0u, 1u, 2u, 3u);
        let place = select(vec4<u32>(PADDING), words4(min(at, vec4<u32>(list.y - 1u))), at < vec4<u32>(list.y)) - first;
        seen = vec4<bool>(
            any(place == vec4<u32>(0u)),
            any(place == vec4<u32>(1u)),
            any(place == vec4<u32>(2u)),
            any(place == vec4<u32>(3u)),
        );
    }
    if (is(kind, BITS)) {
        let column = j / mask[term + 6u];
        let words = words4(a + batch * b + head * c + i / e * d + column / 32u);
        seen = ((words >> (column % 32u)) & vec4<u32>(1u)) == vec4<u32>(1u);
    }
    return seen;
}

fn words4(i: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(mask[i.x], mask[i.y], mask[i.z], mask[i.w]);
}

// Where the list of keys of a query begins and ends: [KEYS, lists, k, batches, heads].
fn key_list(term: u32, batch: u32, head: u32, i: u32) -> vec2<u32> {
    let heads = mask[term + 4u];
    let matrix = batch * mask[term + 3u] / p.batch * heads + head * heads / p.heads;
    let start = mask[term + 1u] + (matrix * p.queries + i) * mask[term + 2u];
    return vec2<u32>(start, start + mask[term + 2u]);
}

// The first place in a list where a key is not below this one. Four halvings a turn: llvmpipe of Mesa 22 ends the loops of an
// invocation after 65,535 turns in all.
fn lower_bound(list: vec2<u32>, key: u32) -> u32 {
    var left = list;
    while (left.x < left.y) {
        left = halved(halved(halved(halved(left, key), key), key), key);
    }
    return left.x;
}

fn halved(list: vec2<u32>, key: u32) -> vec2<u32> {
    let middle = (list.x + list.y) / 2u;
    let below = list.x < list.y && mask[middle] < key;
    return select(vec2<u32>(list.x, middle), vec2<u32>(middle + 1u, list.y), below);
}

// Keys outside of which these queries see nothing, the first of all queries being at a position.
fn mask_keys(batch: u32, queries: vec2<u32>, position: u32) -> vec2<u32> {
    var start = 0;
    var stop = i32(p.keys);
    let end = 1u + TERM * mask[0];
    for (var term = first_term(); term < end; term += TERM) {
        let a = mask[term + 1u];
        let b = mask[term + 2u];
        if (is(mask[term], KEY_LENGTHS)) {
            stop = min(stop, signed(a + batch * b));
        } else if (is(mask[term], BAND) && (mask[term + 3u] | mask[term + 5u]) == 0u) {
            start = max(start, i32(position + queries.x) + bitcast<i32>(a));
            stop = min(stop, i32(position + queries.y) + bitcast<i32>(b));
        } else if (is(mask[term], SEGMENTS)) {
            let numbers = least_and_most(a + batch * b + p.queries, queries);
            let inside = sharing(mask[term + 3u] + batch * mask[term + 4u] + p.keys, p.keys, numbers);
            start = max(start, inside.x);
            stop = min(stop, inside.y);
        }
    }
    return vec2<u32>(u32(start), u32(max(stop, 0)));
}

// The range of `length` outside of which no block has segments with numbers between the least and the most, by the summary of its blocks.
fn sharing(summary: u32, length: u32, numbers: vec2<u32>) -> vec2<i32> {
    var first = 0u;
    var end = (length + BLOCK - 1u) / BLOCK;
    while (first < end && apart(summary + 2u * first, numbers)) { first++; }
    while (first < end && apart(summary + 2u * (end - 1u), numbers)) { end--; }
    return vec2<i32>(i32(first * BLOCK), i32(min(end * BLOCK, length)));
}

fn apart(summary: u32, numbers: vec2<u32>) -> bool {
    return mask[summary + 1u] < numbers.x || numbers.y < mask[summary];
}

// Queries outside of which nobody sees these keys.
fn mask_queries(batch: u32, keys: vec2<u32>) -> vec2<u32> {
    var start = 0;
    var stop = i32(p.queries);
    let end = 1u + TERM * mask[0];
    for (var term = first_term(); term < end; term += TERM) {
        let a = mask[term + 1u];
        let b = mask[term + 2u];
        if (is(mask[term], QUERY_LENGTHS)) {
            stop = min(stop, signed(a + batch * b));
        } else if (is(mask[term], BAND) && (mask[term + 3u] | mask[term + 5u]) == 0u) {
            start = max(start, i32(keys.x) - bitcast<i32>(b));
            stop = min(stop, i32(keys.y) - bitcast<i32>(a));
        } else if (is(mask[term], SEGMENTS)) {
            let numbers = least_and_most(mask[term + 3u] + batch * mask[term + 4u] + p.keys, keys);
            let inside = sharing(a + batch * b + p.queries, p.queries, numbers);
            start = max(start, inside.x);
            stop = min(stop, inside.y);
        }
    }
    return vec2<u32>(u32(start), u32(max(stop, 0)));
}
