// Sliding windows over images x [images, channels, size.x, size.y]: output place o of a dimension and tap k of the kernel see element
// stride o + dilation k - padding, where there is one. All kernels of conv/ have these parameters; x and y are of any strides.

struct Params {
    count: u32, // elements of the result
    channels: u32,
    rows: u32, // of x
    columns: u32,
    kernel_rows: u32,
    kernel_columns: u32,
    out_rows: u32, // of y
    out_columns: u32,
    stride_rows: u32,
    stride_columns: u32,
    padding_rows: u32,
    padding_columns: u32,
    dilation_rows: u32,
    dilation_columns: u32,
    outputs: u32, // channels of y
    group_channels: u32,
    group_outputs: u32,
    images: u32,
    x_offset: u32,
    x_image: u32,
    x_channel: u32,
    x_row: u32,
    x_column: u32,
    y_offset: u32,
    y_image: u32,
    y_channel: u32,
    y_row: u32,
    y_column: u32,
    weight_offset: u32,
}

@group(1) @binding(0) var<uniform> p: Params;

const NOWHERE = 0xffffffffu;

// Where x[image, channel, row, column] is, for a row and a column that count from the edge of the padding.
fn x_index(image: u32, channel: u32, row: u32, column: u32) -> u32 {
    if (row < p.padding_rows || row - p.padding_rows >= p.rows) { return NOWHERE; }
    if (column < p.padding_columns || column - p.padding_columns >= p.columns) { return NOWHERE; }
    return p.x_offset + image * p.x_image + channel * p.x_channel
        + (row - p.padding_rows) * p.x_row + (column - p.padding_columns) * p.x_column;
}

// The output row whose window has element `row` of x under tap k.
fn out_row(row: u32, k: u32) -> u32 {
    let at = row + p.padding_rows;
    if (at < k * p.dilation_rows) { return NOWHERE; }
    let start = at - k * p.dilation_rows;
    let o = start / p.stride_rows;
    return select(NOWHERE, o, o * p.stride_rows == start && o < p.out_rows);
}

// As out_row, for a column.
fn out_column(column: u32, k: u32) -> u32 {
    let at = column + p.padding_columns;
    if (at < k * p.dilation_columns) { return NOWHERE; }
    let start = at - k * p.dilation_columns;
    let o = start / p.stride_columns;
    return select(NOWHERE, o, o * p.stride_columns == start && o < p.out_columns);
}

fn y_index(image: u32, channel: u32, row: u32, column: u32) -> u32 {
    return p.y_offset + image * p.y_image + channel * p.y_channel + row * p.y_row + column * p.y_column;
}
