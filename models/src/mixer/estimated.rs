//! SEA, sparse linear attention with an estimated mask (Lee et al., 2023, arXiv 2310.01777), as for causal models: linear attention estimates
//! where the weights of full attention lie, on a grid of few columns; the largest cells of the grid say which keys a query sees.

use wgrad::nn::{Build, Favor, Init, Module, Param, RandomFeatures, Visitor, join_heads, split_heads};
use wgrad::{AttentionOptions, DType, KeyIndex, LinearAttention, Mask, Tensor};

use super::Mixer;
use crate::attention::{AttentionConfig, Pass};
use crate::norm::{Norm, NormConfig};
use crate::weights::{Form, Linear};
use crate::{Error, Result};

/// What an estimator is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EstimatedConfig {
    /// Columns of the grid, a multiple of 4.
    pub columns: usize,
    /// Keys that a query sees in a head, in the mean over the heads.
    pub keys: usize,
    /// Features of linear attention.
    pub features: usize,
    /// Most tokens of a sequence.
    pub longest: usize,
}

/// Positions between the taps of a convolution.
const DILATION: usize = 2;
/// Queries back and columns aside that a convolution sees, in taps.
const TAPS: usize = 3;
const EPS: f64 = 1e-5;

/// A convolution over queries and columns that sees no later query: a linear layer on its taps side by side.
struct CausalConv(Linear);

impl CausalConv {
    fn new(channels: usize, build: &Build) -> Result<Self> {
        let build = build.clone().with_init(Init::KaimingNormal { gain: 1.0 });
        Ok(CausalConv(Linear::new(TAPS * TAPS * channels, channels, true, Form::Rows, &build)?))
    }

    /// `x [batch, queries, columns, channels]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (queries, columns) = (x.size(1)?, x.size(2)?);
        let (back, aside) = ((TAPS - 1) * DILATION, (TAPS / 2 * DILATION) as isize);
        let pads = [(0, 0), (back as isize, 0), (aside, aside), (0, 0)];
        let padded = x.pad(&pads, wgrad::PadMode::Constant(0.0))?;
        let mut taps = Vec::with_capacity(TAPS * TAPS);
        for row in 0..TAPS {
            let rows = padded.narrow(1, row * DILATION, queries)?;
            for column in 0..TAPS {
                taps.push(rows.narrow(2, column * DILATION, columns)?);
            }
        }
        self.0.forward(&Tensor::concat(&taps.iter().collect::<Vec<_>>(), -1)?)
    }
}

/// Estimates where weights lie.
struct Estimator {
    /// What stands for a position, `[longest, head_dim]`.
    places: Param,
    /// Of queries and keys, never trained.
    features: RandomFeatures,
    inner: Linear,
    inner_norm: Norm,
    widen: Linear,
    widen_norm: Norm,
    convs: [CausalConv; 2],
    join: Linear,
    join_norm: Norm,
    gates: Linear,
}

/// Attention to estimated keys.
pub struct Estimated {
    config: EstimatedConfig,
    heads: usize,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    estimator: Estimator,
}

impl Estimated {
    /// A layer on vectors of `hidden`. Of the attention's configuration heads and widths count.
    ///
    /// # Errors
    /// If the columns are no multiple of 4, a number is 0, or memory is exhausted.
    pub fn new(config: EstimatedConfig, attention: &AttentionConfig, hidden: usize, build: &Build) -> Result<Self> {
        let EstimatedConfig { columns, keys, features, longest } = config;
        let (heads, dim) = (attention.heads, attention.head_dim);
        if columns == 0 || columns % 4 != 0 || keys * features * longest * heads == 0 {
            return Err(Error::config(format!("{config:?} with {heads} heads")));
        }
        let linear = |inputs, outputs, bias| Linear::new(inputs, outputs, bias, Form::Rows, build);
        let norm = |width| Norm::new(NormConfig::layer(EPS), width, build);
        Ok(Estimated {
            config,
            heads,
            query: linear(hidden, heads * dim, false)?,
            key: linear(hidden, heads * dim, false)?,
            value: linear(hidden, heads * dim, false)?,
            output: linear(heads * dim, hidden, false)?,
            estimator: Estimator {
                places: build.param(&[longest, dim], Init::Normal { mean: 0.0, std: 1.0 })?,
                features: RandomFeatures::new(dim, Some(features), Favor::Relu, build)?,
                inner: linear(3 * dim, 2 * dim, true)?,
                inner_norm: norm(2 * dim)?,
                widen: linear(2 * dim, columns / 2, true)?,
                widen_norm: norm(columns / 4)?,
                convs: [CausalConv::new(2 * heads, build)?, CausalConv::new(2 * heads, build)?],
                join: linear(2 * heads, heads, true)?,
                join_norm: norm(columns)?,
                gates: linear(2 * dim, 2, true)?,
            },
        })
    }

    /// The parameters of the estimator alone, which are what is trained to agree with full attention.
    pub fn estimator(&self) -> &dyn Module {
        &self.estimator
    }

    /// The estimated weights on the grid `[batch, heads, queries, columns]`, as logits, and both gates `[batch, heads, queries, 2]`.
    fn estimate(&self, [query, key, value]: [&Tensor; 3]) -> Result<[Tensor; 2]> {
        let e = &self.estimator;
        let &[batch, heads, length, dim] = value.shape() else {
            return Err(Error::argument("Estimated", format!("values of shape {:?}", value.shape())));
        };
        if length > self.config.longest {
            let most = self.config.longest;
            return Err(Error::argument("Estimated", format!("{length} tokens, but there are {most} positions")));
        }
        let places = e.places.tensor().narrow(0, 0, length)?.expand(&[batch, heads, length, dim])?;
        let options = LinearAttention { causal: true, normalize: Some(1e-6), ..LinearAttention::default() };
        let (seen, _) = e.features.query(query)?.linear_attention(
            &e.features.key(key)?,
            &Tensor::concat(&[&places, value], -1)?,
            &options,
        )?;
        let inner = e.inner.forward(&Tensor::concat(&[&seen, value], -1)?)?;
        let inner = e.inner_norm.forward(&inner)?.gelu()?;
        let quarter = self.config.columns / 4;
        // The heads' pairs of channels: [batch, queries, columns / 4, 2 heads].
        let wide = e.widen.forward(&inner)?.reshape(&[batch, heads, length, 2, quarter].map(|n| n as isize))?;
        let wide = e.widen_norm.forward(&wide)?.permute(&[0, 2, 4, 1, 3])?.flatten(3, 4)?;
        let wide = e.convs[0].forward(&wide)?.relu()?;
        let wide = e.convs[1].forward(&wide)?.relu()?;
        let grid = e.join.forward(&wide.repeat_interleave(4, 2)?)?.permute(&[0, 3, 1, 2])?;
        Ok([e.join_norm.forward(&grid)?, e.gates.forward(&inner)?])
    }

    /// The column of the grid that key `key` of `seen` keys belongs to.
    fn column(&self, key: usize, seen: usize) -> usize {
        // Column m begins at round(m seen / columns).
        ((2 * key + 1) * self.config.columns).div_ceil(2 * seen) - 1
    }

    /// The keys of each query: those of the largest cells over all heads, as many as make `keys` in the mean over the heads. Where lists have
    /// no room for all, the nearest.
    fn choose(&self, grid: &Tensor) -> Result<KeyIndex> {
        let &[batch, heads, length, columns] = grid.shape() else {
            return Err(Error::argument("Estimated", format!("a grid of shape {:?}", grid.shape())));
        };
        let (device, room) = (grid.device(), (2 * self.config.keys).min(length));
        let count = |n: usize, end: usize| Tensor::arange(n as i64, end as i64, DType::I32, device);
        let number = |n: usize| Tensor::scalar(n as f64, DType::I32, device);
        let seen = count(1, length + 1)?.unsqueeze(1)?;

        // The rank of each cell of a query among those of all heads, and which cells are kept.
        let cells = grid.detach().softmax(-1)?.permute(&[0, 2, 1, 3])?.flatten(2, 3)?;
        let order = cells.argsort(-1, true)?;
        let places = count(0, heads * columns)?.expand(order.shape())?.contiguous()?;
        let ranks = places.scatter(-1, &order, &places)?;
        // Rounded: cells that make `keys` tokens of each head.
        let share = number(2 * heads * self.config.keys * columns)?.add(&seen)?.div(&seen.mul(&number(2)?)?)?;
        let kept = ranks.lt(&share.maximum(&number(1)?)?)?;
        let kept = kept
            .reshape(&[batch, length, heads, columns].map(|n| n as isize))?
            .permute(&[0, 2, 1, 3])?
            .cast(DType::I32)?;

        // Column m begins at round(m seen / columns): where the tokens of each kept cell go in the list of all.
        let starts = count(0, columns + 1)?.mul(&seen)?.mul(&number(2)?)?.add(&number(columns)?)?;
        let starts = starts.div(&number(2 * columns)?)?;
        let (starts, ends) = (starts.narrow(1, 0, columns)?, starts.narrow(1, 1, columns)?);
        let tokens = kept.mul(&ends.sub(&starts)?)?;
        let until = tokens.cumsum(-1)?;
        let all = until.narrow(-1, columns - 1, 1)?;
        let skipped = all.sub(&number(room)?)?.maximum(&number(0)?)?;
        let at = count(0, room)?.add(&skipped)?;
        // The cell of each place, without a tensor of places by cells.
        let mut cell = at.zeros_like()?;
        for column in 0..columns {
            cell = cell.add(&until.narrow(-1, column, 1)?.le(&at)?.cast(DType::I32)?)?;
        }
        let cell = cell.minimum(&number(columns - 1)?)?;
        let lead = starts.sub(&until.sub(&tokens)?)?;
        let keys = lead.gather(-1, &cell)?.add(&at)?.cast(DType::U32)?;
        let none = Tensor::scalar(f64::from(u32::MAX), DType::U32, device)?;
        let lists = Tensor::where_cond(&at.lt(&all)?, &keys, &none)?;
        debug_assert_eq!(lists.shape(), [batch, heads, length, room]);
        Ok(KeyIndex::new(&lists, length)?)
    }

    /// How far estimated weights and results are from those of full attention, of a teacher or else of the layer itself: 0.1 times the
    /// Kullback-Leibler divergence and the squared differences (the paper's losses of a layer), and the same of the weights that its own
    /// queries and keys have in full. All weights are in memory.
    fn distance(&self, grid: &Tensor, own: [&Tensor; 3], teacher: Option<[Tensor; 3]>, out: &Tensor) -> Result<Tensor> {
        let length = own[0].size(2)?;
        let options = AttentionOptions { mask: Mask::causal(0), ..AttentionOptions::default() };
        let taught = teacher.is_some();
        let [query, key, value] = teacher.unwrap_or_else(|| own.map(Tensor::detach));
        let weights = query.attention_weights(&key, &options)?;
        let columns: Vec<u32> = (0..length)
            .flat_map(|i| (0..length).map(move |j| (i, j)))
            .map(|(i, j)| if j <= i { self.column(j, i + 1) as u32 } else { 0 })
            .collect();
        let shape = [grid.size(0)?, grid.size(1)?, length, length];
        let columns = Tensor::from_vec(columns, &[1, 1, length, length], grid.device())?.expand(&shape)?;
        let ones = Tensor::ones(&[length, length], DType::Bool, grid.device())?;
        let ahead = ones.logical_xor(&ones.cast(DType::F32)?.tril(0)?.cast(DType::Bool)?)?;
        let queries = (shape[0] * shape[1] * length) as f64;
        let mse = |a: &Tensor, b: &Tensor| wgrad::nn::loss::mse(a, b, wgrad::Reduction::Mean);
        let apart = |logits: &Tensor| {
            let logs = logits.masked_fill(&ahead, -1e9)?.log_softmax(-1)?;
            let divergence = wgrad::nn::loss::kl_div(&logs, &weights, false, wgrad::Reduction::Sum)?;
            divergence.mul_scalar(0.1 / queries)?.add(&mse(&logs.exp()?, &weights)?)
        };
        let result = query.attention(&key, &value, &options)?;
        let loss = apart(&grid.gather(-1, &columns)?)?.add(&mse(out, &result)?)?;
        if !taught {
            return Ok(loss);
        }
        let scale = 1.0 / (own[0].size(3)? as f64).sqrt();
        Ok(loss.add(&apart(&own[0].mul_scalar(scale)?.matmul(&own[1].transpose(2, 3)?)?)?)?)
    }
}

impl Mixer for Estimated {
    /// Causal whatever the pass says.
    fn mix(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let heads = |layer: &Linear| Ok::<_, Error>(split_heads(&layer.forward(x)?, self.heads)?);
        let (query, key, value) = (heads(&self.query)?, heads(&self.key)?, heads(&self.value)?);
        let [grid, gates] = self.estimate([&query.detach(), &key.detach(), &value.detach()])?;
        let index = self.choose(&grid)?;
        let seen = query.sparse_attention(&key, &value, &index, &AttentionOptions::default())?;
        // How much of it counts, beside the mean of all values so far.
        let gates = gates.sigmoid()?;
        let (scale, share) = (gates.narrow(-1, 0, 1)?, gates.narrow(-1, 1, 1)?);
        let counts = Tensor::arange(1, x.size(1)? as i64 + 1, DType::I32, x.device())?.cast(x.dtype())?;
        let mean = value.cumsum(2)?.div(&counts.reshape(&[-1, 1])?)?;
        let out = seen.mul(&scale)?.mul(&share)?.add(&mean.mul(&share.affine(-1.0, 1.0)?)?)?;
        if let Some(losses) = &pass.losses {
            losses.add(self.distance(&grid, [&query, &key, &value], losses.lesson()?, &out)?);
        }
        self.output.forward(&join_heads(&out)?)
    }
}

impl Module for Estimator {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("places", &self.places);
        v.module("features", &self.features);
        v.module("inner", &self.inner);
        v.module("inner_norm", &self.inner_norm);
        v.module("widen", &self.widen);
        v.module("widen_norm", &self.widen_norm);
        for (number, conv) in self.convs.iter().enumerate() {
            v.module(&format!("convs.{number}"), &conv.0);
        }
        v.module("join", &self.join);
        v.module("join_norm", &self.join_norm);
        v.module("gates", &self.gates);
    }
}

impl Module for Estimated {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.module("query", &self.query);
        v.module("key", &self.key);
        v.module("value", &self.value);
        v.module("output", &self.output);
        v.module("estimator", &self.estimator);
    }
}

#[cfg(test)]
mod tests {
    use wgrad::Device;

    use super::*;
    use crate::attention::Project;

    fn layer(columns: usize, keys: usize) -> Estimated {
        let build = Build::new(&Device::cpu());
        let project = Project::Apart { query: "query", key: "key", value: "value" };
        let attention = AttentionConfig::new(2, 8, project, "output");
        let config = EstimatedConfig { columns, keys, features: 16, longest: 64 };
        Estimated::new(config, &attention, 16, &build).unwrap()
    }

    /// The columns of a query part its keys between them, and `column` is their inverse.
    #[test]
    fn columns_part_the_keys() {
        let layer = layer(8, 4);
        for seen in 1..=40 {
            let start = |m: usize| (2 * m * seen + 8) / 16;
            assert_eq!((start(0), start(8)), (0, seen));
            for m in 0..8 {
                (start(m)..start(m + 1)).for_each(|key| assert_eq!(layer.column(key, seen), m, "{key} of {seen}"));
            }
        }
    }

    /// The definition, query by query, where lists have room for all and where they do not.
    #[test]
    fn chosen_keys_are_those_of_the_largest_cells() {
        let device = Device::cpu();
        for (columns, keys, length) in [(8, 4, 30), (8, 1, 13), (4, 9, 25), (16, 3, 7)] {
            let layer = layer(columns, keys);
            device.set_seed((columns + keys) as u64);
            let grid = Tensor::normal(0.0, 1.5, &[2, 2, length, columns], DType::F32, &device).unwrap();
            let index = layer.choose(&grid).unwrap();
            let room = (2 * keys).min(length);
            let lists = index.lists().to_vec::<u32>().unwrap();
            let weights = grid.softmax(-1).unwrap().to_f64_vec().unwrap();
            for (row, list) in lists.chunks(room).enumerate() {
                let (b, h, i) = (row / (2 * length), row / length % 2, row % length);
                let mut cells: Vec<(usize, usize)> = (0..2).flat_map(|h| (0..columns).map(move |m| (h, m))).collect();
                let weight = |&(h, m): &(usize, usize)| weights[((b * 2 + h) * length + i) * columns + m];
                cells.sort_by(|a, b| weight(b).total_cmp(&weight(a)).then(a.cmp(b)));
                let wanted = ((2 * keys * columns) as f64 / (i + 1) as f64).round().max(1.0) as usize;
                let kept = &cells[..wanted.min(cells.len())];
                let of_key = |key: &usize| kept.contains(&(h, layer.column(*key, i + 1)));
                let want: Vec<usize> = (0..=i).filter(of_key).collect();
                let want = &want[want.len().saturating_sub(room)..];
                let got: Vec<usize> = list.iter().filter(|&&key| key != u32::MAX).map(|&key| key as usize).collect();
                assert_eq!(got, want, "query {i} of head {h} of row {b}, {columns} columns, {keys} keys");
            }
        }
    }

    /// With room for every key, what is seen is full attention.
    #[test]
    fn all_keys_are_full_attention() {
        let layer = layer(8, 20);
        let device = Device::cpu();
        let draw = |seed| {
            device.set_seed(seed);
            Tensor::normal(0.0, 1.0, &[1, 2, 20, 8], DType::F32, &device).unwrap()
        };
        let (query, key, value) = (draw(1), draw(2), draw(3));
        let [grid, _] = layer.estimate([&query, &key, &value]).unwrap();
        let index = layer.choose(&grid).unwrap();
        let seen = query.sparse_attention(&key, &value, &index, &AttentionOptions::default()).unwrap();
        let options = AttentionOptions { mask: Mask::causal(0), ..AttentionOptions::default() };
        let full = query.attention(&key, &value, &options).unwrap();
        let apart = seen.sub(&full).unwrap().abs().unwrap().max(&[], false).unwrap().item().unwrap();
        assert!(apart < 1e-5, "{apart}");
    }

    /// A later token changes nothing before it.
    #[test]
    fn is_causal() {
        let layer = layer(8, 3);
        let device = Device::cpu();
        device.set_seed(5);
        let x = Tensor::normal(0.0, 1.0, &[1, 24, 16], DType::F32, &device).unwrap();
        let pass = Pass::default();
        let before = layer.mix(&x, &pass).unwrap();
        let tail = Tensor::normal(0.0, 1.0, &[1, 4, 16], DType::F32, &device).unwrap();
        let changed = Tensor::concat(&[&x.narrow(1, 0, 20).unwrap(), &tail], 1).unwrap();
        let after = layer.mix(&changed, &pass).unwrap();
        let cut = |x: &Tensor| x.narrow(1, 0, 20).unwrap().to_f64_vec().unwrap();
        assert!(cut(&before).iter().zip(cut(&after)).all(|(a, b)| (a - b).abs() < 1e-5));
        assert!(layer.mix(&Tensor::zeros(&[1, 65, 16], DType::F32, &device).unwrap(), &pass).is_err());
    }
}
