// What a tile of queries and keys is under a mask, by the words and names of common/mask.wgsl, which imports this.

// Bits of a tile up to which they are looked at one by one.
const FEW: u32 = 16u;

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
    let kind = mask[term];
    let a = mask[term + 1u];
    let b = mask[term + 2u];
    let c = mask[term + 3u];
    let d = mask[term + 4u];
    let e = mask[term + 5u];
    var tile = PARTIAL;
    if (is(kind, KEY_LENGTHS)) {
        tile = before(keys, mask[a + batch * b]);
    }
    if (is(kind, QUERY_LENGTHS)) {
        tile = before(queries, mask[a + batch * b]);
    }
    if (is(kind, BAND)) {
        let least = i32(keys.x) - i32(queries.y) + 1;
        let most = i32(keys.y) - 1 - i32(queries.x);
        let low = bitcast<i32>(a);
        let high = bitcast<i32>(b);
        tile = sort_of(least > high || most < low, low <= least && most <= high);
        tile = max(tile, before(queries, e));
        if (c > 0u) {
            tile = max(tile, before(keys, mask[c + batch * d]));
        }
    }
    if (is(kind, SEGMENTS)) {
        let q = least_and_most(a + batch * b + p.queries, queries);
        let k = least_and_most(c + batch * d + p.keys, keys);
        let one = q.x == q.y && k.x == k.y && q.x == k.x && q.x != PADDING;
        tile = sort_of(q.y < k.x || k.y < q.x, one);
    }
    if (is(kind, INTERVALS)) {
        var time = vec2<i32>(i32(queries.x), i32(queries.y) - 1) + bitcast<i32>(e);
        if (d > 0u) {
            time = signed_extremes(d + batch * e + p.queries, 2u, queries);
        }
        let pairs = a + batch * b + head * c + 2u * p.keys;
        let start = signed_extremes(pairs, 4u, keys);
        let stop = signed_extremes(pairs + 2u, 4u, keys);
        tile = sort_of(time.y < start.x || time.x >= stop.y, start.y <= time.x && time.y < stop.x);
    }
    if (is(kind, KEYS)) {
        var count = 0u;
        for (var i = queries.x; i < queries.y; i++) {
            let list = key_list(term, batch, head, i);
            count += lower_bound(list, keys.y) - lower_bound(list, keys.x);
        }
        tile = sort_of(count == 0u, count == (queries.y - queries.x) * (keys.y - keys.x));
    }
    if (is(kind, BITS)) {
        tile = bits_tile(term, a + batch * b + head * c, queries, keys);
    }
    return tile;
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
