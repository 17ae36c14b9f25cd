//! From pictures to the numbers that a model of images was trained on, as the `preprocessor_config.json` of its folder says.

use std::path::Path;

use serde_json::Value;
use wgrad::{Device, Tensor};

use super::picture::{COLOURS, Picture};
use super::resize::{Filter, resize};
use crate::zoo::Config;
use crate::{Error, Result};

/// The file with the settings.
const FILE: &str = "preprocessor_config.json";
/// Means and deviations of colours that ViT's pictures are centred by, unless its file says otherwise.
const HALVES: [f64; COLOURS] = [0.5; COLOURS];
/// Those of CLIP's training set.
const CLIP: [[f64; COLOURS]; 2] =
    [[0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_58, 0.275_777_11]];

/// What a picture is resized to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    /// Width and height.
    Both(usize, usize),
    /// The shorter side; the other keeps the proportions.
    Shorter(usize),
}

/// What is done to pictures: resizing, cutting out the middle, scaling, centring.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocess {
    size: Option<(Size, Filter)>,
    crop: Option<(usize, usize)>,
    rescale: f64,
    mean: [f64; COLOURS],
    deviation: [f64; COLOURS],
}

impl Preprocess {
    /// Reads `preprocessor_config.json` of a model's folder. What it leaves out is as in the checkpoints of ViT, or of CLIP if that is
    /// what it names.
    ///
    /// # Errors
    /// If the file is missing or damaged, or asks for what is not there.
    pub fn read(folder: &Path) -> Result<Self> {
        Self::of(&Config::read_file(&folder.join(FILE))?)
    }

    fn of(c: &Config) -> Result<Self> {
        let kind = c.text_or("image_processor_type|feature_extractor_type", "")?;
        let clip = kind.starts_with("CLIP");
        let number = c.size_or("resample", if clip { 3 } else { 2 })?;
        let filter = Filter::numbered(number).map_err(|error| c.error(error.to_string()))?;
        let crop = if c.flag_or("do_center_crop", clip)? { Some(both(c, "crop_size")?) } else { None };
        let size = if c.flag_or("do_resize", true)? { Some((size(c, crop.is_some())?, filter)) } else { None };
        let rescale = c.number_or("rescale_factor", 1.0 / 255.0)?;
        let rescale = if c.flag_or("do_rescale", true)? { rescale } else { 1.0 };
        let [mean, deviation] = if clip { CLIP } else { [HALVES; 2] };
        let (mut mean, mut deviation) = (colours(c, "image_mean", mean)?, colours(c, "image_std", deviation)?);
        if !c.flag_or("do_normalize", true)? {
            (mean, deviation) = ([0.0; COLOURS], [1.0; COLOURS]);
        }
        if rescale <= 0.0 || deviation.iter().any(|&d| d <= 0.0) {
            let message = format!("rescale_factor {rescale} and image_std {deviation:?}, expected numbers above 0");
            return Err(c.error(message));
        }
        Ok(Preprocess { size, crop, rescale, mean, deviation })
    }

    /// The part of a picture that the model sees, in the size in which it sees it.
    ///
    /// # Errors
    /// If the picture would become absurdly large.
    pub fn seen(&self, picture: &Picture) -> Result<Picture> {
        let mut seen = picture.clone();
        if let Some((size, filter)) = self.size {
            let (width, height) = match size {
                Size::Both(width, height) => (width, height),
                Size::Shorter(side) => shorter(picture.width(), picture.height(), side),
            };
            seen = resize(&seen, width, height, filter)?;
        }
        match self.crop {
            Some((width, height)) => seen.centre(width, height),
            None => Ok(seen),
        }
    }

    /// Pictures of one size as images `[pictures, 3, height, width]`.
    ///
    /// # Errors
    /// If the sizes differ, or memory is exhausted.
    pub fn images(&self, seen: &[Picture], device: &Device) -> Result<Tensor> {
        let (width, height) = seen.first().map_or((0, 0), |first| (first.width(), first.height()));
        let mut values = Vec::with_capacity(seen.len() * COLOURS * width * height);
        for picture in seen {
            if (picture.width(), picture.height()) != (width, height) {
                let message = format!(
                    "pictures of {width} x {height} and of {} x {} in one batch",
                    picture.width(),
                    picture.height()
                );
                return Err(Error::argument("images", message));
            }
            for colour in 0..COLOURS {
                let bytes = picture.bytes().iter().skip(colour).step_by(COLOURS);
                values.extend(bytes.map(|&byte| self.value(byte, colour)));
            }
        }
        Ok(Tensor::from_vec(values, &[seen.len(), COLOURS, height, width], device)?)
    }

    /// One image `[3, height, width]` as a picture again; what is beyond the range of a byte is cut off.
    ///
    /// # Errors
    /// If it is of another shape.
    pub fn picture(&self, image: &Tensor) -> Result<Picture> {
        let &[COLOURS, height, width] = image.shape() else {
            let message = format!("shape {:?}, expected [{COLOURS}, height, width]", image.shape());
            return Err(Error::argument("image", message));
        };
        let values = image.permute(&[1, 2, 0])?.contiguous()?.to_f64_vec()?;
        let byte = |(n, value): (usize, &f64)| {
            let colour = n % COLOURS;
            ((value * self.deviation[colour] + self.mean[colour]) / self.rescale).round().clamp(0.0, 255.0) as u8
        };
        Picture::new(width, height, values.iter().enumerate().map(byte).collect())
    }

    fn value(&self, byte: u8, colour: usize) -> f32 {
        ((f64::from(byte) * self.rescale - self.mean[colour]) / self.deviation[colour]) as f32
    }
}

/// A size of both sides, given as one number or as two.
fn both(c: &Config, name: &str) -> Result<(usize, usize)> {
    match c.inner(name) {
        Ok(Some(inner)) => Ok((inner.size("width")?, inner.size("height")?)),
        Ok(None) => Ok((224, 224)),
        Err(_) => c.size(name).map(|side| (side, side)),
    }
}

/// The size to resize to. One number is the shorter side where the middle is cut out afterwards, in older files, else both sides.
fn size(c: &Config, cut: bool) -> Result<Size> {
    let one = |side| if cut { Size::Shorter(side) } else { Size::Both(side, side) };
    match c.inner("size") {
        Ok(None) => Ok(one(224)),
        Ok(Some(inner)) => match inner.size_if("shortest_edge")? {
            Some(side) if inner.size_if("longest_edge")?.is_none() => Ok(Size::Shorter(side)),
            Some(_) => Err(inner.error("longest_edge is not supported")),
            None => Ok(Size::Both(inner.size("width")?, inner.size("height")?)),
        },
        Err(_) => c.size("size").map(one),
    }
}

/// Width and height when the shorter side becomes `side`.
fn shorter(width: usize, height: usize, side: usize) -> (usize, usize) {
    let (short, long) = (width.min(height).max(1), width.max(height));
    // Cut off, not rounded, as in the preprocessing that checkpoints were made with.
    let long = (side as f64 * long as f64 / short as f64) as usize;
    if width <= height { (side, long) } else { (long, side) }
}

/// A number for each colour.
fn colours(c: &Config, name: &str, default: [f64; COLOURS]) -> Result<[f64; COLOURS]> {
    let json = c.json();
    let list = match json.get(name) {
        None | Some(Value::Null) => return Ok(default),
        Some(list) => list,
    };
    let numbers = list.as_array().map(|list| list.iter().filter_map(Value::as_f64).collect::<Vec<f64>>());
    numbers
        .and_then(|numbers| <[f64; COLOURS]>::try_from(numbers).ok())
        .ok_or_else(|| c.error(format!("{name} is {list}, expected {COLOURS} numbers")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn preprocess(value: Value) -> Result<Preprocess> {
        Preprocess::of(&Config::new(value).unwrap())
    }

    #[test]
    fn settings_of_all_spellings() {
        let vit = preprocess(json!({ "size": 32, "feature_extractor_type": "ViTFeatureExtractor" })).unwrap();
        assert_eq!(vit.size, Some((Size::Both(32, 32), Filter::Bilinear)));
        assert_eq!((vit.crop, vit.mean, vit.deviation), (None, HALVES, HALVES));
        let clip = preprocess(json!({ "size": 40, "crop_size": { "height": 30, "width": 20 }, "resample": 3,
            "image_processor_type": "CLIPImageProcessor" }))
        .unwrap();
        assert_eq!(clip.size, Some((Size::Shorter(40), Filter::Bicubic)));
        assert_eq!((clip.crop, clip.mean), (Some((20, 30)), CLIP[0]));
        let plain =
            json!({ "do_resize": false, "do_rescale": false, "do_normalize": false, "size": { "shortest_edge": 9 } });
        let plain = preprocess(plain).unwrap();
        assert_eq!((plain.size, plain.rescale, plain.mean), (None, 1.0, [0.0; 3]));
        for (wrong, word) in [
            (json!({ "resample": 0 }), "resample"),
            (json!({ "image_mean": [0.5, 0.5] }), "image_mean"),
            (json!({ "image_std": [0.5, 0, 0.5] }), "image_std"),
            (json!({ "size": "large" }), "size"),
            (json!({ "size": { "width": 3 } }), "height"),
            (json!({ "size": { "shortest_edge": 3, "longest_edge": 9 } }), "longest_edge"),
        ] {
            let sentence = preprocess(wrong).unwrap_err().to_string();
            assert!(sentence.contains(word), "{sentence}");
        }
    }

    #[test]
    fn values_are_scaled_and_centred_and_come_back() {
        let p = preprocess(json!({ "do_resize": false, "image_mean": [0.0, 0.5, 1.0], "image_std": [1.0, 0.5, 2.0] }));
        let p = p.unwrap();
        let picture = Picture::new(2, 1, vec![0, 0, 0, 255, 255, 255]).unwrap();
        let images = p.images(std::slice::from_ref(&picture), &Device::cpu()).unwrap();
        assert_eq!(images.shape(), [1, 3, 1, 2]);
        assert_eq!(images.to_vec::<f32>().unwrap(), [0.0, 1.0, -1.0, 1.0, -0.5, 0.0]);
        assert_eq!(p.picture(&images.select(0, 0).unwrap()).unwrap(), picture);
        assert!(p.picture(&images).is_err());
        let other = Picture::new(1, 1, vec![0; 3]).unwrap();
        assert!(p.images(&[picture, other], &Device::cpu()).is_err());
    }

    #[test]
    fn shorter_sides_keep_the_proportions() {
        assert_eq!(shorter(640, 480, 224), (298, 224));
        assert_eq!(shorter(3, 1000, 224), (224, 74_666));
        let p = preprocess(json!({ "size": { "shortest_edge": 4 }, "do_center_crop": true, "crop_size": 4 })).unwrap();
        let seen = p.seen(&Picture::new(5, 9, vec![9; 135]).unwrap()).unwrap();
        assert_eq!((seen.width(), seen.height()), (4, 4));
        // A thread of pixels would become 4 x 60,000.
        assert!(p.seen(&Picture::new(2, 30_000, vec![9; 180_000]).unwrap()).is_err());
    }
}
