//! Causal moving averages of channels at dyadic scales (Verma, WaveletGPT, 2024, arXiv 2409.12924, section 3.2).

use wgrad::Tensor;

use crate::Result;

/// Of `x [batch, length, width]` the first half of the channels as they are, and of the others the means over the last 2, 4, .., `2^levels`
/// positions, equally many channels for each; what would stand before the first position counts as zero. There are no parameters.
///
/// Each level is the mean of the one below with itself, half a window earlier, so that nothing is ever subtracted: sums of prefixes would
/// lose digits on long texts.
///
/// # Errors
/// If `x` has not three dimensions, or memory is exhausted.
pub fn averages(x: &Tensor, levels: usize) -> Result<Tensor> {
    let (batch, length, width) = (x.size(0)?, x.size(1)?, x.size(2)?);
    let half = width - width / 2;
    let mut parts = vec![x.narrow(2, 0, half)?];
    let mut mean = x.narrow(2, half, width - half)?;
    for level in 1..=levels {
        let shift = 1usize.checked_shl(level as u32 - 1).unwrap_or(length).min(length);
        let before = Tensor::zeros(&[batch, shift, mean.size(2)?], x.dtype(), x.device())?;
        let earlier = Tensor::concat(&[&before, &mean.narrow(1, 0, length - shift)?], 1)?;
        mean = mean.add(&earlier)?.mul_scalar(0.5)?;
        // Channels of this level, and those that go on.
        let end = |level: usize| (level * (width - half)).div_ceil(levels);
        let here = end(level) - end(level - 1);
        parts.push(mean.narrow(2, 0, here)?);
        mean = mean.narrow(2, here, mean.size(2)? - here)?;
    }
    parts.push(mean);
    Ok(Tensor::concat(&parts.iter().collect::<Vec<_>>(), 2)?)
}

#[cfg(test)]
mod tests {
    use wgrad::Device;

    use super::*;

    #[test]
    fn means_of_windows() {
        let (length, width, levels) = (11, 10, 3);
        let value = |t: usize, c: usize| ((t * 7 + c * 3) % 13) as f64 - 4.0;
        let values: Vec<f64> = (0..length * width).map(|n| value(n / width, n % width)).collect();
        let x = Tensor::from_vec(values, &[1, length, width], &Device::cpu()).unwrap();
        let got = averages(&x, levels).unwrap().to_vec::<f64>().unwrap();
        for (n, got) in got.into_iter().enumerate() {
            let (t, c) = (n / width, n % width);
            // Of the five last channels two have windows of 2, two of 4 and one of 8.
            let window = [1, 1, 1, 1, 1, 2, 2, 4, 4, 8][c];
            let want = (0..window).filter(|m| *m <= t).map(|m| value(t - m, c)).sum::<f64>() / window as f64;
            assert!((got - want).abs() < 1e-12, "position {t}, channel {c}: {got}, expected {want}");
        }
    }

    #[test]
    fn windows_longer_than_the_text_and_no_levels() {
        let x = Tensor::from_vec(vec![8.0f64, 8.0, 8.0, 8.0], &[1, 1, 4], &Device::cpu()).unwrap();
        assert_eq!(averages(&x, 0).unwrap().to_vec::<f64>().unwrap(), [8.0; 4]);
        assert_eq!(averages(&x, 2).unwrap().to_vec::<f64>().unwrap(), [8.0, 8.0, 4.0, 2.0]);
    }
}
