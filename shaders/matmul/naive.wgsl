// Matrix product (common/product.wgsl), one invocation for four results in a row: the formula, for tests of the other kernels on devices
// where only a GPU can tell, and the first rung of the ladder of benchmarks.

//#import common/operands.wgsl

override LANES: u32 = 64u;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = place_of(wg.x + wg.y * nwg.x, 1u, 4u * LANES);
    if (at.slice < p.slices) {
        let column = at.column + 4u * local;
        let a_start = a_matrix(at.matrix) + at.row * p.a_row;
        let b_start = b_matrix(at.matrix);
        var sum = vec4<f32>();
        for (var k = at.first; k < at.end; k++) {
            sum += load_a(a_start + k * p.a_column) * b_columns(b_start + k * p.b_row, column);
        }
        store4(at, at.row, column, sum);
    }
}
