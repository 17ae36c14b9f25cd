// The gradient of a norm (forward.wgsl) with respect to x, row by row. With xhat = (x - mean - rest) rstd, u = dy gain, c_i how much
// element i counts, and f(z) = sign(z) |z|^(power - 1), which is z for the power 2:
//
//   dx_i = rstd (u_i - c_i (sum(u) / count + (f(xhat_i) + shift) sum(u xhat) / divisor))
//
// The term with count belongs to CENTRE, that with divisor to SCALE. shift is xhat of the missing element with its sign turned
// (CLOSED), or minus the mean of f(xhat) (CENTRE; it is zero for the power 2), or zero. `extra`, another gradient of x, is added
// where there is one. x, dy, extra, dx: [rows, cols], rows of dx rounded up to fours; gain: [cols], or absent;
// stats: [rows, 4], as forward.wgsl saves them.

//#import common/norm_backward.wgsl

fn put4(row: u32, k: u32, v: vec4<f32>) {
    store4_dx(row * ((p.cols + 3u) >> 2u) + k, v);
}
