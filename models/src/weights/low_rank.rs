//! Low-rank adaptation of frozen matrices (Hu et al., LoRA, 2021, arXiv 2106.09685, section 4).

use wgrad::nn::{Build, Dropout, Init, Module, Param, Visitor};
use wgrad::{DType, Tensor};

use super::{Matrix, View, Views};
use crate::{Error, Result};

/// What is added to a matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LowRankConfig {
    /// Most independent rows of it.
    pub rank: usize,
    /// Its factor is `alpha / rank`.
    pub alpha: f64,
    /// Share of the inputs that the addition does not see in a training step. LoRA drops inputs of each token anew; a matrix that is
    /// shown once a step is the same for all of them.
    pub dropout: f64,
}

impl LowRankConfig {
    /// A factor of 1 at any rank, no dropout.
    pub fn new(rank: usize) -> Self {
        LowRankConfig { rank, alpha: rank as f64, dropout: 0.0 }
    }
}

/// `W + (alpha / rank) B A`, with `A [rank, inputs]` and `B [outputs, rank]`, which starts at zero.
pub struct LowRank {
    down: Param,
    up: Param,
    scale: f64,
    dropout: Dropout,
}

impl LowRank {
    /// New factors for a matrix `[outputs, inputs]`: A as any new layer, B zero, so that the sum is the matrix itself.
    ///
    /// # Errors
    /// If the rank is 0 or more than a side of the matrix, alpha or the dropout is outside its domain, or memory is exhausted.
    pub fn new(config: &LowRankConfig, [outputs, inputs]: [usize; 2], build: &Build) -> Result<Self> {
        let &LowRankConfig { rank, alpha, dropout } = config;
        if rank == 0 || rank > outputs.min(inputs) {
            let message = format!("{rank}, expected 1 to {} for a matrix [{outputs}, {inputs}]", outputs.min(inputs));
            return Err(Error::argument("rank", message));
        }
        if !alpha.is_finite() || alpha <= 0.0 {
            return Err(Error::argument("alpha", format!("{alpha}, expected a number above 0")));
        }
        Ok(LowRank {
            down: build.weight(&[rank, inputs])?,
            up: build.param(&[outputs, rank], Init::Zeros)?,
            scale: alpha / rank as f64,
            dropout: Dropout::new(dropout)?,
        })
    }

    /// Such a view over each of the matrices for which `wanted` gives a configuration, and of their dtypes. What is under them is
    /// frozen.
    ///
    /// # Errors
    /// As [`LowRank::new`], naming the matrix.
    pub fn over(
        matrices: Vec<(String, Matrix)>,
        wanted: impl Fn(&str, &Matrix) -> Option<LowRankConfig>,
    ) -> Result<Views> {
        Views::new(matrices, |name, matrix| {
            let Some(config) = wanted(name, matrix) else { return Ok(None) };
            let build = Build::new(matrix.param.device()).with_dtype(matrix.param.dtype());
            let view = LowRank::new(&config, [matrix.outputs(), matrix.inputs()], &build);
            matrix.param.set_trainable(false);
            Ok(Some(Box::new(view.map_err(|error| Error::config(format!("`{name}`: {error}")))?) as Box<dyn View>))
        })
    }

    /// What is added to the matrix.
    ///
    /// # Errors
    /// If memory is exhausted.
    pub fn difference(&self) -> Result<Tensor> {
        let mut down = self.down.tensor();
        if self.dropout.probability() > 0.0 {
            let ones = Tensor::ones(&[1, down.size(1)?], DType::F32, down.device())?.cast(down.dtype())?;
            down = down.mul(&self.dropout.forward(&ones)?)?;
        }
        Ok(self.up.tensor().matmul(&down)?.mul_scalar(self.scale)?)
    }
}

impl View for LowRank {
    fn matrix(&self, weight: &Tensor) -> Result<Tensor> {
        Ok(weight.add(&self.difference()?)?)
    }
}

impl Module for LowRank {
    fn visit(&self, v: &mut Visitor<'_>) {
        v.param("lora_A", &self.down);
        v.param("lora_B", &self.up);
        v.module("", &self.dropout);
    }
}

/// Which matrices are adapted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// Those of all linear layers in blocks.
    All,
    /// Layers by the last parts of their names. `query`, `key`, `value` and `output` are also those of attention by whatever name the
    /// architecture gives them; one layer for queries, keys and values together counts as any of the three.
    Named(Vec<String>),
}

/// Names of the parts of attention in checkpoints.
const KNOWN: [(&str, &[&str]); 4] = [
    ("query", &["q_proj", "query_proj", "q_head", "q"]),
    ("key", &["k_proj", "key_proj", "k_head", "k"]),
    ("value", &["v_proj", "value_proj", "v_head", "v"]),
    ("output", &["o_proj", "out_proj", "post_proj", "o"]),
];
/// Names of layers for queries, keys and values together.
const JOINT: [&str; 4] = ["c_attn", "query_key_value", "Wqkv", "qkv_proj"];

impl Targets {
    /// From a list such as `query,value`, or `all`.
    ///
    /// # Errors
    /// If a name is empty.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        match text.split(',').map(str::trim).collect::<Vec<_>>()[..] {
            ["all"] => Ok(Targets::All),
            ref names if names.contains(&"") => Err("a name is empty".into()),
            ref names => Ok(Targets::Named(names.iter().map(|name| name.to_string()).collect())),
        }
    }

    /// Whether the matrix of this name is one of them.
    pub fn take(&self, name: &str) -> bool {
        let Targets::Named(wanted) = self else { return true };
        let last = last_of(name);
        wanted.iter().any(|wanted| {
            let known = KNOWN.iter().find(|(role, _)| role == wanted).map(|(_, names)| *names);
            let joint = wanted != "output" && known.is_some() && JOINT.contains(&last);
            last == wanted || joint || known.is_some_and(|names| names.contains(&last))
        })
    }

    /// Views over those of the model's matrices, all else frozen.
    ///
    /// # Errors
    /// If there are none, naming the layers that there are, or as [`LowRank::new`].
    pub fn adapt(&self, model: &(impl Module + ?Sized), config: &LowRankConfig) -> Result<Views> {
        let matrices = Matrix::of_blocks(model);
        let mut names: Vec<String> = matrices.iter().map(|(name, _)| last_of(name).to_string()).collect();
        names.sort();
        names.dedup();
        let views = LowRank::over(matrices, |name, _| self.take(name).then_some(*config))?;
        if views.matrices().next().is_none() {
            let message = format!("{self:?} names none of the model's layers {}", names.join(", "));
            return Err(Error::argument("targets", message));
        }
        model.named_parameters().iter().for_each(|(_, param)| param.set_trainable(false));
        Ok(views)
    }
}

/// The layer's own name in that of its matrix.
fn last_of(name: &str) -> &str {
    let layer = name.strip_suffix(".weight").unwrap_or(name);
    layer.rsplit('.').next().unwrap_or(layer)
}

#[cfg(test)]
mod tests {
    use wgrad::Device;
    use wgrad::optim::{Adam, Group, Optimizer, Rule};

    use super::*;
    use crate::lm::Lm;
    use crate::placement::{Placement, Shape};

    fn model() -> Lm {
        let shape = Shape { vocab: 7, hidden: 8, heads: 2, layers: 2, length: 6 };
        let lm = Lm::new(&shape.decoder(Placement::Pre), &Device::cpu()).unwrap();
        lm.train(true);
        lm
    }

    fn logits(lm: &Lm) -> Vec<f64> {
        let ids = Tensor::from_slice(&[0i32, 3, 6, 2, 1, 5], &[1, 6], &Device::cpu()).unwrap();
        lm.logits(&ids).unwrap().to_f64_vec().unwrap()
    }

    fn values(lm: &Lm) -> Vec<Vec<f64>> {
        lm.named_parameters().iter().map(|(_, param)| param.leaf().to_f64_vec().unwrap()).collect()
    }

    fn step(lm: &Lm, views: &Views) -> usize {
        let mut optimizer = Optimizer::new(Rule::Adam(Adam::default()), 0.05, Group::of(views)).unwrap();
        let ids = Tensor::from_slice(&[0i32, 3, 6, 2, 1, 5], &[1, 6], &Device::cpu()).unwrap();
        let mut reached = 0;
        for _ in 0..3 {
            views.show().unwrap();
            let gradients = lm.loss(&ids, &ids).unwrap().backward().unwrap();
            reached = lm.named_parameters().iter().filter(|(_, p)| p.gradient(&gradients).is_some()).count();
            optimizer.step(&gradients).unwrap();
        }
        views.show().unwrap();
        reached
    }

    #[test]
    fn starts_at_the_model_trains_factors_alone_and_merges() {
        let lm = model();
        let (before, weights) = (logits(&lm), values(&lm));
        let config = LowRankConfig { rank: 2, alpha: 4.0, dropout: 0.0 };
        let views = Targets::parse("query,value").unwrap().adapt(&lm, &config).unwrap();
        assert_eq!(views.matrices().count(), 4);
        views.show().unwrap();
        assert_eq!(logits(&lm), before, "B is zero");
        assert_eq!(step(&lm, &views), 0, "a gradient reached a frozen parameter");
        assert!(values(&lm) == weights, "frozen weights changed");
        let tuned = logits(&lm);
        assert!(tuned.iter().zip(&before).any(|(a, b)| (a - b).abs() > 1e-3));
        views.merge().unwrap();
        assert_eq!(logits(&lm), tuned, "the same sums in the same order");
        assert!(values(&lm) != weights);
    }

    #[test]
    fn dropout_is_of_training_alone() {
        let lm = model();
        let config = LowRankConfig { rank: 2, alpha: 2.0, dropout: 0.5 };
        let views = Targets::All.adapt(&lm, &config).unwrap();
        step(&lm, &views);
        let shown = |training| {
            views.train(training);
            views.show().unwrap();
            logits(&lm)
        };
        assert_ne!(shown(true), shown(true));
        assert_eq!(shown(false), shown(false));
    }

    #[test]
    fn targets_by_role_and_by_name() {
        let take = |targets: &str, name: &str| Targets::parse(targets).unwrap().take(name);
        for name in ["h.0.attn.c_attn.weight", "layers.3.self_attn.q_proj.weight", "layer.1.rel_attn.q"] {
            assert!(take("query,value", name), "{name}");
        }
        assert!(!take("query,value", "layers.3.self_attn.k_proj.weight") && take("all", "h.0.mlp.c_fc.weight"));
        assert!(take("c_fc", "h.0.mlp.c_fc.weight") && !take("output", "h.0.attn.c_attn.weight"));
        assert!(Targets::parse("query,,value").is_err() && Targets::parse("").is_err());
        let error = Targets::parse("dense").unwrap().adapt(&model(), &LowRankConfig::new(1)).err().unwrap();
        assert!(error.to_string().contains("query") && error.to_string().contains("dense"), "{error}");
    }

    #[test]
    fn ranks_and_factors_outside_their_domain() {
        for (rank, alpha, dropout, word) in
            [(0, 1.0, 0.0, "rank"), (9, 1.0, 0.0, "rank"), (1, 0.0, 0.0, "alpha"), (1, 1.0, 1.5, "probability")]
        {
            let config = LowRankConfig { rank, alpha, dropout };
            let error = Targets::All.adapt(&model(), &config).err().unwrap().to_string();
            assert!(error.contains(word) && error.contains(".weight"), "{error}");
        }
    }
}
