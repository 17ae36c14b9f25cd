// Who sees whom: a mask as a list of words, which `engine/src/mask/words.rs` explains and reads in the same way. The file that
// imports this binds `mask: array<u32>` and has the sizes `batch`, `heads`, `queries` and `keys` in its
// parameters.

//#import common/visible.wgsl

// Whether the first term is a list of blocks, which common/steps.wgsl reads.
override HAS_LISTS: bool = false;

const EMPTY: u32 = 0u;
const PARTIAL: u32 = 1u;
const FULL: u32 = 2u;

const TERM: u32 = 8u;
const BLOCK: u32 = 32u;
const PADDING: u32 = 0xffffffffu;
// Bits of a tile up to which they are looked at one by one.
const FEW: u32 = 16u;

fn first_term() -> u32 {
    return select(1u, 1u + TERM, HAS_LISTS);
}

fn signed(i: u32) -> i32 {
    return bitcast<i32>(mask[i]);
}

fn mask_bit(row: u32, column: u32) -> bool {
    return ((mask[row + column / 32u] >> (column % 32u)) & 1u) == 1u;
}

// Whether query i sees key j.
fn mask_sees(batch: u32, head: u32, i: u32, j: u32) -> bool {
    return mask_sees_from(batch, head, i, i32(i), j);
}

// The same of query i that stands at another position among the keys.
fn mask_sees_from(batch: u32, head: u32, i: u32, position: i32, j: u32) -> bool {
    var seen = true;
    let end = 1u + TERM * mask[0];
    for (var term = first_term(); term < end && seen; term += TERM) {
        seen = term_sees(term, batch, head, i, position, j);
    }
    return seen;
}

fn term_sees(term: u32, batch: u32, head: u32, i: u32, position: i32, j: u32) -> bool {
    let a = mask[term + 1u];
    let b = mask[term + 2u];
    let c = mask[term + 3u];
    let d = mask[term + 4u];
    let e = mask[term + 5u];
    switch mask[term] {
        case 0u: { return j < mask[a + batch * b]; }
        case 1u: { return i < mask[a + batch * b]; }
        case 2u: {
            let distance = i32(j) - position;
            var seen = bitcast<i32>(a) <= distance && distance <= bitcast<i32>(b);
            if (c > 0u) {
                seen = seen || j < mask[c + batch * d];
            }
            return seen || position < i32(e);
        }
        case 3u: {
            let number = mask[a + batch * b + i];
            return number == mask[c + batch * d + j] && number != PADDING;
        }
        case 4u: {
            let pair = a + batch * b + head * c + 2u * j;
            var time = position + bitcast<i32>(e);
            if (d > 0u) {
                time = signed(d + batch * e + i);
            }
            return signed(pair) <= time && time < signed(pair + 1u);
        }
        case 7u: { return visible(u32(position + bitcast<i32>(a)), j, head, batch); }
        case 9u: {
            let list = key_list(term, batch, head, i);
            let at = lower_bound(list, j);
            return at < list.y && mask[min(at, list.y - 1u)] == j;
        }
        default: { return mask_bit(a + batch * b + head * c + i / e * d, j / mask[term + 6u]); }
    }
}

// What the tile of queries and keys (each from .x to before .y) is. Never empty or full where it is not.
fn mask_tile(batch: u32, head: u32, queries: vec2<u32>, keys: vec2<u32>) -> u32 {
    var tile = FULL;
    let end = 1u + TERM * mask[0];
    for (var term = first_term(); term < end && tile != EMPTY; term += TERM) {
        tile = min(tile, term_tile(term, batch, head, queries, keys));
    }
    return tile;
}

fn sort_of(empty: bool, full: bool) -> u32 {
    return select(select(PARTIAL, FULL, full), EMPTY, empty);
}

fn before(range: vec2<u32>, length: u32) -> u32 {
    return sort_of(range.x >= length, range.y <= length);
}

fn term_tile(term: u32, batch: u32, head: u32, queries: vec2<u32>, keys: vec2<u32>) -> u32 {
    let a = mask[term + 1u];
    let b = mask[term + 2u];
    let c = mask[term + 3u];
    let d = mask[term + 4u];
    let e = mask[term + 5u];
    switch mask[term] {
        case 0u: { return before(keys, mask[a + batch * b]); }
        case 1u: { return before(queries, mask[a + batch * b]); }
        case 2u: {
            let least = i32(keys.x) - i32(queries.y) + 1;
            let most = i32(keys.y) - 1 - i32(queries.x);
            let low = bitcast<i32>(a);
            let high = bitcast<i32>(b);
            var tile = sort_of(least > high || most < low, low <= least && most <= high);
            if (c > 0u) {
                tile = max(tile, before(keys, mask[c + batch * d]));
            }
            return max(tile, before(queries, e));
        }
        case 3u: {
            let q = least_and_most(a + batch * b + p.queries, queries);
            let k = least_and_most(c + batch * d + p.keys, keys);
            let one = q.x == q.y && k.x == k.y && q.x == k.x && q.x != PADDING;
            return sort_of(q.y < k.x || k.y < q.x, one);
        }
        case 4u: {
            var time = vec2<i32>(i32(queries.x), i32(queries.y) - 1) + bitcast<i32>(e);
            if (d > 0u) {
                time = signed_extremes(d + batch * e + p.queries, 2u, queries);
            }
            let pairs = a + batch * b + head * c + 2u * p.keys;
            let start = signed_extremes(pairs, 4u, keys);
            let stop = signed_extremes(pairs + 2u, 4u, keys);
            return sort_of(time.y < start.x || time.x >= stop.y, start.y <= time.x && time.y < stop.x);
        }
        case 7u: { return PARTIAL; }
        case 9u: {
            var count = 0u;
            for (var i = queries.x; i < queries.y; i++) {
                let list = key_list(term, batch, head, i);
                count += lower_bound(list, keys.y) - lower_bound(list, keys.x);
            }
            return sort_of(count == 0u, count == (queries.y - queries.x) * (keys.y - keys.x));
        }
        default: { return bits_tile(term, a + batch * b + head * c, queries, keys); }
    }
}

// The least and the largest number of the blocks that hold a range, from their summaries.
fn least_and_most(summary: u32, range: vec2<u32>) -> vec2<u32> {
    var extremes = vec2<u32>(PADDING, 0u);
    for (var block = range.x / BLOCK; block * BLOCK < range.y; block++) {
        let at = summary + 2u * block;
        extremes = vec2<u32>(min(extremes.x, mask[at]), max(extremes.y, mask[at + 1u]));
    }
    return extremes;
}

fn signed_extremes(summary: u32, width: u32, range: vec2<u32>) -> vec2<i32> {
    var extremes = vec2<i32>(0x7fffffff, -0x7fffffff);
    for (var block = range.x / BLOCK; block * BLOCK < range.y; block++) {
        let at = summary + width * block;
        extremes = vec2<i32>(min(extremes.x, signed(at)), max(extremes.y, signed(at + 1u)));
    }
    return extremes;
}

fn bits_tile(term: u32, matrix: u32, queries: vec2<u32>, keys: vec2<u32>) -> u32 {
    let step = mask[term + 4u];
    let rows = mask[term + 5u];
    let columns = mask[term + 6u];
    let count = select((p.queries - 1u) / rows + 1u, 1u, step == 0u);
    let words = ((p.keys - 1u) / columns + 32u) / 32u;
    let i = select(vec2<u32>(queries.x / rows, (queries.y - 1u) / rows + 1u), vec2<u32>(0u, 1u), step == 0u);
    let j = vec2<u32>(keys.x / columns, (keys.y - 1u) / columns + 1u);
    var none = true;
    var all = true;
    if ((i.y - i.x) * (j.y - j.x) <= FEW) {
        for (var row = i.x; row < i.y; row++) {
            for (var column = j.x; column < j.y; column++) {
                let seen = mask_bit(matrix + row * step, column);
                none = none && !seen;
                all = all && seen;
            }
        }
    } else {
        for (var row = i.x / BLOCK; row * BLOCK < i.y; row++) {
            for (var word = j.x / 32u; word * 32u < j.y; word++) {
                let kind = mask[matrix + (count + row) * words + word];
                none = none && kind == EMPTY;
                all = all && kind == FULL;
            }
        }
    }
    return sort_of(none, all);
}

// Where the list of keys of a query begins and ends: [KEYS, lists, k, batches, heads].
fn key_list(term: u32, batch: u32, head: u32, i: u32) -> vec2<u32> {
    let heads = mask[term + 4u];
    let matrix = batch * mask[term + 3u] / p.batch * heads + head * heads / p.heads;
    let start = mask[term + 1u] + (matrix * p.queries + i) * mask[term + 2u];
    return vec2<u32>(start, start + mask[term + 2u]);
}

// The first place in a list where a key is not below this one.
fn lower_bound(list: vec2<u32>, key: u32) -> u32 {
    var low = list.x;
    var high = list.y;
    while (low < high) {
        let middle = (low + high) / 2u;
        if (mask[middle] < key) {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low;
}

// Keys outside of which these queries see nothing.
fn mask_keys(batch: u32, queries: vec2<u32>) -> vec2<u32> {
    var start = 0;
    var stop = i32(p.keys);
    let end = 1u + TERM * mask[0];
    for (var term = first_term(); term < end; term += TERM) {
        let a = mask[term + 1u];
        let b = mask[term + 2u];
        if (mask[term] == 0u) {
            stop = min(stop, signed(a + batch * b));
        } else if (mask[term] == 2u && (mask[term + 3u] | mask[term + 5u]) == 0u) {
            start = max(start, i32(queries.x) + bitcast<i32>(a));
            stop = min(stop, i32(queries.y) + bitcast<i32>(b));
        }
    }
    return vec2<u32>(u32(start), u32(max(stop, 0)));
}

// Queries outside of which nobody sees these keys.
fn mask_queries(batch: u32, keys: vec2<u32>) -> vec2<u32> {
    var start = 0;
    var stop = i32(p.queries);
    let end = 1u + TERM * mask[0];
    for (var term = first_term(); term < end; term += TERM) {
        let a = mask[term + 1u];
        let b = mask[term + 2u];
        if (mask[term] == 1u) {
            stop = min(stop, signed(a + batch * b));
        } else if (mask[term] == 2u && (mask[term + 3u] | mask[term + 5u]) == 0u) {
            start = max(start, i32(keys.x) - bitcast<i32>(b));
            stop = min(stop, i32(keys.y) - bitcast<i32>(a));
        }
    }
    return vec2<u32>(u32(start), u32(max(stop, 0)));
}
