// Exponentials of numbers that are not positive, as sums relative to a maximum need them, and logarithms of such sums. Accurate
// to a few units in the last place, which WGSL does not promise of its own for arguments far from zero.

// The polynomials are those of common/math.wgsl. Below e^-87, where floats lose digits, it is 0.
fn exp_below(x: vec4<f32>) -> vec4<f32> {
    let bounded = max(x, vec4<f32>(-87.0));
    let n = round(bounded * 1.44269504);
    let r = bounded - n * 0.6923828125 - n * 0.000764368059945;
    let q = (((0.0013926176 * r + 0.008363173) * r + 0.041666555) * r + 0.16666577) * r + 0.5;
    let power = bitcast<vec4<f32>>((vec4<i32>(n) + vec4<i32>(127)) << vec4<u32>(23u));
    return select((1.0 + (r + r * r * q)) * power, vec4<f32>(0.0), x < vec4<f32>(-87.0));
}
