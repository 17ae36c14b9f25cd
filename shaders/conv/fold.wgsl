// The adjoint of conv/unfold: what windows hold goes back to where it was read, and is added up.
//
//   x[n, c, i] = sum over taps k and places o with stride o + dilation k - padding = i of y[n, o, c, k]
//
// Each invocation makes four neighbouring elements of x, and reads what belongs to them in the order of the taps: no atomic
// additions, the same sums each time. x and y are dense.

//#import common/windows.wgsl

const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;

fn load_y(i: u32) -> f32 { return y[i]; }
fn store4_x(i: u32, v: vec4<f32>) { x[i] = v; }

fn element(e: u32) -> f32 {
    let line = e / p.columns;
    let column = e - line * p.columns;
    let plane = line / p.rows;
    let row = line - plane * p.rows;
    let image = plane / p.channels;
    let channel = plane - image * p.channels;
    var sum = 0.0;
    for (var i = 0u; i < p.kernel_rows; i++) {
        let r = out_row(row, i);
        if (r == NOWHERE) { continue; }
        for (var j = 0u; j < p.kernel_columns; j++) {
            let c = out_column(column, j);
            if (c == NOWHERE) { continue; }
            let place = (image * p.out_rows + r) * p.out_columns + c;
            sum += load_y(p.y_offset + ((place * p.channels + channel) * p.kernel_rows + i) * p.kernel_columns + j);
        }
    }
    return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    if (4u * i < p.count) {
        var v = vec4<f32>();
        for (var lane = 0u; lane < 4u; lane++) {
            if (4u * i + lane < p.count) { v[lane] = element(4u * i + lane); }
        }
        store4_x(i, v);
    }
}
