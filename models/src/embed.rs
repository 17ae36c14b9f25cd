//! Texts as vectors.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use wgrad::{DType, Device, Tensor, no_grad};

use crate::front::embeddings::TextInput;
use crate::front::packing::Packed;
use crate::zoo::TextModel;
use crate::{Error, Result, fsx};

/// Texts that are run at a time.
const TEXTS: usize = 32;

/// What of a text's states makes its vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Pool {
    /// Their mean.
    #[default]
    Mean,
    /// That of the first token.
    Cls,
}

/// Vectors of texts, one after the other, each `model.about().hidden` numbers, of length 1 if `unit`.
///
/// # Errors
/// If a text has no tokens or too many, or an id is outside the vocabulary.
pub fn embed(model: &dyn TextModel, texts: &[Vec<u32>], pool: Pool, unit: bool, device: &Device) -> Result<Vec<f32>> {
    let mut vectors = Vec::with_capacity(texts.len() * model.about().hidden);
    if texts.iter().any(Vec::is_empty) {
        return Err(Error::text("a text without tokens has no vector"));
    }
    for texts in texts.chunks(TEXTS) {
        let pooled = no_grad(|| {
            let pooled = |states: Tensor| match pool {
                Pool::Cls => states.select(0, 0),
                Pool::Mean => states.mean(&[0], false),
            };
            let states = states(model, texts, device)?;
            let pooled: Vec<Tensor> =
                states.into_iter().map(|states| pooled(states.cast(DType::F32)?)).collect::<wgrad::Result<_>>()?;
            Ok::<_, Error>(Tensor::stack(&pooled.iter().collect::<Vec<_>>(), 0)?)
        })?;
        vectors.extend(pooled.to_vec::<f32>()?);
    }
    if unit {
        for vector in vectors.chunks_mut(model.about().hidden.max(1)) {
            let length = vector.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt().max(1e-12);
            vector.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
        }
    }
    Ok(vectors)
}

/// Hidden states `[its length, hidden]` of each text, none of them empty. No time goes into padding: texts are packed into rows where the model can
/// tell them apart there, else those of one length are run together.
///
/// # Errors
/// If a text has too many tokens, or an id is outside the vocabulary.
pub fn states(model: &dyn TextModel, texts: &[Vec<u32>], device: &Device) -> Result<Vec<Tensor>> {
    if let Some(first) = model.about().packs {
        let packed = Packed::new(texts, first, device)?;
        return packed.packing.unpack(&model.encode(&packed.input())?);
    }
    let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (number, text) in texts.iter().enumerate() {
        by_length.entry(text.len()).or_default().push(number);
    }
    let mut all = Vec::with_capacity(texts.len());
    for (length, numbers) in by_length {
        let ids: Vec<u32> = numbers.iter().flat_map(|&number| texts[number].iter().copied()).collect();
        let ids = Tensor::from_vec(ids, &[numbers.len(), length], device)?;
        let states = model.encode(&TextInput::new(&ids))?;
        for (row, number) in numbers.into_iter().enumerate() {
            all.push((number, states.select(0, row)?));
        }
    }
    all.sort_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, states)| states).collect())
}

/// For each of the vectors of `width` the `count` others of the largest cosine, the nearest first.
pub fn nearest(vectors: &[f32], width: usize, count: usize) -> Vec<Vec<(usize, f64)>> {
    let rows: Vec<&[f32]> = vectors.chunks_exact(width.max(1)).collect();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let lengths: Vec<f64> = rows.iter().map(|row| dot(row, row).sqrt().max(1e-12)).collect();
    let of_row = |(i, row): (usize, &&[f32])| {
        let others = (0..rows.len()).filter(|&j| j != i);
        let mut all: Vec<(usize, f64)> = others.map(|j| (j, dot(row, rows[j]) / (lengths[i] * lengths[j]))).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(count);
        all
    };
    rows.iter().enumerate().map(of_row).collect()
}

/// Writes vectors of `width` as a matrix in NumPy's format.
///
/// # Errors
/// If the file cannot be written.
pub fn write_npy(path: &Path, vectors: &[f32], width: usize) -> Result<()> {
    let rows = vectors.len() / width.max(1);
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}");
    // Magic, version and length take ten bytes; data begins at a multiple of 64.
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    fsx::write_with(path, |file| {
        file.write_all(b"\x93NUMPY\x01\x00")?;
        file.write_all(&(header.len() as u16).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        vectors.iter().try_for_each(|v| file.write_all(&v.to_le_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_by_their_angle() {
        let vectors = [1.0, 0.0, 2.0, 0.1, 0.0, 1.0, -3.0, 0.0];
        let near = nearest(&vectors, 2, 2);
        assert_eq!(near[0].iter().map(|(j, _)| *j).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(near[3][1].0, 1);
        assert!((near[0][0].1 - 2.0 / (4.01f64).sqrt()).abs() < 1e-6);
    }

    #[test]
    fn numpy_files_begin_at_a_multiple_of_64() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        write_npy(&path, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3).unwrap();
        let bytes = std::fs::read(path).unwrap();
        let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!((start % 64, bytes.len() - start, &bytes[..6]), (0, 24, &b"\x93NUMPY"[..]));
        assert!(String::from_utf8_lossy(&bytes[10..start]).contains("(2, 3)"));
    }
}
