// Transcendental functions on four lanes, accurate to a few units in the last place on every driver: what WGSL promises of the
// builtins is far less (tanh may overflow, log loses all digits near 1, erf does not exist). The polynomials are those of
// engine/src/cpu/math.rs: interpolation at Chebyshev nodes in high precision.

alias V = vec4<f32>;

const LOG2_E = 1.44269504;
const LN2_HI = 0.6923828125; // ten bits: a small integer times it is exact
const LN2_LO = 0.000764368059945;
const SQRT_HALF_BITS = 0x3f3504f3u;

fn bits(x: V) -> vec4<u32> {
    return bitcast<vec4<u32>>(x);
}

// Not a number, or infinity. The bits are looked at because drivers may assume that floats are finite.
fn not_finite(x: V) -> vec4<bool> {
    return (bits(x) & vec4<u32>(0x7f800000u)) == vec4<u32>(0x7f800000u);
}

fn copy_sign(magnitude: V, x: V) -> V {
    return bitcast<V>((bits(magnitude) & vec4<u32>(0x7fffffffu)) | (bits(x) & vec4<u32>(0x80000000u)));
}

fn pow2(n: vec4<i32>) -> V {
    return bitcast<V>((n + vec4<i32>(127)) << vec4<u32>(23u));
}

// y 2^n in two steps, for results at both ends of the range.
fn scale(y: V, n: vec4<i32>) -> V {
    let half = n >> vec4<u32>(1u);
    return y * pow2(half) * pow2(n - half);
}

// e^r - 1 for |r| <= ln(2) / 2.
fn expm1_near_zero(r: V) -> V {
    let p = (((0.0013926176 * r + 0.008363173) * r + 0.041666555) * r + 0.16666577) * r + 0.5;
    return r + r * r * p;
}

// ln(1 + f) + add for f between sqrt(1/2) - 1 and sqrt(2) - 1.
fn ln_1p_near_zero(f: V, add: V) -> V {
    let q = ((-0.07902744 * f + 0.1262232) * f - 0.12998184) * f + 0.14214496;
    let p = (((q * f - 0.16641282) * f + 0.20001045) * f - 0.25000307) * f + 0.33333331;
    let z = f * f;
    return f + (f * z * p + add - 0.5 * z);
}

// e^(x + small), where adding the two first would round.
fn exp_of_sum(x: V, small: V) -> V {
    let bounded = select(select(x, V(89.0), x > V(89.0)), V(-104.0), x < V(-104.0));
    let n = round(bounded * LOG2_E);
    let r = bounded - n * LN2_HI - n * LN2_LO;
    return scale(1.0 + expm1_near_zero(r + small), vec4<i32>(n));
}

fn exp_(x: V) -> V {
    return exp_of_sum(x, V(0.0));
}

fn expm1_(x: V) -> V {
    let bounded = select(select(x, V(89.0), x > V(89.0)), V(-40.0), x < V(-40.0));
    let n = round(bounded * LOG2_E);
    let r = bounded - n * LN2_HI - n * LN2_LO;
    // (e^r - 1 + (1 - 2^-n)) 2^n: exact for n = 0, and no cancellation worse than a bit elsewhere.
    let i = vec4<i32>(n);
    return scale(expm1_near_zero(r) + (1.0 - pow2(-clamp(i, vec4<i32>(-64), vec4<i32>(64)))), i);
}

fn ln_(x: V) -> V {
    let tiny = x < V(1.17549435e-38);
    let y = select(x, x * 8388608.0, tiny);
    let shifted = bits(y) - vec4<u32>(SQRT_HALF_BITS);
    let e = V(bitcast<vec4<i32>>(shifted) >> vec4<u32>(23u)) - select(V(0.0), V(23.0), tiny);
    let f = bitcast<V>((shifted & vec4<u32>(0x007fffffu)) + vec4<u32>(SQRT_HALF_BITS)) - 1.0;
    let r = ln_1p_near_zero(f, e * LN2_LO) + e * LN2_HI;
    // ln(0) is minus infinity, ln of a negative NaN; made of the bits of x, since WGSL knows no literals for them.
    let zero = bitcast<V>(bits(x) | vec4<u32>(0xff800000u));
    let nan = bitcast<V>(bits(x) | vec4<u32>(0x7fc00000u));
    return select(select(select(r, x, not_finite(x)), nan, x < V(0.0)), zero, x == V(0.0));
}

fn ln_1p_(x: V) -> V {
    let near = (x > V(-0.29)) & (x < V(0.41));
    return select(ln_(1.0 + x), ln_1p_near_zero(select(V(0.0), x, near), V(0.0)), near);
}

fn tanh_(x: V) -> V {
    let u = abs(x);
    let z = select(V(0.0), x * x, u < V(0.625));
    let p = (((-0.0060967143 * z + 0.02099718) * z - 0.05385091) * z + 0.1333277) * z - 0.3333333;
    let large = 1.0 - 2.0 / (exp_(2.0 * select(u, V(10.0), u > V(10.0))) + 1.0);
    return select(copy_sign(large, x), x + x * z * p, u < V(0.625));
}

// The upper twelve bits of u, whose square is exact.
fn upper_bits(u: V) -> V {
    return bitcast<V>(bits(u) & vec4<u32>(0xfffff000u));
}

// The normal distribution's upper tail at u >= 0 divided by e^(-u^2/2).
fn normal_tail(u: V) -> V {
    let t = 1.0 / (1.0 + 0.3 * u);
    let q = (((-0.020956024 * t + 0.11425745) * t - 0.2325244) * t + 0.19755058) * t - 0.08421348;
    let p = ((((q * t + 0.09871138) * t + 0.0775179) * t + 0.11041841) * t + 0.11955043) * t + 0.11968775;
    return t * p;
}

struct Normal {
    cdf: V,
    gauss: V,
}

// The normal distribution's cumulative function, with full relative accuracy in the left tail, and e^(-x^2/2).
fn normal_cdf(x: V) -> Normal {
    let u = select(abs(x), V(20.0), abs(x) > V(20.0));
    let high = upper_bits(u);
    let gauss = exp_of_sum(-0.5 * high * high, 0.5 * (high - u) * (high + u));
    let upper = gauss * normal_tail(u);
    return Normal(select(upper, 1.0 - upper, x > V(0.0)), gauss);
}

fn erf_(x: V) -> V {
    let small = abs(x) < V(0.866);
    let z = select(V(0.0), x * x, small);
    let q = ((8.74783e-5 * z - 0.0008226568) * z + 0.005207981) * z - 0.026862036;
    let p = ((q * z + 0.112837404) * z - 0.37612637) * z + 1.1283792;
    let u = select(abs(x), V(10.0), abs(x) > V(10.0));
    let high = upper_bits(u);
    let gauss = exp_of_sum(-high * high, (high - u) * (high + u));
    let large = 1.0 - 2.0 * gauss * normal_tail(u * 1.41421356);
    return select(copy_sign(large, x), x * p, small);
}

// sin(x + quarter pi / 2). Beyond 50,000 the driver's own is used: there f32 angles are coarse anyway.
fn sin_of(x: V, quarter: i32) -> V {
    let near = abs(x) < V(50000.0);
    let y = select(V(0.0), x, near);
    let n = round(y * 0.636619772);
    let r = y - n * 1.5703125 - n * 0.00048351287841797 - n * 3.1391647865e-7;
    let z = r * r;
    let odd = r + r * z * (((2.72499258e-6 * z - 0.0001984008674) * z + 0.008333331875) * z - 0.1666666666);
    let even = 1.0 - 0.5 * z + z * z * ((2.454794209e-5 * z - 0.001388830304) * z + 0.04166666466);
    let quadrant = vec4<i32>(n) + vec4<i32>(quarter);
    let value = select(odd, even, (quadrant & vec4<i32>(1)) == vec4<i32>(1));
    let signed = select(value, -value, (quadrant & vec4<i32>(2)) == vec4<i32>(2));
    var far = sin(x);
    if (quarter == 1) {
        far = cos(x);
    }
    return select(far, signed, near);
}

// x^y. A negative x only with an integer y, else NaN.
fn pow_(x: V, y: V) -> V {
    let magnitude = exp_(y * ln_(abs(x)));
    let whole = y == floor(y);
    let odd = whole & (floor(y * 0.5) * 2.0 != y);
    let signed = select(magnitude, -magnitude, (x < V(0.0)) & odd);
    let nan = bitcast<V>(bits(x) | vec4<u32>(0x7fc00000u));
    let value = select(signed, nan, (x < V(0.0)) & !whole);
    // 0^y is 0 for y > 0; ln(0) has no finite value to multiply.
    return select(select(value, V(0.0), (x == V(0.0)) & (y > V(0.0))), V(1.0), (y == V(0.0)) | (x == V(1.0)));
}
