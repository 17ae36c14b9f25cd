// Attention on matrix units (common/fragments.wgsl) by workgroups of 128 invocations: 64 rows against 32 columns, 16 rows to a subgroup. Between
// the products an invocation, `local` of 8 x 16, works on 4 x 4 scores, rows from 4 local.y on and columns from 4 local.x on, which are rows of
// its subgroup.
// Operands are halves, and are bound as such. The file that imports this has
//
//   fn element4(which: u32, at: Head, row: u32, d: u32) -> vec4<f16>

//#import common/sights.wgsl

@group(0) @binding(0) var<storage, read> q: array<vec4<f16>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<f16>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<f16>>;

const ROWS: u32 = 64u;
const COLUMNS: u32 = 32u;

// Fours of elements of the widest operand, of which there are at most 32.
override WIDTH: u32 = 16u;
// Fours of halves from one line of rows or columns to the next: whole sixteens, and two against bank conflicts.
override PITCH: u32 = (WIDTH + 15u) / 16u * 16u + 2u;

// Rows of an operand lie from 0 on at first, later columns of one from 0 on, and of another from FAR on, of which LAST are the second sixteen.
override FAR: u32 = COLUMNS * PITCH;
override LAST: u32 = FAR + 16u * PITCH;
// Weights by rows, as halves, and before them scores, as floats.
override WEIGHTS: u32 = ROWS * PITCH;
override HALVES: u32 = WEIGHTS + ROWS * WEIGHT_PITCH;
const WEIGHT_PITCH: u32 = 10u;
const SCORE_PITCH: u32 = 9u;

var<workgroup> halves: array<vec4<f16>, HALVES>;
var<workgroup> floats: array<vec4<f32>, 576>;
var<workgroup> shared_steps: vec2<u32>;
var<workgroup> shared_step: vec2<u32>;

// Brings so many rows of a tensor from `row` on, the fours from `first` on: with zeros beyond the last of `fours`, up to the pitch.
fn stage(which: u32, at: Head, row: u32, count: u32, first: u32, fours: u32, to: u32, cell: u32) {
    let width = PITCH - 2u;
    for (var slot = cell; slot < count * width; slot += 128u) {
        let line = slot / width;
        let d = slot % width;
        var x = vec4<f16>();
        if (first + d < fours) { x = element4(which, at, row + line, first + d); }
        halves[to + line * PITCH + d] = x;
    }
}

// The n-th sixteen columns of a subgroup's rows, which lie from 0 on. What lies beyond the widest operand is a part of the line, and not used.
fn own_rows(own: u32, n: u32) -> Left {
    return left_of_rows(own * PITCH + min(4u * n, PITCH - 6u), PITCH);
}

// The products of the sixteen rows that a subgroup has in fragments and the sixteen columns whose lines lie from `at` on.
fn across(a0: Left, a1: Left, a2: Left, a3: Left, a4: Left, a5: Left, a6: Left, a7: Left, at: u32) -> Sums {
    var sums = Sums();
    sums = multiply_add(a0, right_of_columns(at, PITCH), sums);
    if (WIDTH > 4u) { sums = multiply_add(a1, right_of_columns(at + 4u, PITCH), sums); }
    if (WIDTH > 8u) { sums = multiply_add(a2, right_of_columns(at + 8u, PITCH), sums); }
    if (WIDTH > 12u) { sums = multiply_add(a3, right_of_columns(at + 12u, PITCH), sums); }
    if (WIDTH > 16u) { sums = multiply_add(a4, right_of_columns(at + 16u, PITCH), sums); }
    if (WIDTH > 20u) { sums = multiply_add(a5, right_of_columns(at + 20u, PITCH), sums); }
    if (WIDTH > 24u) { sums = multiply_add(a6, right_of_columns(at + 24u, PITCH), sums); }
    if (WIDTH > 28u) { sums = multiply_add(a7, right_of_columns(at + 28u, PITCH), sums); }
    return sums;
}

// To `sums`, the lines from `at` on weighted by the first sixteen columns of weights, and the sixteen behind them by the others.
fn add_weighted(sums: Sums, near: Left, far: Left, at: u32) -> Sums {
    let half = multiply_add(near, right_of_rows(at, PITCH), sums);
    return multiply_add(far, right_of_rows(at + 16u * PITCH, PITCH), half);
}

// Two fragments of a subgroup beside each other, as 32 columns of its rows.
fn put_pair(left: Sums, right: Sums, own: u32) {
    put(left, own * SCORE_PITCH, SCORE_PITCH);
    put(right, own * SCORE_PITCH + 4u, SCORE_PITCH);
}

// The invocation's products, which were put to `floats`.
fn products_of(local: vec2<u32>) -> mat4x4<f32> {
    let first = 4u * local.y * SCORE_PITCH + local.x;
    return mat4x4<f32>(
        floats[first],
        floats[first + SCORE_PITCH],
        floats[first + 2u * SCORE_PITCH],
        floats[first + 3u * SCORE_PITCH],
    );
}

// The invocation's weights, rounded to halves.
fn put_weights(weights: mat4x4<f32>, local: vec2<u32>) {
    for (var r = 0u; r < 4u; r++) {
        halves[WEIGHTS + (4u * local.y + r) * WEIGHT_PITCH + local.x] = vec4<f16>(weights[r]);
    }
}

// The largest number of each of four rows, among the invocations of these rows, which are eight neighbours of a subgroup.
fn highest_of(x: vec4<f32>) -> vec4<f32> {
    var highest = max(x, subgroupShuffleXor(x, 1u));
    highest = max(highest, subgroupShuffleXor(highest, 2u));
    return max(highest, subgroupShuffleXor(highest, 4u));
}

fn sum_of(x: vec4<f32>) -> vec4<f32> {
    var sum = x + subgroupShuffleXor(x, 1u);
    sum += subgroupShuffleXor(sum, 2u);
    return sum + subgroupShuffleXor(sum, 4u);
}
