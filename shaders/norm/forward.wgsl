// The norm of each row of x [rows, cols]: y = (x - mean) rstd gain + bias, where
//
//   mean = sum_i c_i x_i / count                                   (without CENTRE: 0)
//   rstd = (sum_i c_i |x_i - mean|^power / divisor + eps)^(-1 / power)    (without SCALE: 1)
//
// c_i says how much element i counts, mostly 1. CLOSED adds the square of the row's sum to the sum of squares: what the element
// would add that makes the sum zero. gain, bias: [cols], or absent. stats: [rows, 4] with the mean, what its rounding leaves, rstd,
// and (CLOSED) the sum of the row's results, for the backward. Rows of y are rounded up to fours.
//
// Passes over a row: mean, powers about that mean, result. All but the first find the row in the cache.
// Sources: Ba, Kiros, Hinton 2016 (arXiv:1607.06450); Zhang, Sennrich 2019 (arXiv:1910.07467); Jiang et al. 2023 (arXiv:2305.14858).

//#import common/norm_forward.wgsl

fn first4(row: u32, k: u32) -> vec4<f32> {
    return x4(row, k);
}

fn again4(row: u32, k: u32) -> vec4<f32> {
    return x4(row, k);
}
