// The gradient of the weight in conv/direct:
//
//   dweight[o, c, k] = sum over n, i of y[n, o, i] x[n, group of o + c, stride i + dilation k - padding]
//
// with the gradient of the result as y. LANES neighbouring invocations share an element of the weight: each adds up some of
// the places, and a tree adds up theirs.

//#import common/windows.wgsl
//#import common/rows.wgsl

override WORKGROUP: u32 = 256u;
override LANES: u32 = 32u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> dweight: array<f32>;

fn load_x(i: u32) -> f32 { return x[i]; }
fn load_y(i: u32) -> f32 { return y[i]; }

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let e = ((wg.x + wg.y * nwg.x) * WORKGROUP + local) / LANES;
    var sum = 0.0;
    if (e < p.count) {
        let line = e / p.kernel_columns;
        let tap_column = e - line * p.kernel_columns;
        let plane = line / p.kernel_rows;
        let tap_row = line - plane * p.kernel_rows;
        let output = plane / p.group_channels;
        let channel = output / p.group_outputs * p.group_channels + plane - output * p.group_channels;
        let places = p.images * p.out_rows * p.out_columns;
        for (var at = local % LANES; at < places; at += LANES) {
            let strip = at / p.out_columns;
            let column = at - strip * p.out_columns;
            let image = strip / p.out_rows;
            let row = strip - image * p.out_rows;
            let source = x_index(
                image,
                channel,
                row * p.stride_rows + tap_row * p.dilation_rows,
                column * p.stride_columns + tap_column * p.dilation_columns,
            );
            if (source != NOWHERE) { sum += load_x(source) * load_y(y_index(image, output, row, column)); }
        }
    }
    let total = row_sum(sum, local);
    if (e < p.count && local % LANES == 0u) { dweight[e] = total; }
}
