//! Object Recognition as Next Token Prediction (Yue et al., 2023, arXiv 2312.02142): labels are written behind the tokens of an image. All see
//! the image, and no label sees another, so that many are written at once, each as if it were the first.

use wgrad::nn::{Build, Init, Module, Param, Visitor};
use wgrad::rng::Philox;
use wgrad::{DType, Device, Mask, Tensor, no_grad};

use super::lab::{Lab, Sizes, loss, train};
use super::{Report, System, Wanted, ensure, ragged};
use crate::Result;
use crate::front::synthetic::below;

/// The entry in the registry.
pub const SYSTEM: System = System {
    name: "next-token-recognition",
    title: "Object Recognition as Next Token Prediction",
    paper: "2312.02142",
    shows: "labels that do not see each other are written in one pass as they would be one by one, and name what is in the image",
    check,
};

/// Kinds of objects; each has a name of two tokens.
const KINDS: usize = 12;
const PATCHES: usize = 16;
const OBJECTS: usize = 3;
const ROWS: usize = 32;
/// Tokens of a label: a start and the first token of the name.
const LABEL: usize = 2;
const START: u32 = 2 * KINDS as u32;

struct Recogniser {
    lab: Lab,
    /// What a patch of each kind looks like, [kinds + 1, hidden]; the last is background.
    looks: Tensor,
    patch: Param,
}

impl Module for Recogniser {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("lab", &self.lab);
        v.param("patch", &self.patch);
    }
}

/// Who sees whom: the image is seen by all, a token of a label by those of the same label from it on.
fn mask(labels: usize) -> Result<Mask> {
    let length = (PATCHES + LABEL * labels) as i32;
    let (mut low, mut high) = (Vec::new(), Vec::new());
    for at in 0..length {
        let of_image = at < PATCHES as i32;
        let label = (at - PATCHES as i32) / LABEL as i32;
        low.push(if of_image { 0 } else { at });
        high.push(if of_image { length } else { PATCHES as i32 + (label + 1) * LABEL as i32 });
    }
    let ends = |values| Tensor::from_vec(values, &[1, 1, length as usize], &Device::cpu());
    Ok(Mask::intervals(&ends(low)?, &ends(high)?, None))
}

/// The share of objects among the most probable names of an image.
fn check(device: &Device, seed: u64) -> Result<Report> {
    device.set_seed(seed);
    let sizes = Sizes { vocab: 2 * KINDS + 1, hidden: 64, heads: 4, layers: 2 };
    let lab = Lab::new(&sizes, device, |_, build| sizes.attention_mixer(None, build))?;
    let looks = Tensor::normal(0.0, 1.0, &[KINDS + 1, sizes.hidden], DType::F32, device)?;
    let patch = Build::new(device).param(&[sizes.hidden, sizes.hidden], Init::KaimingNormal { gain: 0.3 })?;
    let model = Recogniser { lab, looks, patch };
    let draw = |stream: u64, number: u64| {
        let mut rng = Philox::new(seed, stream << 32 | number);
        let mut below = |n: usize| below(n, &mut rng);
        let (mut patches, mut kinds) = (Vec::new(), Vec::new());
        for _ in 0..ROWS {
            let mut row = vec![KINDS as u32; PATCHES];
            let mut here: Vec<u32> = Vec::new();
            while here.len() < OBJECTS {
                let (kind, at) = (below(KINDS) as u32, below(PATCHES));
                if row[at] == KINDS as u32 && !here.contains(&kind) {
                    row[at] = kind;
                    here.push(kind);
                }
            }
            patches.extend(row);
            kinds.extend(here);
        }
        (patches, kinds)
    };
    let together = mask(OBJECTS)?;
    // Logits at every token of the labels, for names `kinds` of which `labels` stand in a row.
    let run = |patches: &[u32], kinds: &[u32], labels: usize, mask: &Mask| {
        let seen = Tensor::from_slice(patches, &[ROWS, PATCHES], device)?;
        let noise = Tensor::normal(0.0, 0.5, &[ROWS, PATCHES, model.looks.size(1)?], DType::F32, device)?;
        let image = model.looks.embedding(&seen, None)?.add(&noise)?.linear(&model.patch.tensor(), None)?;
        let tokens: Vec<u32> = kinds.iter().flat_map(|&kind| [START, 2 * kind]).collect();
        let tokens = Tensor::from_vec(tokens, &[ROWS, LABEL * labels], device)?;
        let x = Tensor::concat(&[&image, &model.lab.embed(&tokens)?], 1)?;
        // A label's tokens stand behind the image whatever label they belong to.
        let places = (0..PATCHES).chain((0..LABEL * labels).map(|at| PATCHES + at % LABEL)).map(|at| at as i32);
        let places: Vec<i32> = std::iter::repeat_n(places.collect::<Vec<_>>(), ROWS).flatten().collect();
        let sizes = [ROWS, PATCHES + LABEL * labels];
        let places = Tensor::from_vec(places, &sizes, device)?;
        let pass = model.lab.pass(mask, sizes, Some(&places), device)?;
        let states = model.lab.states(x, &pass)?.narrow(1, PATCHES, LABEL * labels)?;
        model.lab.logits(&states)
    };
    train(&model, 500, 3e-3, |step| {
        let (patches, kinds) = draw(1, step);
        let labels: Vec<i32> = kinds.iter().flat_map(|&kind| [2 * kind as i32, 2 * kind as i32 + 1]).collect();
        loss(&run(&patches, &kinds, OBJECTS, &together)?, &labels)
    })?;
    let (patches, kinds) = draw(2, 0);
    no_grad(|| {
        // One pass for all labels, and one for each.
        device.set_seed(seed);
        let all = run(&patches, &kinds, OBJECTS, &together)?;
        let alone = mask(1)?;
        for label in 0..OBJECTS {
            let own: Vec<u32> = kinds.chunks(OBJECTS).map(|row| row[label]).collect();
            device.set_seed(seed);
            let one = run(&patches, &own, 1, &alone)?;
            let apart = ragged::apart(&all.narrow(1, LABEL * label, LABEL)?, &one)?;
            ensure(apart < 1e-3, || format!("label {label} differs by {apart:.1e} from the pass of its own"))?;
        }
        let (_, best) = all.narrow(1, 0, 1)?.squeeze(1)?.topk(OBJECTS, -1, true)?;
        let best = best.to_vec::<u32>()?;
        let named = best.chunks(OBJECTS).zip(kinds.chunks(OBJECTS));
        let named = named.map(|(best, kinds)| kinds.iter().filter(|&&kind| best.contains(&(2 * kind))).count());
        Ok(Report {
            property: format!("objects named among the {OBJECTS} most probable names of an image"),
            measured: named.sum::<usize>() as f64 / kinds.len() as f64,
            wanted: Wanted::AtLeast,
            threshold: 0.9,
        })
    })
}
