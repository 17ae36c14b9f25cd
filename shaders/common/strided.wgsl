// Buffer index of element e of a view with up to four dimensions, outermost first; unused ones have size 1.

fn strided_index(e: u32, shape: vec4<u32>, strides: vec4<u32>) -> u32 {
    var rest = e;
    var index = (rest % shape.w) * strides.w;
    rest = rest / shape.w;
    index += (rest % shape.z) * strides.z;
    rest = rest / shape.z;
    index += (rest % shape.y) * strides.y;
    return index + (rest / shape.y) * strides.x;
}
