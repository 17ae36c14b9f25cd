//! Pictures of three bytes a pixel, from files and to files.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ExtendedColorType, ImageEncoder, ImageReader, Limits, codecs::png::PngEncoder};

use crate::{Error, Result, fsx};

/// Bytes of a pixel: red, green, blue.
pub const COLOURS: usize = 3;
/// Most pixels along a side.
const MOST: usize = 1 << 15;
/// Most pixels in all.
const MOST_PIXELS: usize = 1 << 26;
/// Most bytes that reading a file may take.
const MOST_BYTES: u64 = 1 << 29;

/// A picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    /// Row after row, from the top.
    bytes: Vec<u8>,
}

impl Picture {
    /// A picture of these bytes, row after row from the top, three a pixel.
    ///
    /// # Errors
    /// If there are not `3 * width * height` of them, or there is no pixel, or more than 32,768 along a side or 2^26 in all.
    pub fn new(width: usize, height: usize, bytes: Vec<u8>) -> Result<Self> {
        Self::expect_sizes(width, height)?;
        if bytes.len() != width * height * COLOURS {
            let message = format!("{} bytes for {width} x {height} pixels of {COLOURS} bytes", bytes.len());
            return Err(Error::argument("picture", message));
        }
        Ok(Picture { width, height, bytes })
    }

    /// Errs unless a picture may be as large as that.
    pub(super) fn expect_sizes(width: usize, height: usize) -> Result<()> {
        if width.min(height) > 0 && width.max(height) <= MOST && width.saturating_mul(height) <= MOST_PIXELS {
            return Ok(());
        }
        let message =
            format!("{width} x {height} pixels, expected 1 to {MOST} along each side and at most {MOST_PIXELS} in all");
        Err(Error::argument("picture", message))
    }

    /// Reads a PNG or JPEG file, whichever its content is. Grey becomes three equal colours; transparency is dropped.
    ///
    /// # Errors
    /// If the file is missing, is damaged, is in another format, or is absurdly large: names the file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| Error::io(path, &error))?;
        let mut reader =
            ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| Error::io(path, &error))?;
        if reader.format().is_none() {
            return Err(Error::file(path, "is neither a PNG nor a JPEG picture"));
        }
        let mut limits = Limits::default();
        (limits.max_image_width, limits.max_image_height) = (Some(MOST as u32), Some(MOST as u32));
        limits.max_alloc = Some(MOST_BYTES);
        reader.limits(limits);
        let image: DynamicImage =
            reader.decode().map_err(|error| Error::file(path, format!("no picture could be read: {error}")))?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        Self::new(width, height, image.into_rgb8().into_raw()).map_err(|error| Error::file(path, error))
    }

    /// Writes a PNG file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut png = Vec::new();
        let (width, height) = (self.width as u32, self.height as u32);
        PngEncoder::new(&mut png)
            .write_image(&self.bytes, width, height, ExtendedColorType::Rgb8)
            .map_err(|error| Error::file(path, error))?;
        fsx::write(path, &png)
    }

    /// Pixels of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Row after row, from the top.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The middle of the picture, `width * height` pixels, black where it is smaller than that.
    ///
    /// # Errors
    /// If that is no pixel, or more than 32,768 along a side or 2^26 in all.
    pub fn centre(&self, width: usize, height: usize) -> Result<Self> {
        Self::expect_sizes(width, height)?;
        let middle = |own: usize, wanted: usize| (own as isize - wanted as isize).div_euclid(2);
        let (left, top) = (middle(self.width, width), middle(self.height, height));
        let mut bytes = vec![0; width * height * COLOURS];
        for (y, row) in bytes.chunks_exact_mut(width * COLOURS).enumerate() {
            let Some(from) = self.row(y as isize + top) else { continue };
            for (x, pixel) in row.chunks_exact_mut(COLOURS).enumerate() {
                let at = x as isize + left;
                if (0..self.width as isize).contains(&at) {
                    pixel.copy_from_slice(&from[at as usize * COLOURS..][..COLOURS]);
                }
            }
        }
        Self::new(width, height, bytes)
    }

    /// Pictures of one height from left to right, with `gap` white pixels between them.
    ///
    /// # Errors
    /// If there are none, their heights differ, or together they are too wide.
    pub fn beside(pictures: &[Picture], gap: usize) -> Result<Self> {
        let height = pictures.first().map_or(0, |first| first.height);
        if let Some(other) = pictures.iter().find(|picture| picture.height != height) {
            let message = format!("pictures of {height} and of {} rows side by side", other.height);
            return Err(Error::argument("picture", message));
        }
        let width = pictures.iter().map(|picture| picture.width + gap).sum::<usize>().saturating_sub(gap);
        let mut bytes = Vec::new();
        for y in 0..height as isize {
            for (n, picture) in pictures.iter().enumerate() {
                if n > 0 {
                    bytes.resize(bytes.len() + gap * COLOURS, u8::MAX);
                }
                bytes.extend(picture.row(y).unwrap_or_default());
            }
        }
        Self::new(width, height, bytes)
    }

    fn row(&self, y: isize) -> Option<&[u8]> {
        let y = usize::try_from(y).ok().filter(|&y| y < self.height)?;
        self.bytes.get(y * self.width * COLOURS..(y + 1) * self.width * COLOURS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(width: usize, height: usize) -> Picture {
        Picture::new(width, height, (0..width * height * COLOURS).map(|n| n as u8).collect()).unwrap()
    }

    #[test]
    fn written_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.png");
        counted(5, 3).write(&path).unwrap();
        assert_eq!(Picture::read(&path).unwrap(), counted(5, 3));
    }

    #[test]
    fn grey_and_transparent_files_have_three_colours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.png");
        let save = |bytes: &[u8], kind| {
            image::save_buffer(&path, bytes, 2, 1, kind).unwrap();
            Picture::read(&path).unwrap().bytes
        };
        assert_eq!(save(&[7, 9], ExtendedColorType::L8), [7, 7, 7, 9, 9, 9]);
        assert_eq!(save(&[1, 2, 3, 0, 4, 5, 6, 255], ExtendedColorType::Rgba8), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn middles_and_rows_of_pictures() {
        let cut = counted(4, 3).centre(2, 1).unwrap();
        assert_eq!(cut.bytes, counted(4, 3).bytes[15..21]);
        let around = counted(1, 1).centre(4, 2).unwrap();
        assert_eq!(around.bytes[18..21], [0, 1, 2], "below the middle, as in torchvision");
        assert_eq!(around.bytes.iter().filter(|&&byte| byte > 0).count(), 2);
        let pair = Picture::beside(&[counted(1, 2), counted(2, 2)], 1).unwrap();
        assert_eq!((pair.width, pair.height), (4, 2));
        assert_eq!(pair.bytes[12..18], [3, 4, 5, 255, 255, 255]);
        assert!(Picture::beside(&[], 1).is_err() && Picture::beside(&[counted(1, 1), counted(1, 2)], 0).is_err());
        for (width, height) in [(0, 1), (1, 0), (MOST + 1, 1), (usize::MAX, 2)] {
            assert!(counted(2, 2).centre(width, height).is_err());
        }
    }

    fn jpeg(picture: &Picture) -> Vec<u8> {
        let mut bytes = Vec::new();
        let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95);
        let (width, height) = (picture.width as u32, picture.height as u32);
        encoder.write_image(&picture.bytes, width, height, ExtendedColorType::Rgb8).unwrap();
        bytes
    }

    #[test]
    fn jpegs_are_known_by_their_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("called.png");
        let plain = Picture::new(17, 9, [200, 100, 50].repeat(17 * 9)).unwrap();
        std::fs::write(&path, jpeg(&plain)).unwrap();
        let read = Picture::read(&path).unwrap();
        assert_eq!((read.width, read.height), (17, 9));
        assert!(read.bytes.iter().zip(&plain.bytes).all(|(a, b)| a.abs_diff(*b) < 4), "{:?}", &read.bytes[..3]);
    }

    #[test]
    fn changed_bytes_are_errors_or_pictures() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        counted(5, 4).write(&path).unwrap();
        for whole in [std::fs::read(&path).unwrap(), jpeg(&counted(5, 4))] {
            for n in 0..whole.len() {
                let mut changed = whole.clone();
                changed[n] ^= 0x55;
                std::fs::write(&path, &changed).unwrap();
                match Picture::read(&path) {
                    Ok(picture) => assert_eq!(picture.bytes.len(), picture.width * picture.height * COLOURS),
                    Err(error) => assert!(error.to_string().contains('x')),
                }
            }
        }
    }

    #[test]
    fn broken_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.png");
        let sentence = || Picture::read(&path).unwrap_err().to_string();
        assert!(sentence().contains("x.png"));
        counted(9, 9).write(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 3, 8, 20, whole.len() / 2, whole.len() - 13] {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(sentence().contains("x.png"), "{length} bytes of {}", whole.len());
        }
        // A header that promises 4,000,000 x 9 pixels.
        let mut absurd = whole;
        absurd[16..20].copy_from_slice(&4_000_000u32.to_be_bytes());
        std::fs::write(&path, &absurd).unwrap();
        assert!(sentence().contains("x.png"));
    }
}
