// The norm of a sum: sum = x + residual, and y = norm(sum) as in forward.wgsl. Writing the sum is part of the first pass; the
// others read it back, rounded as it is stored.

//#import common/norm_forward.wgsl
//#import common/norm_sum.wgsl

fn first4(row: u32, k: u32) -> vec4<f32> {
    return summed4(row, k, x4(row, k));
}
