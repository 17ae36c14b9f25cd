// The windows of a convolution as rows of a matrix (im2col):
//
//   y[n, o, c, k] = x[n, c, stride o + dilation k - padding], 0 in the padding
//
// for each image n, place o of the output, channel c and tap k of the kernel, o and k over two dimensions each. With the kernels as
// the rows of a matrix, a convolution is one matrix product (Chellapilla, Puri, Simard 2006). An invocation makes four neighbours.

//#import common/windows.wgsl

const WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

fn load_x(i: u32) -> f32 { return x[i]; }
fn store4_y(i: u32, v: vec4<f32>) { y[i] = v; }

// The coordinates of an element of y.
struct Place {
    image: u32,
    row: u32,
    column: u32,
    channel: u32,
    tap_row: u32,
    tap_column: u32,
}

fn place_of(e: u32) -> Place {
    let taps = p.kernel_rows * p.kernel_columns;
    let channel = e / taps;
    let tap = e - channel * taps;
    let place = channel / p.channels;
    let line = place / p.out_columns;
    let image = line / p.out_rows;
    let tap_row = tap / p.kernel_columns;
    return Place(
        image,
        line - image * p.out_rows,
        place - line * p.out_columns,
        channel - place * p.channels,
        tap_row,
        tap - tap_row * p.kernel_columns,
    );
}

// The coordinates of the next one.
fn following(at: Place) -> Place {
    var next = at;
    next.tap_column += 1u;
    if (next.tap_column < p.kernel_columns) { return next; }
    next.tap_column = 0u;
    next.tap_row += 1u;
    if (next.tap_row < p.kernel_rows) { return next; }
    next.tap_row = 0u;
    next.channel += 1u;
    if (next.channel < p.channels) { return next; }
    next.channel = 0u;
    next.column += 1u;
    if (next.column < p.out_columns) { return next; }
    next.column = 0u;
    next.row += 1u;
    if (next.row < p.out_rows) { return next; }
    next.row = 0u;
    next.image += 1u;
    return next;
}

fn element(at: Place) -> f32 {
    let row = at.row * p.stride_rows + at.tap_row * p.dilation_rows;
    let column = at.column * p.stride_columns + at.tap_column * p.dilation_columns;
    let i = x_index(at.image, at.channel, row, column);
    if (i == NOWHERE || at.image >= p.images) { return 0.0; }
    return load_x(i);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    if (4u * i < p.count) {
        var at = place_of(4u * i);
        var v = vec4<f32>();
        for (var lane = 0u; lane < 4u; lane++) {
            v[lane] = element(at);
            at = following(at);
        }
        store4_y(i, v);
    }
}
