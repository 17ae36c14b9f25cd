//! Writing safetensors files.

use std::collections::HashMap;
use std::io::Write;

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::{DType, Error, Result, Tensor};

/// Writes tensors to a safetensors file, in one step: a crash leaves the old file or the new one. Larger element types come
/// first, then names in order, so the same tensors give the same bytes. Waits for the device.
///
/// # Errors
/// If a name comes twice, the file cannot be written, or a tensor cannot be read back.
#[cfg(not(target_arch = "wasm32"))]
pub fn save(path: impl AsRef<std::path::Path>, tensors: &[(String, Tensor)]) -> Result<()> {
    super::fs::replace(path.as_ref(), |file| write_to(path.as_ref(), file, tensors))
}

/// The bytes of a safetensors file with these tensors.
///
/// # Errors
/// If a name comes twice, or a tensor cannot be read back.
pub fn to_bytes(tensors: &[(String, Tensor)]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_to(std::path::Path::new("safetensors"), &mut bytes, tensors)?;
    Ok(bytes)
}

/// Streams the file: one tensor at a time is in host memory.
pub(super) fn write_to(path: &std::path::Path, out: &mut impl Write, tensors: &[(String, Tensor)]) -> Result<()> {
    let mut order: Vec<&(String, Tensor)> = tensors.iter().collect();
    order.sort_by(|(a_name, a), (b_name, b)| b.dtype().size().cmp(&a.dtype().size()).then(a_name.cmp(b_name)));
    let mut names: Vec<&str> = order.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if let Some(double) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::file(path, format!("two tensors are named `{}`", double[0])));
    }
    let mut end = 0;
    let infos = order.iter().map(|(name, tensor)| {
        let start = end;
        end += tensor.elements() * tensor.dtype().size();
        let info =
            TensorInfo { dtype: stored(tensor.dtype()), shape: tensor.shape().to_vec(), data_offsets: (start, end) };
        (name.clone(), info)
    });
    // Hugging Face's loader asks for this entry.
    let about = HashMap::from([("format".to_string(), "pt".to_string())]);
    let metadata = Metadata::new(Some(about), infos.collect()).map_err(|e| Error::file(path, e))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|e| Error::file(path, e))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(|e| Error::file(path, e));
    put(&(header.len() as u64).to_le_bytes())?;
    put(&header)?;
    for (_, tensor) in order {
        put(&bytes_of(tensor)?)?;
    }
    Ok(())
}

fn stored(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::F64 => Dtype::F64,
        DType::I32 => Dtype::I32,
        DType::U32 => Dtype::U32,
        DType::Bool => Dtype::BOOL,
    }
}

fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>> {
    fn plain<T: bytemuck::NoUninit>(values: &[T]) -> Vec<u8> {
        bytemuck::cast_slice(values).to_vec()
    }
    Ok(match tensor.dtype() {
        DType::F32 => plain(&tensor.to_vec::<f32>()?),
        DType::F16 => plain(&tensor.to_vec::<f16>()?),
        DType::BF16 => plain(&tensor.to_vec::<bf16>()?),
        DType::F64 => plain(&tensor.to_vec::<f64>()?),
        DType::I32 => plain(&tensor.to_vec::<i32>()?),
        DType::U32 => plain(&tensor.to_vec::<u32>()?),
        DType::Bool => tensor.to_vec::<bool>()?.into_iter().map(u8::from).collect(),
    })
}
