// The norm of a sum after dropout: sum = dropout(x) + residual, and y = norm(sum) as in add_forward.wgsl. The mask is that of
// random/dropout.wgsl, and is not stored.

//#import common/norm_forward.wgsl
//#import common/norm_sum.wgsl

fn first4(row: u32, k: u32) -> vec4<f32> {
    return summed4(row, k, dropped(x4(row, k), row, k));
}
