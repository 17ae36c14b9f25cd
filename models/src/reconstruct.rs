//! What a masked autoencoder makes of the parts of a picture that it does not see.

use wgrad::rng::Philox;
use wgrad::{DType, Device, Tensor, no_grad};

use crate::Result;
use crate::classify::expect_colours;
use crate::front::picture::{COLOURS, Picture};
use crate::front::preprocess::Preprocess;
use crate::zoo::Model;

/// What stands in the picture where the model saw nothing.
const GREY: u8 = 128;

/// A picture and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reconstruction {
    /// What the model would have seen of the picture, in its size.
    pub whole: Picture,
    /// The same with hidden patches grey.
    pub masked: Picture,
    /// The same with hidden patches as the model rebuilt them.
    pub rebuilt: Picture,
    /// Mean squared error of hidden patches in the model's own numbers: what it was trained to make small.
    pub loss: f64,
}

/// Hides patches of a picture, drawn from a seed, and lets a masked autoencoder rebuild them.
///
/// # Errors
/// If the model is none, the preprocessing does not give the size or the colours that it wants, or memory is exhausted.
pub fn reconstruct(
    model: &Model,
    preprocess: &Preprocess,
    picture: &Picture,
    seed: u64,
    device: &Device,
) -> Result<Reconstruction> {
    let Model::VitMae(mae) = model else {
        return Err(model.config().error("the model rebuilds no images: a masked autoencoder (vit_mae) is expected"));
    };
    expect_colours(model)?;
    let whole = preprocess.seen(picture)?;
    let mut rng = Philox::new(seed, 0);
    let noise: Vec<f32> = (0..mae.sizes().side()?.pow(2)).map(|_| rng.next_f32()).collect();
    no_grad(|| {
        let images = preprocess.images(std::slice::from_ref(&whole), device)?;
        let noise = Tensor::from_slice(&noise, &[1, noise.len()], device)?;
        let rebuilt = mae.rebuild(&images, &noise, None)?;
        let [restored, hidden] = mae.restored(&images, &rebuilt)?;
        let hidden = hidden.cast(DType::F32)?.to_vec::<f32>()?;
        let own = whole.bytes().chunks_exact(COLOURS).zip(hidden);
        let masked = own.flat_map(|(pixel, hidden)| if hidden > 0.5 { vec![GREY; COLOURS] } else { pixel.to_vec() });
        Ok(Reconstruction {
            masked: Picture::new(whole.width(), whole.height(), masked.collect())?,
            rebuilt: preprocess.picture(&restored.select(0, 0)?)?,
            loss: mae.loss(&images, &rebuilt)?.item()?,
            whole,
        })
    })
}
