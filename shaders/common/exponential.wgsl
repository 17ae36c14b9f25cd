// An exponential variable of mean 1 whose both tails are exact to 2^-42: 64 bits choose a side, a binary exponent by counting
// leading zeros, and 23 bits of mantissa. They give h in (0, 1/2); the uniform number is h or 1 - h.
fn exponential(first: u32, second: u32) -> f32 {
    var zeros = countLeadingZeros(first << 1u);
    if (zeros == 32u) {
        zeros = 31u + min(countLeadingZeros(second << 23u), 9u);
    }
    let h = bitcast<f32>(((125u - zeros) << 23u) | (second >> 9u));
    // -ln(1 - h) = 2 atanh(s); the series ends below the precision of f32, as s is at most 1/3.
    let s = h / (2.0 - h);
    let q = s * s;
    var series = 1.0 / 15.0;
    series = series * q + 1.0 / 13.0;
    series = series * q + 1.0 / 11.0;
    series = series * q + 1.0 / 9.0;
    series = series * q + 1.0 / 7.0;
    series = series * q + 1.0 / 5.0;
    series = series * q + 1.0 / 3.0;
    let near_one = 2.0 * (s + s * q * series);
    return select(-log(h), near_one, (first >> 31u) == 0u);
}
