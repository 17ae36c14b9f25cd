// Matrix product (common/product.wgsl) for software drivers without subgroups: no workgroup memory, since there barriers cost more than
// repeated loads. Each invocation computes ROWS rows x 4 COLUMNS columns in registers, so that a load serves many multiplications.

//#import common/operands.wgsl

override LANES: u32 = 8u;
override ROWS: u32 = 16u; // ROWS * COLUMNS up to 32
override COLUMNS: u32 = 2u; // in vec4

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = place_of(wg.x + wg.y * nwg.x, ROWS, 4u * LANES * COLUMNS);
    if (place.slice < p.slices) {
        let row = place.row;
        let column = place.column + 4u * lane;
        let b_start = b_matrix(place.matrix);
        var at: array<u32, 16>;
        var s: array<vec4<f32>, 32>;
        for (var r = 0u; r < ROWS; r++) {
            // Rows beyond the end read the last one, and are not stored.
            at[r] = a_matrix(place.matrix) + min(row + r, p.m - 1u) * p.a_row;
        }
        for (var k = place.first; k < place.end; k++) {
            var y: array<vec4<f32>, 4>;
            for (var q = 0u; q < COLUMNS; q++) {
                y[q] = b_columns(b_start + k * p.b_row, column + 4u * LANES * q);
            }
            for (var r = 0u; r < ROWS; r++) {
                let x = load_a(at[r] + k * p.a_column);
                for (var q = 0u; q < COLUMNS; q++) { s[r * COLUMNS + q] += x * y[q]; }
            }
        }
        // A copy that is indexed by a variable, so that `s` is not, and stays in registers.
        var t: array<vec4<f32>, 32>;
        for (var i = 0u; i < ROWS * COLUMNS; i++) { t[i] = s[i]; }
        for (var i = 0u; i < min(ROWS, p.m - row) * COLUMNS; i++) {
            store4(place, row + i / COLUMNS, column + 4u * LANES * (i % COLUMNS), t[i]);
        }
    }
}
