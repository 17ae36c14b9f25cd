// The gradient of x in conv/direct, which is also a transposed convolution of y:
//
//   x[n, c, i] = sum over o, k of weight[o, c - group, k] y[n, o, j]   with stride j + dilation k - padding = i
//
// for the outputs o of the group of c. An invocation makes four neighbours of the dense x, each sum in one order.

//#import common/windows.wgsl

const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<vec4<f32>>;

fn load_y(i: u32) -> f32 { return y[i]; }
fn load_weight(i: u32) -> f32 { return weight[i]; }
fn store4_x(i: u32, v: vec4<f32>) { x[i] = v; }

fn element(e: u32) -> f32 {
    let line = e / p.columns;
    let column = e - line * p.columns;
    let plane = line / p.rows;
    let row = line - plane * p.rows;
    let image = plane / p.channels;
    let channel = plane - image * p.channels;
    let group = channel / p.group_channels;
    let within = channel - group * p.group_channels;
    var sum = 0.0;
    for (var i = 0u; i < p.kernel_rows; i++) {
        let r = out_row(row, i);
        if (r == NOWHERE) { continue; }
        for (var j = 0u; j < p.kernel_columns; j++) {
            let c = out_column(column, j);
            if (c == NOWHERE) { continue; }
            for (var k = 0u; k < p.group_outputs; k++) {
                let output = group * p.group_outputs + k;
                let tap = ((output * p.group_channels + within) * p.kernel_rows + i) * p.kernel_columns + j;
                sum += load_weight(p.weight_offset + tap) * load_y(y_index(image, output, r, c));
            }
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
