// Attention by subgroups of 8 lanes, in registers: ROWS rows (16 or 32, as the kernel says) against 32 columns, four to a lane. Rows are queries
// and columns keys, or the other way round. Loops over the rows have constant bounds and short bodies, so that drivers unroll them: else
// the arrays would lie in memory.

alias Rows = array<vec4<f32>, ROWS>;

// Of row r and the lane's columns.
var<private> products: Rows;
// Bit r: whether row r and a column of the lane see each other, and whether dropout keeps their weight.
var<private> sights: vec4<u32>;
var<private> keeps: vec4<u32>;

fn clear(rows: ptr<private, Rows>) {
    for (var r = 0u; r < 16u; r++) {
        (*rows)[r] = vec4<f32>();
    }
    for (var r = 16u; r < ROWS; r++) {
        (*rows)[r] = vec4<f32>();
    }
}

// Adds products over four elements of the eight rows from `first` on, of which the lane brings row `first + lane`, and of its columns.
fn add_products(first: u32, row: vec4<f32>, columns: mat4x4<f32>) {
    for (var r = 0u; r < 8u; r++) {
        products[first + r] += subgroupShuffle(row, r) * columns;
    }
}

// The same of four elements of the queries `lane`, `lane + 8` .. and of four keys, which begin at these places. Loops take two such steps a
// turn: llvmpipe of Mesa 22 ends the loops of an invocation after 65,535 turns in all.
fn add_scores(q: vec4<u32>, k: vec4<u32>, d: u32) {
    let keys = mat4x4<f32>(load4_k(k.x + d), load4_k(k.y + d), load4_k(k.z + d), load4_k(k.w + d));
    add_products(0u, load4_q(q.x + d), keys);
    add_products(8u, load4_q(q.y + d), keys);
    if (ROWS > 16u) {
        add_products(16u, load4_q(q.z + d), keys);
        add_products(24u, load4_q(q.w + d), keys);
    }
}

// Adds to each row the vectors of the four columns of lane `four`, weighted by `products`. The lane has four elements of them.
fn add_weighted(sum: ptr<private, Rows>, four: u32, vectors: mat4x4<f32>) {
    for (var r = 0u; r < 16u; r++) {
        (*sum)[r] += vectors * subgroupShuffle(products[r], four);
    }
    for (var r = 16u; r < ROWS; r++) {
        (*sum)[r] += vectors * subgroupShuffle(products[r], four);
    }
}

// Notes who sees whom: ROWS queries and the lane's four columns, or with `by_key` ROWS keys and its four queries.
fn look(at: Head, row: u32, column: u32, by_key: bool, tile: u32) {
    sights = vec4<u32>(0xffffffffu);
    keeps = vec4<u32>();
    let rows = vec2<u32>(row, ROWS);
    let columns = vec2<u32>(column / 32u * 32u, 32u);
    let i_end = select(rows.x + rows.y, columns.x + columns.y, by_key);
    let j_end = select(columns.x + columns.y, rows.x + rows.y, by_key);
    if (tile == FULL && i_end <= p.queries && j_end <= p.keys && !HAS_DROPOUT) {
        return;
    }
    sights = vec4<u32>();
    if (by_key) {
        for (var n = 0u; n < ROWS; n++) {
            let four = n / 4u * 4u;
            let own = vec4<u32>(n % 4u) == vec4<u32>(0u, 1u, 2u, 3u);
            sights |= select(vec4<u32>(), vec4<u32>(bits4(seen4(at, column + n % 4u, row + four, tile)) << four), own);
            if (HAS_DROPOUT) {
                keeps |= select(vec4<u32>(), vec4<u32>(bits4(kept4(at, column + n % 4u, row + four)) << four), own);
            }
        }
        return;
    }
    // A bound that no compiler knows: unrolled, this would be the code of the mask for each row.
    let end = min(ROWS, p.queries - min(row, p.queries));
    for (var n = 0u; n < end; n++) {
        sights |= select(vec4<u32>(), vec4<u32>(1u << n), sees4(at, row + n, column, tile));
        if (HAS_DROPOUT) {
            keeps |= select(vec4<u32>(), vec4<u32>(1u << n), kept4(at, row + n, column));
        }
    }
}

fn has(bits: vec4<u32>, r: u32) -> vec4<bool> {
    return (bits & vec4<u32>(1u << r)) != vec4<u32>();
}

// What dropout multiplies a weight by.
fn factor(r: u32) -> vec4<f32> {
    if (HAS_DROPOUT) {
        return select(vec4<f32>(), vec4<f32>(p.keep), has(keeps, r));
    }
    return vec4<f32>(1.0);
}
