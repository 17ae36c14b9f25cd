//! Transfusion (Zhou et al., 2024, arXiv 2408.11039): one transformer on sequences of text and images. Text is predicted token by token; the
//! patches of an image are denoised together, each seeing the whole image and what came before it.

use wgrad::nn::{Build, Module, Visitor};
use wgrad::rng::Philox;
use wgrad::{DType, Device, Mask, Reduction, Tensor, nn, no_grad};

use super::lab::{Lab, Sizes, loss, train};
use super::{Report, System, Wanted};
use crate::Result;
use crate::corrupt::mlm::IGNORE;
use crate::weights::{Form, Linear};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "transfusion",
    title: "Transfusion: Predict the Next Token and Diffuse Images with One Multi-Modal Model",
    paper: "2408.11039",
    shows: "patches that see their whole image are denoised better than patches that see what is before them",
    check,
};

/// Kinds of images; a caption says which.
const KINDS: usize = 6;
const CAPTION: usize = 4;
const PATCHES: usize = 16;
/// Numbers of a patch.
const PIXELS: usize = 2;
const LENGTH: usize = CAPTION + PATCHES;
const ROWS: usize = 32;
/// Weight of the loss of images.
const IMAGES: f64 = 5.0;

struct Transfusion {
    lab: Lab,
    /// Patches and their level of noise, to vectors.
    patch_in: Linear,
    patch_out: Linear,
}

impl Module for Transfusion {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("lab", &self.lab);
        v.module("patch_in", &self.patch_in);
        v.module("patch_out", &self.patch_out);
    }
}

/// Captions and images, noised.
struct Scenes {
    captions: Vec<u32>,
    noised: Vec<f32>,
    noise: Vec<f32>,
}

/// An image is its kind's pattern, the same in all patches but for the place, times a number and a sign of its own: what a patch shows is
/// known best from all of them. Signal and noise have the weights of a cosine schedule (Nichol and Dhariwal, 2021), of its middle part: where
/// there is hardly any noise or any signal, there is nothing to tell.
fn scenes(rng: &mut Philox) -> Scenes {
    let uniform = |rng: &mut Philox| (f64::from(rng.next_u32()) + 0.5) / 4_294_967_296.0;
    let normal = |rng: &mut Philox| (-2.0 * uniform(rng).ln()).sqrt() * (std::f64::consts::TAU * uniform(rng)).cos();
    let mut all = Scenes { captions: vec![], noised: vec![], noise: vec![] };
    for _ in 0..ROWS {
        let kind = (uniform(rng) * KINDS as f64) as usize;
        // The caption repeats the kind's token, then asks for the image.
        all.captions.extend([kind as u32, (kind + 1) as u32 % KINDS as u32, kind as u32, KINDS as u32]);
        let (strength, level) = (2.0 * normal(rng), 0.3 + 0.5 * uniform(rng));
        let angle = level * std::f64::consts::FRAC_PI_2;
        let (signal, spread) = (angle.cos(), angle.sin());
        for patch in 0..PATCHES {
            for pixel in 0..PIXELS {
                let wave = ((kind + 1) * (pixel + 1)) as f64 + 0.7 * patch as f64;
                let noise = normal(rng);
                all.noised.push((signal * strength * wave.sin() + spread * noise) as f32);
                all.noise.push(noise as f32);
            }
            // The level of noise goes with the patch.
            all.noised.push(level as f32);
        }
    }
    all
}

/// Who sees whom: an image's patches are seen from its first patch on, a token from itself on.
fn mask(whole_images: bool) -> Result<Mask> {
    let low = (0..LENGTH as i32).map(|at| if whole_images { at.min(CAPTION as i32) } else { at });
    let cpu = Device::cpu();
    let low = Tensor::from_vec(low.collect(), &[1, 1, LENGTH], &cpu)?;
    Ok(Mask::intervals(&low, &Tensor::full(LENGTH as f64, &[1, 1, LENGTH], DType::I32, &cpu)?, None))
}

/// Losses of text and of images on fresh scenes.
fn learned(whole_images: bool, device: &Device, seed: u64) -> Result<[f64; 2]> {
    device.set_seed(seed);
    let sizes = Sizes { vocab: KINDS + 1, hidden: 64, heads: 4, layers: 2 };
    let lab = Lab::new(&sizes, device, |_, build| sizes.attention_mixer(None, build))?;
    let build = Build::new(device);
    let linear = |inputs, outputs| Linear::new(inputs, outputs, true, Form::Rows, &build);
    let model =
        Transfusion { lab, patch_in: linear(PIXELS + 1, sizes.hidden)?, patch_out: linear(sizes.hidden, PIXELS)? };
    let mask = mask(whole_images)?;
    let losses = |stream: u64, number: u64| {
        let scenes = scenes(&mut Philox::new(seed, stream << 32 | number));
        let labels: Vec<i32> = scenes
            .captions
            .chunks(CAPTION)
            .flat_map(|row| row[1..].iter().map(|&id| id as i32).chain([IGNORE]).collect::<Vec<_>>())
            .collect();
        let captions = Tensor::from_vec(scenes.captions, &[ROWS, CAPTION], device)?;
        let noised = Tensor::from_vec(scenes.noised, &[ROWS, PATCHES, PIXELS + 1], device)?;
        let noise = Tensor::from_vec(scenes.noise, &[ROWS, PATCHES, PIXELS], device)?;
        let x = Tensor::concat(&[&model.lab.embed(&captions)?, &model.patch_in.forward(&noised)?], 1)?;
        let pass = model.lab.pass(&mask, [ROWS, LENGTH], None, device)?;
        let states = model.lab.states(x, &pass)?;
        let text = loss(&model.lab.logits(&states.narrow(1, 0, CAPTION)?)?, &labels)?;
        let found = model.patch_out.forward(&states.narrow(1, CAPTION, PATCHES)?)?;
        Ok::<_, crate::Error>([text, nn::loss::mse(&found, &noise, Reduction::Mean)?])
    };
    train(&model, 500, 3e-3, |step| {
        let [text, images] = losses(1, step)?;
        Ok(text.add(&images.mul_scalar(IMAGES)?)?)
    })?;
    let mut sums = [0.0; 2];
    for number in 0..8 {
        for (sum, loss) in sums.iter_mut().zip(no_grad(|| losses(2, number))?) {
            *sum += loss.item()? / 8.0;
        }
    }
    Ok(sums)
}

/// The loss of images where patches see what is before them, over that where they see the whole image.
fn check(device: &Device, seed: u64) -> Result<Report> {
    let ([text, own], [_, causal]) = (learned(true, device, seed)?, learned(false, device, seed)?);
    Ok(Report {
        property: format!(
            "loss of denoising under a causal mask ({causal:.3}) over that of whole images ({own:.3}; text {text:.3})"
        ),
        measured: causal / own,
        wanted: Wanted::AtLeast,
        threshold: 1.1,
    })
}
