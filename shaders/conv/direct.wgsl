// A convolution of few channels for each output, such as a depthwise one, without a matrix of windows:
//
//   y[n, o, i] = sum over c, k of weight[o, c, k] x[n, group of o + c, stride i + dilation k - padding]
//
// for the channels c of the group of o, i and k over two dimensions each. An invocation makes four neighbours of the dense y.

//#import common/windows.wgsl

const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

fn load_x(i: u32) -> f32 { return x[i]; }
fn load_weight(i: u32) -> f32 { return weight[i]; }
fn store4_y(i: u32, v: vec4<f32>) { y[i] = v; }

fn element(e: u32) -> f32 {
    let line = e / p.out_columns;
    let column = (e - line * p.out_columns) * p.stride_columns;
    let plane = line / p.out_rows;
    let row = (line - plane * p.out_rows) * p.stride_rows;
    let image = plane / p.outputs;
    let output = plane - image * p.outputs;
    let first = output / p.group_outputs * p.group_channels;
    var at = p.weight_offset + output * p.group_channels * p.kernel_rows * p.kernel_columns;
    var sum = 0.0;
    for (var c = 0u; c < p.group_channels; c++) {
        for (var i = 0u; i < p.kernel_rows; i++) {
            for (var j = 0u; j < p.kernel_columns; j++) {
                let source = x_index(image, first + c, row + i * p.dilation_rows, column + j * p.dilation_columns);
                if (source != NOWHERE) { sum += load_weight(at) * load_x(source); }
                at += 1u;
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
        store4_y(i, v);
    }
}
