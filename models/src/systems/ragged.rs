//! Texts of unequal lengths, padded and packed: the same results, and the times of both.

use std::ops::RangeInclusive;
use std::time::Instant;

use wgrad::rng::Philox;
use wgrad::{Device, Tensor, no_grad};

use super::{Report, Wanted, ensure};
use crate::Result;
use crate::corrupt::mlm::IGNORE;
use crate::front::embeddings::TextInput;
use crate::front::packing::Packed;
use crate::zoo::TextModel;

/// Texts of random tokens.
pub struct Ragged {
    /// One text each.
    pub rows: Vec<Vec<u32>>,
}

impl Ragged {
    /// `count` texts, most of them short: lengths are uniform in their logarithm.
    pub fn draw(count: usize, lengths: RangeInclusive<usize>, vocab: u32, rng: &mut Philox) -> Self {
        let (least, most) = (*lengths.start().max(&1) as f64, *lengths.end() as f64);
        let rows = (0..count).map(|_| {
            let share = f64::from(rng.next_u32()) / 4_294_967_296.0;
            let length = (least * (most / least).powf(share)).round() as usize;
            (0..length).map(|_| 1 + rng.next_u32() % (vocab - 1)).collect()
        });
        Ragged { rows: rows.collect() }
    }
}

/// Texts in rows of their own, as long as the longest.
fn padded(texts: &Ragged, device: &Device) -> Result<Tensor> {
    let longest = texts.rows.iter().map(Vec::len).max().unwrap_or(0);
    let ids = texts.rows.iter().flat_map(|row| (0..longest).map(|at| row.get(at).copied().unwrap_or(0))).collect();
    Ok(Tensor::from_vec(ids, &[texts.rows.len(), longest], device)?)
}

/// The largest difference of two tensors.
///
/// # Errors
/// If their shapes differ.
pub fn apart(a: &Tensor, b: &Tensor) -> Result<f64> {
    Ok(a.sub(b)?.abs()?.max(&[], false)?.item()?)
}

/// How far training on packed texts is from training on padded ones: the difference of the losses of a masked language model that is asked
/// for every seventh token, and the largest difference of the gradients of a parameter, as a share of its largest gradient.
///
/// # Errors
/// If the model has no head, or the device fails.
pub fn training_apart(model: &dyn TextModel, texts: &Ragged, device: &Device) -> Result<[f64; 2]> {
    let rows = Packed::new(&texts.rows, 0, device)?;
    let lengths: Vec<usize> = texts.rows.iter().map(Vec::len).collect();
    let ids = padded(texts, device)?;
    let (packed, padded) = (rows.input(), TextInput { lengths: Some(&lengths), ..TextInput::new(&ids) });
    let labels: Vec<i32> = texts
        .rows
        .iter()
        .flatten()
        .enumerate()
        .map(|(at, &id)| if at.is_multiple_of(7) { id as i32 } else { IGNORE })
        .collect();
    let labels = Tensor::from_vec(labels.clone(), &[labels.len()], device)?;
    let trained = |states: Vec<Tensor>| {
        let states = Tensor::concat(&states.iter().collect::<Vec<_>>(), 0)?;
        let loss = model.loss(&model.logits(&states)?, &labels, None)?;
        Ok::<_, crate::Error>((loss.item()?, loss.backward()?))
    };
    let (own, own_gradients) = trained(rows.packing.unpack(&model.encode(&packed)?)?)?;
    let states = model.encode(&padded)?;
    let each = lengths.iter().enumerate().map(|(text, &length)| states.select(0, text)?.narrow(0, 0, length));
    let (other, other_gradients) = trained(each.collect::<wgrad::Result<_>>()?)?;
    let mut most = 0.0f64;
    for (name, param) in model.named_parameters() {
        match (param.gradient(&own_gradients), param.gradient(&other_gradients)) {
            (Some(a), Some(b)) => {
                let largest = b.abs()?.max(&[], false)?.item()?;
                most = most.max(apart(a, b)? / largest.max(1e-6));
            }
            (None, None) => {}
            _ => return Err(crate::Error::Check { message: format!("only one of both has a gradient of {name}") }),
        }
    }
    Ok([(own - other).abs(), most])
}

/// How many times faster a model is on packed texts than on padded ones, after the states of all tokens have been found equal.
///
/// # Errors
/// If they are not.
pub fn report(model: &dyn TextModel, texts: &Ragged, device: &Device) -> Result<Report> {
    let rows = Packed::new(&texts.rows, 0, device)?;
    let lengths: Vec<usize> = texts.rows.iter().map(Vec::len).collect();
    let padded = padded(texts, device)?;
    let of_packed = rows.input();
    let of_padded = TextInput { lengths: Some(&lengths), ..TextInput::new(&padded) };
    let run = |input: &TextInput| no_grad(|| model.encode(input));
    let mut difference = 0.0f64;
    let padded_states = run(&of_padded)?;
    for (text, state) in rows.packing.unpack(&run(&of_packed)?)?.iter().enumerate() {
        let own = padded_states.select(0, text)?.narrow(0, 0, lengths[text])?;
        difference = difference.max(apart(state, &own)?);
    }
    ensure(difference < 1e-3, || format!("packed states differ from padded ones by {difference:.1e}"))?;
    let mut least = [f64::INFINITY; 2];
    for _ in 0..5 {
        for (least, input) in least.iter_mut().zip([&of_padded, &of_packed]) {
            let start = Instant::now();
            run(input)?.sum_all()?.item()?;
            *least = least.min(start.elapsed().as_secs_f64());
        }
    }
    let (texts, packed) = (texts.rows.len(), rows.packing.rows.len());
    Ok(Report {
        property: format!(
            "times faster in {packed} packed rows than in {texts} padded ones (states differ by {difference:.0e} at most)"
        ),
        measured: least[0] / least[1],
        wanted: Wanted::AtLeast,
        threshold: 1.3,
    })
}
