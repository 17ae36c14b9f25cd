// Views of up to four dimensions, read four neighbouring elements at a time. The file that imports this has in Params the merged
// `shape`, outermost first (unused ones are 1), and its `magic` and `shifts` (8 bits for each), by which it divides; and `count`.

//#import common/wide.wgsl

override DEEP: bool = false; // more than the last two dimensions are in use

// How an operand is read.
const DENSE = 0u; // as it lies; its offset is in fours
const SCALAR = 1u; // one element for all
const FOUR = 2u; // neighbours in memory, aligned; rows are a multiple of four long
const SPLAT = 3u; // one element for a whole row, which is a multiple of four long
const GATHER = 4u; // each by itself

// The coordinates of element e.
fn coordinates(e: u32) -> vec4<u32> {
    let rows = quotient(e, p.magic.w, p.shifts >> 24u);
    let column = e - rows * p.shape.w;
    if (!DEEP) {
        return vec4<u32>(0u, 0u, rows, column);
    }
    let planes = quotient(rows, p.magic.z, (p.shifts >> 16u) & 31u);
    let blocks = quotient(planes, p.magic.y, (p.shifts >> 8u) & 31u);
    return vec4<u32>(blocks, planes - blocks * p.shape.y, rows - planes * p.shape.z, column);
}

// The coordinates of element e, where `c` are those of the one before it. Past the end, the last one again.
fn following(c: vec4<u32>, e: u32) -> vec4<u32> {
    var next = vec4<u32>(c.xyz, c.w + 1u);
    if (next.w == p.shape.w) {
        next.w = 0u;
        next.z += 1u;
        if (DEEP && next.z == p.shape.z) {
            next.z = 0u;
            next.y += 1u;
            if (next.y == p.shape.y) {
                next.y = 0u;
                next.x += 1u;
            }
        }
    }
    return select(c, next, e < p.count);
}

fn index_at(c: vec4<u32>, strides: vec4<u32>) -> u32 {
    let index = c.z * strides.z + c.w * strides.w;
    if (!DEEP) {
        return index;
    }
    return index + c.x * strides.x + c.y * strides.y;
}

// Where the first element of the i-th four is.
fn strided_index(i: u32, strides: vec4<u32>) -> u32 {
    return index_at(coordinates(4u * i), strides);
}

// Where the four elements are.
fn strided_four(i: u32, strides: vec4<u32>) -> vec4<u32> {
    let a = coordinates(4u * i);
    let b = following(a, 4u * i + 1u);
    let c = following(b, 4u * i + 2u);
    let d = following(c, 4u * i + 3u);
    return vec4<u32>(index_at(a, strides), index_at(b, strides), index_at(c, strides), index_at(d, strides));
}
