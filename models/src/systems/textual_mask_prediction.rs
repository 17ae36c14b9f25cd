//! STAMP (2026): Better, Stronger, Faster: Tackling the Trilemma in MLLM-based Segmentation with Simultaneous Textual Mask Prediction. A
//! dialogue is causal; then one more pass asks of every patch of the image at once whether it belongs to what was spoken of: a mask token for
//! each patch, which sees everything, the other mask tokens too.

use wgrad::nn::{Build, Init, Module, Param, Visitor};
use wgrad::rng::Philox;
use wgrad::{DType, Device, Mask, Tensor, no_grad};

use super::lab::{Lab, Sizes, loss, train};
use super::{Report, System, Wanted};
use crate::Result;
use crate::front::synthetic::below;
use crate::weights::{Form, Linear};

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "stamp",
    title: "Better, Stronger, Faster: Tackling the Trilemma in MLLM-based Segmentation with Simultaneous Textual Mask Prediction",
    paper: "STAMP",
    shows: "one pass over a mask token for each patch outlines the object that a question names",
    check,
};

const SIDE: usize = 6;
const PATCHES: usize = SIDE * SIDE;
const KINDS: usize = 5;
/// The image, one token of dialogue that names a kind, the mask tokens.
const LENGTH: usize = 2 * PATCHES + 1;
const ROWS: usize = 16;

struct Stamp {
    lab: Lab,
    looks: Tensor,
    /// Of each place of the image, shared by patches and mask tokens.
    place: Param,
    mask_token: Param,
    head: Linear,
}

impl Module for Stamp {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("lab", &self.lab);
        v.param("place", &self.place);
        v.param("mask_token", &self.mask_token);
        v.module("head", &self.head);
    }
}

/// Images of two rectangles of different kinds on a background, the kind that is asked for, and where it is.
fn scenes(rng: &mut Philox) -> (Vec<u32>, Vec<u32>, Vec<i32>) {
    let mut below = |n: usize| below(n, rng);
    let (mut images, mut asked, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROWS {
        let mut image = vec![KINDS as u32; PATCHES];
        let first = below(KINDS);
        for kind in [first, (first + 1 + below(KINDS - 1)) % KINDS] {
            let (height, width) = (2 + below(3), 2 + below(3));
            let (top, left) = (below(SIDE - height + 1), below(SIDE - width + 1));
            for at in 0..height * width {
                image[(top + at / width) * SIDE + left + at % width] = kind as u32;
            }
        }
        asked.push(first as u32);
        labels.extend(image.iter().map(|&kind| i32::from(kind == first as u32)));
        images.extend(image);
    }
    (images, asked, labels)
}

/// The share of patches, of those that belong to the object or were said to, of which both is true (intersection over union).
fn check(device: &Device, seed: u64) -> Result<Report> {
    device.set_seed(seed);
    let sizes = Sizes { vocab: KINDS, hidden: 64, heads: 4, layers: 2 };
    let lab = Lab::new(&sizes, device, |_, build| sizes.plain_mixer(build))?;
    let build = Build::new(device);
    let vectors = |rows: usize| build.param(&[rows, sizes.hidden], Init::Normal { mean: 0.0, std: 0.5 });
    let model = Stamp {
        lab,
        looks: Tensor::normal(0.0, 1.0, &[KINDS + 1, sizes.hidden], DType::F32, device)?,
        place: vectors(PATCHES)?,
        mask_token: vectors(1)?,
        head: Linear::new(sizes.hidden, 2, true, Form::Rows, &build)?,
    };
    // Image and dialogue are causal; the mask tokens see all, and each other.
    let first = (PATCHES + 1) as i32;
    let low: Vec<i32> = (0..LENGTH as i32).map(|at| at.min(first)).collect();
    let cpu = Device::cpu();
    let high = Tensor::full(LENGTH as f64, &[1, 1, LENGTH], DType::I32, &cpu)?;
    let mask = Mask::intervals(&Tensor::from_vec(low, &[1, 1, LENGTH], &cpu)?, &high, None);
    let pass = model.lab.pass(&mask, [ROWS, LENGTH], None, device)?;
    let run = |stream: u64, number: u64| {
        let (images, asked, labels) = scenes(&mut Philox::new(seed, stream << 32 | number));
        let images = Tensor::from_vec(images, &[ROWS, PATCHES], device)?;
        let noise = Tensor::normal(0.0, 0.3, &[ROWS, PATCHES, sizes.hidden], DType::F32, device)?;
        let place = model.place.tensor();
        let image = model.looks.embedding(&images, None)?.add(&noise)?.add(&place)?;
        let asked = model.lab.embed(&Tensor::from_vec(asked, &[ROWS, 1], device)?)?;
        let masks = place.add(&model.mask_token.tensor())?.unsqueeze(0)?.expand(&[ROWS, PATCHES, sizes.hidden])?;
        let states = model.lab.states(Tensor::concat(&[&image, &asked, &masks], 1)?, &pass)?;
        let logits = model.head.forward(&states.narrow(1, PATCHES + 1, PATCHES)?)?;
        Ok::<_, crate::Error>((logits, labels))
    };
    train(&model, 800, 3e-3, |step| {
        let (logits, labels) = run(1, step)?;
        loss(&logits, &labels)
    })?;
    let (mut both, mut either) = (0, 0);
    for number in 0..8 {
        let (logits, labels) = no_grad(|| run(2, number))?;
        let said = logits.argmax(-1, false)?.to_vec::<u32>()?;
        for (&said, &label) in said.iter().zip(&labels) {
            both += usize::from(said == 1 && label == 1);
            either += usize::from(said == 1 || label == 1);
        }
    }
    Ok(Report {
        property: format!("intersection over union of {PATCHES} patches outlined in one pass"),
        measured: both as f64 / either.max(1) as f64,
        wanted: Wanted::AtLeast,
        threshold: 0.85,
    })
}
