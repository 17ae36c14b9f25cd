//! Transcendental functions of the CPU kernels. The f32 ones are branch-free polynomials that the compiler turns into vector
//! code, accurate to a few units in the last place; the f64 ones are the C library's. `shaders/common/math.wgsl` holds the same
//! polynomials for the GPU. Coefficients: interpolation at Chebyshev nodes in high precision.

use std::f32::consts::{LOG2_E, SQRT_2};

/// Functions that elementwise kernels, softmax and losses need of their float type.
pub(crate) trait Math: Sized {
    fn fast_exp(self) -> Self;
    fn fast_expm1(self) -> Self;
    fn fast_ln(self) -> Self;
    fn fast_ln_1p(self) -> Self;
    fn fast_tanh(self) -> Self;
    fn fast_erf(self) -> Self;
    /// The normal distribution's cumulative function at x, with full relative accuracy in the left tail, and exp(-x²/2).
    fn normal_cdf(self) -> (Self, Self);
}

impl Math for f32 {
    #[inline(always)]
    fn fast_exp(self) -> f32 {
        exp_of_sum(self, 0.0)
    }

    #[inline(always)]
    fn fast_expm1(self) -> f32 {
        let x = if self > 89.0 { 89.0 } else { self };
        let x = if x < -40.0 { -40.0 } else { x };
        let (n, r) = reduce(x);
        // (e^r - 1 + (1 - 2^-n)) 2^n: exact for n = 0, and no cancellation worse than a bit elsewhere.
        let shift = 1.0 - pow2(-n.clamp(-64, 64));
        scale(expm1_near_zero(r) + shift, n)
    }

    #[inline(always)]
    fn fast_ln(self) -> f32 {
        let tiny = self < f32::MIN_POSITIVE;
        let x = if tiny { self * 8_388_608.0 } else { self };
        let shifted = x.to_bits().wrapping_sub(SQRT_HALF_BITS);
        let e = (shifted as i32 >> 23) as f32 - if tiny { 23.0 } else { 0.0 };
        let f = f32::from_bits((shifted & 0x007f_ffff) + SQRT_HALF_BITS) - 1.0;
        let y = ln_1p_near_zero(f, e * LN2_LO) + e * LN2_HI;
        let y = if self == 0.0 { f32::NEG_INFINITY } else { y };
        let y = if self < 0.0 { f32::NAN } else { y };
        // Infinity and NaN are their own logarithm.
        if self < f32::INFINITY { y } else { self }
    }

    #[inline(always)]
    fn fast_ln_1p(self) -> f32 {
        let near = self > -0.29 && self < 0.41;
        let small = ln_1p_near_zero(self, 0.0);
        let large = (1.0 + self).fast_ln();
        if near { small } else { large }
    }

    #[inline(always)]
    fn fast_tanh(self) -> f32 {
        let z = self * self;
        let p = poly(z, [-0.333_333_3, 0.133_327_7, -0.053_850_91, 0.020_997_18, -0.006_096_714]);
        let small = self + self * z * p;
        let u = if self.abs() > 10.0 { 10.0 } else { self.abs() };
        let large = (1.0 - 2.0 / (exp_of_sum(2.0 * u, 0.0) + 1.0)).copysign(self);
        if self.abs() < 0.625 { small } else { large }
    }

    #[inline(always)]
    fn fast_erf(self) -> f32 {
        let z = self * self;
        let p = poly(
            z,
            [
                std::f32::consts::FRAC_2_SQRT_PI,
                -0.376_126_37,
                0.112_837_404,
                -0.026_862_036,
                0.005_207_981,
                -0.000_822_656_8,
                8.747_83e-5,
            ],
        );
        let u = if self.abs() > 10.0 { 10.0 } else { self.abs() };
        let large = (1.0 - 2.0 * exp_minus_square(u) * tail(u * SQRT_2)).copysign(self);
        if z < 0.75 { self * p } else { large }
    }

    #[inline(always)]
    fn normal_cdf(self) -> (f32, f32) {
        let u = if self.abs() > 20.0 { 20.0 } else { self.abs() };
        let gauss = exp_minus_half_square(u);
        let upper = gauss * tail(u);
        (if self > 0.0 { 1.0 - upper } else { upper }, gauss)
    }
}

impl Math for f64 {
    fn fast_exp(self) -> f64 {
        self.exp()
    }
    fn fast_expm1(self) -> f64 {
        self.exp_m1()
    }
    fn fast_ln(self) -> f64 {
        self.ln()
    }
    fn fast_ln_1p(self) -> f64 {
        self.ln_1p()
    }
    fn fast_tanh(self) -> f64 {
        self.tanh()
    }
    fn fast_erf(self) -> f64 {
        libm::erf(self)
    }
    fn normal_cdf(self) -> (f64, f64) {
        (0.5 * libm::erfc(-self * std::f64::consts::FRAC_1_SQRT_2), (-0.5 * self * self).exp())
    }
}

/// 1.5 * 2^23: adding it rounds a float to an integer, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;
const LN2_HI: f32 = 0.692_382_8; // ten bits: a small integer times it is exact
const LN2_LO: f32 = 7.643_680_6e-4;
const SQRT_HALF_BITS: u32 = 0x3f35_04f3;

#[inline(always)]
fn poly<const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut y = 0.0;
    for &k in c.iter().rev() {
        y = y * x + k;
    }
    y
}

/// x = n ln 2 + r with |r| <= ln(2) / 2.
#[inline(always)]
fn reduce(x: f32) -> (i32, f32) {
    let t = x * LOG2_E + ROUND;
    let n = t - ROUND;
    (t.to_bits().wrapping_sub(ROUND.to_bits()) as i32, x - n * LN2_HI - n * LN2_LO)
}

#[inline(always)]
fn pow2(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// y * 2^n in two steps, for results at both ends of the range.
#[inline(always)]
fn scale(y: f32, n: i32) -> f32 {
    let half = n >> 1;
    y * pow2(half) * pow2(n.wrapping_sub(half))
}

/// e^r - 1 for |r| <= ln(2) / 2.
#[inline(always)]
fn expm1_near_zero(r: f32) -> f32 {
    r + r * r * poly(r, [0.5, 0.166_665_77, 0.041_666_555, 0.008_363_173, 0.001_392_617_6])
}

/// ln(1 + f) + add for f between sqrt(1/2) - 1 and sqrt(2) - 1.
#[inline(always)]
fn ln_1p_near_zero(f: f32, add: f32) -> f32 {
    let p = poly(
        f,
        [
            0.333_333_3,
            -0.250_003_07,
            0.200_010_45,
            -0.166_412_82,
            0.142_144_96,
            -0.129_981_84,
            0.126_223_2,
            -0.079_027_44,
        ],
    );
    let z = f * f;
    f + (f * z * p + add - 0.5 * z)
}

/// e^(x + small), where adding the two first would round.
#[inline(always)]
fn exp_of_sum(x: f32, small: f32) -> f32 {
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let (n, r) = reduce(x);
    scale(1.0 + expm1_near_zero(r + small), n)
}

/// The upper twelve bits of u, whose square is exact.
#[inline(always)]
fn upper_bits(u: f32) -> f32 {
    f32::from_bits(u.to_bits() & 0xffff_f000)
}

/// e^(-u²) for 0 <= u <= 10, without the error that rounding u² would bring.
#[inline(always)]
fn exp_minus_square(u: f32) -> f32 {
    let high = upper_bits(u);
    exp_of_sum(-high * high, (high - u) * (high + u))
}

/// e^(-u²/2) for 0 <= u <= 20.
#[inline(always)]
fn exp_minus_half_square(u: f32) -> f32 {
    let high = upper_bits(u);
    exp_of_sum(-0.5 * high * high, 0.5 * (high - u) * (high + u))
}

/// The normal distribution's upper tail at u >= 0 divided by e^(-u²/2).
#[inline(always)]
fn tail(u: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3 * u);
    t * poly(
        t,
        [
            0.119_687_75,
            0.119_550_43,
            0.110_418_41,
            0.077_517_9,
            0.098_711_38,
            -0.084_213_48,
            0.197_550_58,
            -0.232_524_4,
            0.114_257_45,
            -0.020_956_024,
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest error of an f32 function relative to its f64 counterpart over a range.
    fn worst(low: f32, high: f32, f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> f64 {
        let steps = 40_000;
        let at = |i: i32| low + (high - low) * i as f32 / steps as f32;
        let error = |x: f32| {
            let want = exact(f64::from(x));
            (f64::from(f(x)) - want).abs() / want.abs().max(1e-37)
        };
        (0..=steps).map(|i| error(at(i))).fold(0.0, f64::max)
    }

    #[test]
    fn close_to_f64() {
        assert!(worst(-87.0, 88.7, f32::fast_exp, f64::exp) < 2e-7);
        assert!(worst(-20.0, 88.7, f32::fast_expm1, f64::exp_m1) < 4e-7);
        assert!(worst(-1e-3, 1e-3, f32::fast_expm1, f64::exp_m1) < 2e-7);
        assert!(worst(1e-6, 4.0, f32::fast_ln, f64::ln) < 3e-7);
        assert!(worst(1e-30, 1e30, f32::fast_ln, f64::ln) < 2e-7);
        assert!(worst(-0.999, 9.0, f32::fast_ln_1p, f64::ln_1p) < 6e-7);
        assert!(worst(-1e-4, 1e-4, f32::fast_ln_1p, f64::ln_1p) < 2e-7);
        assert!(worst(-12.0, 12.0, f32::fast_tanh, f64::tanh) < 3e-7);
        assert!(worst(-6.0, 6.0, f32::fast_erf, libm::erf) < 3e-7);
        assert!(worst(-12.5, 9.0, |x| x.normal_cdf().0, |x| x.normal_cdf().0) < 8e-7);
        assert!(worst(-12.5, 12.5, |x| x.normal_cdf().1, |x| x.normal_cdf().1) < 5e-7);
    }

    #[test]
    fn extremes() {
        for x in [f32::INFINITY, 1e30, 89.0] {
            assert_eq!(x.fast_exp(), f32::INFINITY);
            assert_eq!(x.fast_expm1(), f32::INFINITY);
            assert_eq!((x.fast_tanh(), (-x).fast_tanh()), (1.0, -1.0));
            assert_eq!((x.fast_erf(), (-x).fast_erf()), (1.0, -1.0));
            assert_eq!((x.normal_cdf().0, (-x).normal_cdf()), (1.0, (0.0, 0.0)));
            assert_eq!((-x).fast_expm1(), -1.0);
        }
        assert_eq!((-110f32).fast_exp(), 0.0);
        assert_eq!((-100f32).fast_exp(), (-100f64).exp() as f32);
        assert_eq!((0f32.fast_exp(), 0f32.fast_ln(), 1f32.fast_ln()), (1.0, f32::NEG_INFINITY, 0.0));
        assert_eq!(f32::INFINITY.fast_ln(), f32::INFINITY);
        assert_eq!((-1f32).fast_ln_1p(), f32::NEG_INFINITY);
        assert!((1e-42f32.fast_ln() - (1e-42f32 as f64).ln() as f32).abs() < 1e-4);
        let functions = [f32::fast_exp, f32::fast_expm1, f32::fast_ln, f32::fast_ln_1p, f32::fast_tanh, f32::fast_erf];
        assert!(functions.iter().all(|f| f(f32::NAN).is_nan()) && (-1f32).fast_ln().is_nan());
    }
}
