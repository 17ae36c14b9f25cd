// What a tile of rows goes over: steps of 32 columns, in ascending order. Rows are queries and columns keys (BY_QUERY), or the other way
// round (BY_KEY). Without lists, the steps cover what the mask may let through; with HAS_LISTS, the blocks that are listed.
//
// The lists are the first term of the words of common/mask.wgsl, [LISTS, by query, by key, batches, heads, query block, key block,
// whole], as engine/src/sparse/words.rs writes it. A list has three words for each row of blocks of each matrix, of which there are
// batches x heads: the place of its first entry, the number of its entries, and, for the n-th row, the row that is n-th by number of
// entries, so that the longest begin first. Entries follow, 2 column + 1 if nothing hides a pair of the block; `whole` says that no
// other mask does either.

//#import common/mask.wgsl

// With HAS_UNIONS, lists of keys (common/gather.wgsl) are gone over by tiles of 32 queries, and the step's columns are places in the union of
// their lists: from mask[8] on, for each tile of each matrix where its entries begin and how many there are; entries are a key and the
// queries of the tile that list it, as bits (engine/src/sparse/unions.rs).

override HAS_UNIONS: bool = false;

// Into how many parts the columns of a row of tiles, or the entries of a list, are divided, each computed by itself; the host puts their results
// together. One, but for drivers whose loops end after some turns.
override PARTS: u32 = 1u;

// The n-th part of what goes from .x to before .y.
fn part_of(range: vec2<u32>, n: u32) -> vec2<u32> {
    if (PARTS == 1u) {
        return range;
    }
    let size = (max(range.y, range.x) - range.x + PARTS - 1u) / PARTS;
    return min(range.x + size * vec2<u32>(n, n + 1u), range.yy);
}

// The first entry of the union of the tile at hand, and the last place.
var<private> union_entries: vec2<u32>;

// Kind of the first term.
const LISTS: u32 = 6u;

const BY_QUERY: u32 = 0u;
const BY_KEY: u32 = 1u;

// Rows, and rows of a block.
fn length_of(side: u32) -> u32 {
    return select(p.queries, p.keys, side == BY_KEY);
}

fn block_of(side: u32) -> u32 {
    return mask[6u + side];
}

// Which of the matrices with lists of their own is that of a head.
fn list_matrix(at: Head) -> u32 {
    return at.batch * mask[4] / p.batch * mask[5] + at.head * mask[5] / p.heads;
}

fn list_row(side: u32, at: Head, row: u32) -> u32 {
    let rows = (length_of(side) - 1u) / block_of(side) + 1u;
    return mask[2u + side] + 3u * (list_matrix(at) * rows + row);
}

// Tiles of `size` rows of a head.
fn tile_count(side: u32, size: u32) -> u32 {
    if (HAS_LISTS && !HAS_UNIONS) {
        let block = block_of(side);
        return ((length_of(side) - 1u) / block + 1u) * (block / size);
    }
    return (length_of(side) + size - 1u) / size;
}

// The first row of the n-th tile: with lists it may lie beyond the end.
fn tile_start(side: u32, at: Head, n: u32, size: u32) -> u32 {
    if (HAS_LISTS && !HAS_UNIONS) {
        let block = block_of(side);
        let tiles = block / size;
        return mask[list_row(side, at, n / tiles) + 2u] * block + n % tiles * size;
    }
    return n * size;
}

// The steps of rows from .x to before .y, from .x to before .y.
fn steps_of(side: u32, at: Head, rows: vec2<u32>) -> vec2<u32> {
    if (HAS_UNIONS) {
        return vec2<u32>(0u, mask[union_of(at, rows.x) + 1u] + 31u) / 32u;
    }
    if (HAS_LISTS) {
        if (rows.x >= length_of(side)) {
            return vec2<u32>();
        }
        let row = list_row(side, at, rows.x / block_of(side));
        return vec2<u32>(mask[row], mask[row] + mask[row + 1u]) * (block_of(1u - side) / 32u);
    }
    var range = vec2<u32>(0u, length_of(1u - side));
    if (KINDS != 0u) {
        let inside = min(rows, vec2<u32>(length_of(side)));
        if (side == BY_QUERY) {
            range = mask_keys(at.batch, inside, 0u);
        } else {
            range = mask_queries(at.batch, inside);
        }
    }
    return vec2<u32>(range.x / 32u, (range.y + 31u) / 32u);
}

// The first column of a step, and what its tile is.
fn step_of(side: u32, at: Head, rows: vec2<u32>, step: u32) -> vec2<u32> {
    var column = 32u * step;
    if (HAS_UNIONS) {
        return vec2<u32>(column, PARTIAL);
    }
    if (HAS_LISTS) {
        let block = block_of(1u - side);
        let entry = mask[mask[2u + side] + step / (block / 32u)];
        column = entry / 2u * block + step % (block / 32u) * 32u;
        if (column >= length_of(1u - side)) {
            return vec2<u32>(column, EMPTY);
        }
        if ((entry & mask[8]) == 1u) {
            return vec2<u32>(column, FULL);
        }
    }
    var tile = FULL;
    if (KINDS != 0u) {
        let across = min(rows, vec2<u32>(length_of(side)));
        let along = min(vec2<u32>(column, column + 32u), vec2<u32>(length_of(1u - side)));
        if (side == BY_QUERY) {
            tile = mask_tile(at.batch, at.head, across, along);
        } else {
            tile = mask_tile(at.batch, at.head, along, across);
        }
    }
    return vec2<u32>(column, tile);
}

// Where the union of a tile is described.
fn union_of(at: Head, query: u32) -> u32 {
    return mask[8] + 2u * (list_matrix(at) * ((p.queries + 31u) / 32u) + query / 32u);
}

// Every invocation calls this before it asks for the keys of a tile of queries.
fn open_union(at: Head, query: u32) {
    if (HAS_UNIONS) {
        let place = union_of(at, query);
        union_entries = vec2<u32>(mask[8] + mask[place], max(mask[place + 1u], 1u) - 1u);
    }
}

// The key of a column of a step; beyond the end of a union its last.
fn key_of(column: u32) -> u32 {
    if (HAS_UNIONS) { return mask[union_entries.x + 2u * min(column, union_entries.y)]; }
    return column;
}

fn keys4(column: u32) -> vec4<u32> {
    return vec4<u32>(key_of(column), key_of(column + 1u), key_of(column + 2u), key_of(column + 3u));
}

// Which queries of the tile list the key of a column.
fn listing(column: u32) -> u32 {
    return select(0u, mask[union_entries.x + 2u * min(column, union_entries.y) + 1u], column <= union_entries.y);
}

// Whether key j, or its block, is listed for query i. Lists of keys are those of common/gather.wgsl.
fn listed(at: Head, i: u32, j: u32) -> bool {
    if (!HAS_LISTS) {
        return true;
    }
    var low = mask[2] + (list_matrix(at) * p.queries + i) * mask[7];
    var end = low + mask[7];
    var shift = 0u;
    var column = j;
    if (mask[1] == LISTS) {
        let row = list_row(BY_QUERY, at, i / block_of(BY_QUERY));
        low = mask[2] + mask[row];
        end = low + mask[row + 1u];
        shift = 1u;
        column = j / block_of(BY_KEY);
    }
    var high = end;
    while (low < high) {
        let middle = (low + high) / 2u;
        if (mask[middle] >> shift < column) {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low < end && mask[min(low, end - 1u)] >> shift == column;
}
