// Matrix product (common/product.wgsl) for software drivers, which run the invocations of a subgroup as the lanes of one vector of the CPU.
//
// There a load costs as much as tens of multiplications, since each lane is loaded on its own, while broadcasting a lane is one
// instruction. So an invocation computes ROWS rows x 4 COLUMNS columns in registers; its subgroup, which is the whole workgroup,
// takes LANES k at once, of which each lane loads one k of the ROWS rows of a, and all lanes get them by broadcasts. For each k a
// lane loads its columns of b. The drivers unroll all loops but that over k.

//#import common/operands.wgsl

override LANES: u32 = 8u; // 4 or 8, the size of a subgroup
override ROWS: u32 = 16u; // ROWS * COLUMNS up to 16
override COLUMNS: u32 = 1u; // in vec4

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let place = place_of(wg.x + wg.y * nwg.x, ROWS, 4u * LANES * COLUMNS);
    if (place.slice < p.slices) {
        let row = place.row;
        let column = place.column + 4u * lane;
        let b_start = b_matrix(place.matrix);
        var at: array<u32, 16>;
        var x: array<f32, 16>;
        var s: array<vec4<f32>, 16>;
        for (var r = 0u; r < ROWS; r++) {
            // Rows beyond the end read the last one, and are not stored.
            at[r] = a_matrix(place.matrix) + min(row + r, p.m - 1u) * p.a_row;
        }
        var k = place.first;
        for (; k + LANES <= place.end; k += LANES) {
            let ka = (k + lane) * p.a_column;
            let kb = b_start + k * p.b_row;
            for (var r = 0u; r < ROWS; r++) {
                x[r] = load_a(at[r] + ka);
            }
            // The number of the lane must be a constant.
            for (var q = 0u; q < COLUMNS; q++) {
                let y = b_columns(kb, column + 4u * LANES * q);
                for (var r = 0u; r < ROWS; r++) { s[r * COLUMNS + q] += subgroupBroadcast(x[r], 0u) * y; }
            }
            for (var q = 0u; q < COLUMNS; q++) {
                let y = b_columns(kb + p.b_row, column + 4u * LANES * q);
                for (var r = 0u; r < ROWS; r++) { s[r * COLUMNS + q] += subgroupBroadcast(x[r], 1u) * y; }
            }
            for (var q = 0u; q < COLUMNS; q++) {
                let y = b_columns(kb + 2u * p.b_row, column + 4u * LANES * q);
                for (var r = 0u; r < ROWS; r++) { s[r * COLUMNS + q] += subgroupBroadcast(x[r], 2u) * y; }
            }
            for (var q = 0u; q < COLUMNS; q++) {
                let y = b_columns(kb + 3u * p.b_row, column + 4u * LANES * q);
                for (var r = 0u; r < ROWS; r++) { s[r * COLUMNS + q] += subgroupBroadcast(x[r], 3u) * y; }
            }
            if (LANES == 8u) {
                for (var q = 0u; q < COLUMNS; q++) {
                    let y = b_columns(kb + 4u * p.b_row, column + 4u * LANES * q);
                    for (var r = 0u; r < ROWS; r++) { s[r * COLUMNS + q] += subgroupBroadcast(x[r], 4u) * y; }
                }
                for (var q = 0u; q < COLUMNS; q++) {
                    let y = b_columns(kb + 5u * p.b_row, column + 4u * LANES * q);
                    for (var r = 0u; r < ROWS; r++) { s[r * COLUMNS + q] += subgroupBroadcast(x[r], 5u) * y; }
                }
                for (var q = 0u; q < COLUMNS; q++) {
                    let y = b_columns(kb + 6u * p.b_row, column + 4u * LANES * q);
                    for (var r = 0u; r < ROWS; r++) { s[r * COLUMNS + q] += subgroupBroadcast(x[r], 6u) * y; }
                }
                for (var q = 0u; q < COLUMNS; q++) {
                    let y = b_columns(kb + 7u * p.b_row, column + 4u * LANES * q);
                    for (var r = 0u; r < ROWS; r++) { s[r * COLUMNS + q] += subgroupBroadcast(x[r], 7u) * y; }
                }
            }
        }
        for (; k < place.end; k++) {
            for (var q = 0u; q < COLUMNS; q++) {
                let y = b_columns(b_start + k * p.b_row, column + 4u * LANES * q);
                for (var r = 0u; r < ROWS; r++) { s[r * COLUMNS + q] += load_a(at[r] + k * p.a_column) * y; }
            }
        }
        // A copy that is indexed by a variable, so that `s` is not, and stays in registers.
        var t: array<vec4<f32>, 16>;
        for (var i = 0u; i < ROWS * COLUMNS; i++) { t[i] = s[i]; }
        for (var i = 0u; i < min(ROWS, p.m - row) * COLUMNS; i++) {
            store4(place, row + i / COLUMNS, column + 4u * LANES * (i % COLUMNS), t[i]);
        }
    }
}
