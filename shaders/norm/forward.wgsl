// Layer norm of each row of x [rows, cols]: y = (x - mean) * rstd * gain + bias, rstd = 1 / sqrt(variance + eps), variance biased.
// With RMS root-mean-square norm: mean = 0, and the mean of squares is the variance. gain, bias: [cols], or absent.
// stats: [rows, 2] with mean and rstd, for the backward. Rows of y are rounded up to fours.
//
// Passes over a row: mean, variance about that mean, result. All but the first find the row in the cache.
// Sources: Ba, Kiros, Hinton 2016 (arXiv:1607.06450); Zhang, Sennrich 2019 (arXiv:1910.07467).

//#import common/norm_forward.wgsl

fn first4(row: u32, k: u32) -> vec4<f32> {
    return x4(row, k);
}

fn again4(row: u32, k: u32) -> vec4<f32> {
    return x4(row, k);
}
