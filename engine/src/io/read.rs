//! Reading safetensors files, one or many, without copying them first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};

use crate::layout::Layout;
use crate::storage::{Element, Storage};
use crate::{DType, Device, Error, Result, Tensor};

/// Tensors of a safetensors file, or of a folder with an index over several. Files are mapped into memory: only what is
/// asked for is read, and nothing is copied before it goes to the device.
pub struct Weights {
    path: PathBuf,
    shards: Vec<Shard>,
    /// Name of a tensor, and where it is.
    index: BTreeMap<String, Place>,
}

/// A tensor in a shard.
struct Place {
    shard: usize,
    /// The name in the file.
    stored: String,
}

struct Shard {
    path: PathBuf,
    bytes: Bytes,
    /// Where the data begins.
    start: usize,
    metadata: Metadata,
}

enum Bytes {
    #[cfg(not(target_arch = "wasm32"))]
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

impl Weights {
    /// Opens a safetensors file, an index (`*.index.json`), or a folder with `model.safetensors` or
    /// `model.safetensors.index.json` in it. The files must not be changed in place while they are open; replacing them
    /// by renaming, as this module writes them, is fine.
    ///
    /// # Errors
    /// If a file is missing, truncated or damaged: names it.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let mut path = path.as_ref().to_path_buf();
        if path.is_dir() {
            let (single, index) = (path.join("model.safetensors"), path.join("model.safetensors.index.json"));
            path = match (single.exists(), index.exists()) {
                (true, _) => single,
                (false, true) => index,
                _ => {
                    let message = "holds neither model.safetensors nor model.safetensors.index.json";
                    return Err(Error::file(path, message));
                }
            };
        }
        if path.extension().is_some_and(|e| e == "json") {
            return Self::open_index(path);
        }
        let shard = Shard::open(path.clone())?;
        Ok(Self::single(path, shard))
    }

    /// The content of a safetensors file; `name` stands for the file's name in errors.
    ///
    /// # Errors
    /// If the bytes are truncated or damaged.
    pub fn from_bytes(name: impl AsRef<Path>, bytes: Vec<u8>) -> Result<Self> {
        let path = name.as_ref().to_path_buf();
        let shard = Shard::new(path.clone(), Bytes::Owned(bytes))?;
        Ok(Self::single(path, shard))
    }

    fn single(path: PathBuf, shard: Shard) -> Self {
        let index = shard.metadata.offset_keys().into_iter();
        let index = index.map(|name| (name.clone(), Place { shard: 0, stored: name })).collect();
        Weights { path, shards: vec![shard], index }
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn open_index(path: PathBuf) -> Result<Self> {
        let text = std::fs::read(&path).map_err(|e| Error::file(&path, e))?;
        let json: serde_json::Value = serde_json::from_slice(&text).map_err(|e| Error::file(&path, e))?;
        let map = json.get("weight_map").and_then(|m| m.as_object());
        let map = map.ok_or_else(|| Error::file(&path, "has no object `weight_map` from tensors to files"))?;
        let mut files: BTreeMap<&str, usize> = BTreeMap::new();
        let mut weights = Weights { path: path.clone(), shards: Vec::new(), index: BTreeMap::new() };
        for (name, file) in map {
            let plain = |file: &&str| Path::new(file).file_name().is_some_and(|n| n == *file);
            let file = file.as_str().filter(plain);
            let file = file.ok_or_else(|| Error::file(&path, format!("gives no plain file name for `{name}`")))?;
            let shard = match files.get(file) {
                Some(&shard) => shard,
                None => {
                    weights.shards.push(Shard::open(path.with_file_name(file))?);
                    files.insert(file, weights.shards.len() - 1);
                    weights.shards.len() - 1
                }
            };
            if weights.shards[shard].metadata.info(name).is_none() {
                return Err(Error::file(&weights.shards[shard].path, format!("lacks `{name}`, which the index names")));
            }
            weights.index.insert(name.clone(), Place { shard, stored: name.clone() });
        }
        Ok(weights)
    }

    /// The same tensors under other names; those for which `rename` has none are left out.
    ///
    /// # Errors
    /// If two tensors get one name.
    pub fn renamed(self, rename: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let Weights { path, shards, index: old } = self;
        let mut index: BTreeMap<String, Place> = BTreeMap::new();
        for (name, place) in old {
            let Some(name) = rename(&name) else { continue };
            if let Some(other) = index.get(&name) {
                let (a, b) = (&other.stored, &place.stored);
                return Err(Error::file(path, format!("both `{a}` and `{b}` stand for `{name}`")));
            }
            index.insert(name, place);
        }
        Ok(Weights { path, shards, index })
    }

    /// The file, or the index.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.index.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// The sizes of a tensor's dimensions.
    ///
    /// # Errors
    /// If there is no such tensor.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.find(name)?.1.shape)
    }

    /// The dtype of a tensor by safetensors' name, and its bytes.
    ///
    /// # Errors
    /// If there is no such tensor.
    pub fn stored(&self, name: &str) -> Result<(String, usize)> {
        let (_, info, bytes) = self.find(name)?;
        Ok((format!("{:?}", info.dtype), bytes.len()))
    }

    /// A tensor as it is stored: f32, f16, bf16, f64 (CPU device), i32, u32, bool; i64 becomes i32, u8 u32.
    ///
    /// # Errors
    /// If there is no such tensor, its dtype is none of these, or a 64-bit integer does not fit into 32 bits.
    pub fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        let (shard, info, bytes) = self.find(name)?;
        let shape = &info.shape;
        let refuse = |message: String| Error::file(&shard.path, format!("tensor `{name}` {message}"));
        let narrow = |bytes: &[u8]| -> Result<Vec<i32>> {
            let narrow = |c: &[u8]| i32::try_from(bytemuck::pod_read_unaligned::<i64>(c));
            bytes
                .chunks_exact(8)
                .map(narrow)
                .collect::<std::result::Result<_, _>>()
                .map_err(|_| refuse("holds 64-bit integers that do not fit into 32 bits".into()))
        };
        match info.dtype {
            Dtype::F32 => words::<f32>(bytes, shape, device),
            Dtype::F16 => words::<f16>(bytes, shape, device),
            Dtype::BF16 => words::<bf16>(bytes, shape, device),
            Dtype::I32 => words::<i32>(bytes, shape, device),
            Dtype::U32 => words::<u32>(bytes, shape, device),
            Dtype::F64 => Tensor::from_vec(collect::<f64>(bytes), shape, device),
            Dtype::BOOL => Tensor::from_vec(bytes.iter().map(|&b| b != 0).collect(), shape, device),
            Dtype::U8 => Tensor::from_vec(bytes.iter().map(|&b| u32::from(b)).collect(), shape, device),
            Dtype::I64 => Tensor::from_vec(narrow(bytes)?, shape, device),
            other => Err(refuse(format!("has dtype {other:?}, which is not supported"))),
        }
    }

    /// A float tensor of a known shape, converted to `dtype`.
    ///
    /// # Errors
    /// If there is no such tensor, its shape is another, or it is not of floats.
    pub fn tensor_like(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        let (shard, info, bytes) = self.find(name)?;
        if info.shape != shape {
            let message = format!("tensor `{name}` has shape {:?}, expected {shape:?}", info.shape);
            return Err(Error::file(&shard.path, message));
        }
        match (info.dtype, dtype) {
            (Dtype::F32, DType::F32) | (Dtype::F16, DType::F16) | (Dtype::BF16, DType::BF16) => {
                self.tensor(name, device)
            }
            (Dtype::F32, _) => convert::<f32>(bytes, shape, dtype, device),
            (Dtype::F16, _) => convert::<f16>(bytes, shape, dtype, device),
            (Dtype::BF16, _) => convert::<bf16>(bytes, shape, dtype, device),
            (Dtype::F64, _) => convert::<f64>(bytes, shape, dtype, device),
            (other, _) => {
                let message = format!("tensor `{name}` has dtype {other:?}, expected a float");
                Err(Error::file(&shard.path, message))
            }
        }
    }

    fn find(&self, name: &str) -> Result<(&Shard, &TensorInfo, &[u8])> {
        let missing = || Error::file(&self.path, format!("has no tensor `{name}`"));
        let place = self.index.get(name).ok_or_else(missing)?;
        let shard = self.shards.get(place.shard).ok_or_else(missing)?;
        let info = shard.metadata.info(&place.stored).ok_or_else(missing)?;
        let (from, to) = info.data_offsets;
        // The header was checked against the length of the file when it was opened.
        let bytes = shard.bytes.get(shard.start + from..shard.start + to).ok_or_else(missing)?;
        Ok((shard, info, bytes))
    }
}

impl Shard {
    #[cfg(not(target_arch = "wasm32"))]
    fn open(path: PathBuf) -> Result<Self> {
        let file = std::fs::File::open(&path).map_err(|e| Error::file(&path, e))?;
        let length = file.metadata().map_err(|e| Error::file(&path, e))?;
        if !length.is_file() {
            return Err(Error::file(&path, "is not a file"));
        }
        if length.len() == 0 {
            return Err(Error::file(&path, "is empty, not a safetensors file"));
        }
        // SAFETY: the mapping is read-only and private to this struct. Another process that truncates the file in place could
        // still end this one by a fault; `open` documents that, and files are replaced by renaming, never in place.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::file(&path, e))?;
        Self::new(path, Bytes::Mapped(map))
    }

    fn new(path: PathBuf, bytes: Bytes) -> Result<Self> {
        let damaged = |e| Error::file(&path, format!("is not a whole safetensors file: {e}"));
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        Ok(Shard { path, bytes, start: header + 8, metadata })
    }
}

/// Types whose bytes are the same in the file and on every device.
fn words<T: Element + bytemuck::AnyBitPattern>(bytes: &[u8], shape: &[usize], device: &Device) -> Result<Tensor> {
    let op = "load";
    match device.gpu_ref() {
        None => Tensor::from_vec(collect::<T>(bytes), shape, device),
        Some(gpu) => {
            let layout = Layout::contiguous(op, shape)?;
            Ok(Tensor::from_parts(Storage::Gpu(gpu.upload(op, bytes)?), layout, T::DTYPE, device))
        }
    }
}

/// Values of little-endian bytes, which need not be aligned.
fn collect<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
}

/// Floats of one type as a tensor of another, without a copy in between.
fn convert<T: bytemuck::AnyBitPattern + Into<f64>>(
    bytes: &[u8],
    shape: &[usize],
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let values = bytes.chunks_exact(size_of::<T>()).map(|c| bytemuck::pod_read_unaligned::<T>(c).into());
    match dtype {
        DType::F16 => Tensor::from_vec(values.map(f16::from_f64).collect(), shape, device),
        DType::BF16 => Tensor::from_vec(values.map(bf16::from_f64).collect(), shape, device),
        DType::F64 => Tensor::from_vec(values.collect(), shape, device),
        DType::F32 => Tensor::from_vec(values.map(|v| v as f32).collect(), shape, device),
        _ => Err(Error::DType { op: "load", got: dtype, expected: "a float dtype" }),
    }
}
