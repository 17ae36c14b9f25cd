//! Resizing pictures with the numbers of Pillow, which public checkpoints were trained with: sums of bytes with weights of 22 bits, rounded to bytes
//! after each direction, rows first. (Pillow 13 begins with columns now and then, which changes some bytes by a little.) A filter is
//! stretched by the factor that a picture shrinks by.

use super::picture::{COLOURS, Picture};
use crate::{Error, Result};

/// Bits of a weight behind the point: a sum of bytes with weights, some of them negative, fits 32 bits.
const BITS: u32 = 22;

/// By what function of their distance neighbours are weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// A tent, two pixels wide.
    Bilinear,
    /// Keys' cubic with `a = -0.5` (Cubic convolution interpolation, 1981), four pixels wide.
    Bicubic,
    /// A windowed sinc, six pixels wide.
    Lanczos,
}

impl Filter {
    /// The filter that a `preprocessor_config.json` numbers, as Pillow does.
    ///
    /// # Errors
    /// If it is none of these.
    pub fn numbered(number: usize) -> Result<Self> {
        match number {
            1 => Ok(Filter::Lanczos),
            2 => Ok(Filter::Bilinear),
            3 => Ok(Filter::Bicubic),
            _ => {
                let message = format!("{number}, expected 1 (Lanczos), 2 (bilinear) or 3 (bicubic)");
                Err(Error::argument("resample", message))
            }
        }
    }

    /// Half its width.
    fn support(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
        let x = x.abs();
        match self {
            _ if x >= self.support() => 0.0,
            Filter::Bilinear => 1.0 - x,
            Filter::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Filter::Bicubic => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            Filter::Lanczos => sinc(x) * sinc(x / 3.0),
        }
    }

    /// For each pixel of a side of `to` pixels, the first pixel of a side of `from` that it is made of, and the weights.
    fn weights(self, from: usize, to: usize) -> Vec<(usize, Vec<i64>)> {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let support = self.support() * stretch;
        let of_pixel = |at: usize| {
            let centre = (at as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let raw: Vec<f64> =
                (first..end).map(|x| self.weight((x as f64 - centre + 0.5) * stretch.recip())).collect();
            let sum: f64 = raw.iter().sum();
            // Rounded half away from zero.
            let whole = |weight: f64| (weight / sum * f64::from(1u32 << BITS)).round() as i64;
            (first, raw.into_iter().map(whole).collect())
        };
        (0..to).map(of_pixel).collect()
    }
}

/// A picture of `width * height` pixels.
///
/// # Errors
/// If that is no pixel, or more than 32,768 along a side or 2^26 in all.
pub fn resize(picture: &Picture, width: usize, height: usize, filter: Filter) -> Result<Picture> {
    Picture::expect_sizes(width, height)?;
    let (from_width, from_height) = (picture.width(), picture.height());
    let mut bytes = picture.bytes().to_vec();
    if width != from_width {
        let mut narrow = Vec::with_capacity(width * from_height * COLOURS);
        let weights = filter.weights(from_width, width);
        for row in bytes.chunks_exact(from_width * COLOURS) {
            for (first, weights) in &weights {
                let at = |colour| row[first * COLOURS + colour..].iter().step_by(COLOURS);
                narrow.extend((0..COLOURS).map(|colour| weighed(at(colour), weights)));
            }
        }
        bytes = narrow;
    }
    if height != from_height {
        let stride = width * COLOURS;
        let mut low = Vec::with_capacity(height * stride);
        for (first, weights) in filter.weights(from_height, height) {
            let at = |column| bytes[first * stride + column..].iter().step_by(stride);
            low.extend((0..stride).map(|column| weighed(at(column), &weights)));
        }
        bytes = low;
    }
    Picture::new(width, height, bytes)
}

fn weighed<'a>(bytes: impl Iterator<Item = &'a u8>, weights: &[i64]) -> u8 {
    let half = 1i64 << (BITS - 1);
    let sum: i64 = bytes.zip(weights).map(|(&byte, weight)| i64::from(byte) * weight).sum();
    ((sum + half) >> BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let byte = |n: usize| {
            let (x, y, c) = (n / COLOURS % 7, n / COLOURS / 7, n % COLOURS);
            (x * 37 + y * 91 + c * 53 + x * y * 17) as u8
        };
        Picture::new(7, 5, (0..7 * 5 * COLOURS).map(byte).collect()).unwrap()
    }

    /// What Pillow 11.1.0 makes of the same picture.
    #[test]
    fn numbers_of_pillow() {
        let cases: [(usize, usize, Filter, &[u8]); 5] = [
            (
                4,
                3,
                Filter::Bilinear,
                &[
                    62, 115, 163, 131, 154, 150, 133, 156, 180, 172, 149, 81, 155, 147, 121, 143, 152, 146, 135, 98,
                    140, 93, 139, 138, 113, 103, 151, 125, 148, 103, 91, 144, 134, 144, 121, 127,
                ],
            ),
            (
                4,
                3,
                Filter::Bicubic,
                &[
                    57, 114, 164, 136, 153, 150, 134, 156, 186, 175, 149, 75, 161, 152, 119, 149, 156, 148, 137, 90,
                    139, 83, 145, 138, 114, 97, 153, 124, 148, 97, 85, 150, 134, 148, 118, 129,
                ],
            ),
            (
                4,
                3,
                Filter::Lanczos,
                &[
                    56, 117, 165, 142, 150, 151, 133, 156, 188, 174, 150, 74, 161, 157, 120, 156, 158, 151, 136, 85,
                    138, 78, 149, 135, 112, 92, 153, 121, 143, 95, 82, 161, 135, 151, 115, 132,
                ],
            ),
            (
                9,
                3,
                Filter::Bicubic,
                &[
                    39, 91, 144, 66, 119, 179, 102, 161, 162, 139, 170, 128, 177, 116, 169, 117, 147, 207, 123, 192,
                    163, 168, 173, 83, 202, 99, 39, 125, 185, 82, 181, 130, 144, 174, 142, 144, 128, 181, 123, 139,
                    129, 191, 159, 67, 128, 113, 95, 118, 76, 145, 138, 87, 160, 149, 63, 123, 176, 138, 79, 140, 152,
                    110, 119, 111, 175, 105, 101, 162, 65, 59, 113, 147, 113, 176, 164, 159, 164, 134, 141, 38, 104,
                ],
            ),
            (
                3,
                8,
                Filter::Bilinear,
                &[
                    32, 85, 138, 111, 164, 202, 190, 152, 95, 78, 131, 160, 140, 147, 165, 156, 158, 109, 140, 186,
                    182, 176, 125, 121, 112, 161, 128, 172, 149, 123, 151, 120, 154, 97, 112, 137, 158, 135, 109, 127,
                    128, 158, 100, 115, 134, 98, 144, 141, 102, 151, 133, 120, 170, 119, 121, 112, 141, 104, 149, 109,
                    130, 132, 137, 143, 86, 139, 107, 145, 92, 136, 98, 151,
                ],
            ),
        ];
        for (width, height, filter, wanted) in cases {
            let resized = resize(&picture(), width, height, filter).unwrap();
            assert_eq!(resized.bytes(), wanted, "{width} x {height} by {filter:?}");
        }
    }

    #[test]
    fn one_colour_stays_and_extremes_are_kept_in_range() {
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            let plain = Picture::new(9, 4, vec![201; 9 * 4 * COLOURS]).unwrap();
            for (width, height) in [(1, 1), (3, 11), (64, 2), (9, 4)] {
                let resized = resize(&plain, width, height, filter).unwrap();
                assert!(resized.bytes().iter().all(|&byte| byte == 201), "{filter:?} {width} x {height}");
            }
            let edge = Picture::new(2, 1, vec![0, 0, 0, 255, 255, 255]).unwrap();
            let resized = resize(&edge, 16, 1, filter).unwrap();
            assert_eq!((resized.bytes()[0], resized.bytes()[45]), (0, 255), "{filter:?}");
            for (width, height) in [(0, 1), (1, 0), (1 << 16, 1), (1 << 14, 1 << 14)] {
                assert!(resize(&edge, width, height, filter).is_err());
            }
        }
        assert!(Filter::numbered(0).unwrap_err().to_string().contains("resample"));
    }
}
