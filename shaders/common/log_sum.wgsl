// Sums of probabilities that are given by their logarithms. LOWEST stands for the logarithm of 0.

const LOWEST = -1e30;

fn log_sum(a: f32, b: f32, c: f32) -> f32 {
    let m = max(a, max(b, c));
    if (m <= 0.1 * LOWEST) { return LOWEST; }
    return m + log(exp(max(a - m, -100.0)) + exp(max(b - m, -100.0)) + exp(max(c - m, -100.0)));
}
