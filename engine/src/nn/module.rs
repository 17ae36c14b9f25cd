//! Modules: named trees of parameters.

use std::any::Any;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Param;
use crate::io::Weights;
use crate::{Error, Result, Sparse24, SparseRows, Tensor};

/// Whether a module trains or infers. Modules that care (dropout) own one; [`Module::train`] sets them all.
#[derive(Clone, Debug)]
pub struct Mode(Arc<AtomicBool>);

impl Default for Mode {
    /// Training.
    fn default() -> Self {
        Mode(Arc::new(AtomicBool::new(true)))
    }
}

impl Mode {
    /// Whether the module trains.
    pub fn is_training(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, training: bool) {
        self.0.store(training, Ordering::Relaxed);
    }
}

/// Something with parameters. A module only says what it consists of; names, counting, loading and saving follow.
///
/// ```
/// use wgrad::nn::{Build, Linear, Module, Visitor};
/// struct Mlp { up: Linear, down: Linear }
/// impl Module for Mlp {
///     fn visit(&self, v: &mut Visitor<'_>) {
///         v.module("up", &self.up);
///         v.module("down", &self.down);
///     }
/// }
/// # fn main() -> wgrad::Result<()> {
/// let build = Build::new(&wgrad::Device::cpu());
/// let mlp = Mlp { up: Linear::new(4, 8, true, &build)?, down: Linear::new(8, 4, true, &build)? };
/// let names: Vec<String> = mlp.named_parameters().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["up.weight", "up.bias", "down.weight", "down.bias"]);
/// # Ok(())
/// # }
/// ```
pub trait Module {
    /// Shows each parameter and each part under its name, in a fixed order.
    fn visit(&self, v: &mut Visitor<'_>);

    /// All parameters with their full names (`encoder.layer.0.dense.weight`), tied ones once, under their first name.
    fn named_parameters(&self) -> Vec<(String, Param)> {
        let mut seen = HashSet::new();
        let mut all = all_names(self);
        all.retain(|(_, param)| seen.insert(param.id()));
        all
    }

    /// What a file of the module holds: each parameter under its name, a [packed](Param::set_packed) one as the two tensors of
    /// [`Sparse24::to_tensors`], one [listed by rows](Param::set_sparse_rows) as the three of [`SparseRows::to_tensors`].
    fn named_tensors(&self) -> Vec<(String, Tensor)> {
        self.named_parameters().into_iter().flat_map(|(name, param)| param.to_tensors(&name)).collect()
    }

    /// Number of elements of all parameters, tied ones counted once.
    fn parameter_count(&self) -> usize {
        self.named_parameters().iter().map(|(_, param)| param.elements()).sum()
    }

    /// Switches between training (dropout on; the state of a new module) and inference.
    fn train(&self, training: bool) {
        self.visit(&mut Visitor::new(&mut |item| {
            if let Item::Mode(mode) = item {
                mode.set(training);
            }
        }));
    }

    /// Sets every parameter from a file, converted to the parameter's dtype. Either all are set or none. A matrix `NAME` that the
    /// file has packed, as `NAME.values` and `NAME.meta` (see [`Sparse24`]) of [this shape](Param::matrix_shape), stays packed. One that
    /// it lists by rows, as `NAME.starts`, `NAME.places` and `NAME.values` (see [`SparseRows`]), stays so where products with it
    /// [are faster](SparseRows::is_fast), and is expanded elsewhere.
    ///
    /// # Errors
    /// If a tensor is missing, is there but belongs to no parameter, or has the wrong shape: names file and tensors.
    fn load(&self, weights: &Weights) -> Result<()> {
        let report = load_where(self, weights, LoadReport::complete)?;
        debug_assert!(report.missing.is_empty() && report.surplus.is_empty());
        Ok(())
    }

    /// As [`Module::load`], but leaves parameters that the file does not have as they are, and says which.
    ///
    /// # Errors
    /// If a tensor has the wrong shape, or the file is damaged.
    fn load_partial(&self, weights: &Weights) -> Result<LoadReport> {
        load_where(self, weights, |_, _| Ok(()))
    }
}

/// What a load did not find.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Parameters that the file does not have.
    pub missing: Vec<String>,
    /// Tensors of the file that no parameter bears the name of.
    pub surplus: Vec<String>,
}

impl LoadReport {
    /// Errs if anything was missing or left over.
    ///
    /// # Errors
    /// Names the file and the tensors.
    pub fn complete(&self, weights: &Weights) -> Result<()> {
        let list = |names: &[String]| {
            let shown = names.iter().take(4).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
            if names.len() > 4 { format!("{shown} and {} more", names.len() - 4) } else { shown }
        };
        let mut problems = Vec::new();
        if !self.missing.is_empty() {
            problems.push(format!("the model needs {}, which the file does not have", list(&self.missing)));
        }
        if !self.surplus.is_empty() {
            problems.push(format!("the model has no place for {}", list(&self.surplus)));
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::file(weights.path(), problems.join("; "))) }
    }
}

type Judge = fn(&LoadReport, &Weights) -> Result<()>;

fn load_where<M: Module + ?Sized>(module: &M, weights: &Weights, judge: Judge) -> Result<LoadReport> {
    let names = all_names(module);
    let known: HashSet<String> = names.iter().flat_map(|(name, param)| names_in(weights, name, param)).collect();
    let surplus = weights.names().filter(|&name| !known.contains(name)).map(str::to_string).collect();
    let mut report = LoadReport { surplus, missing: Vec::new() };
    // A tied parameter may stand in the file under any of its names.
    let found: HashSet<u64> =
        names.iter().filter(|(name, param)| !names_in(weights, name, param).is_empty()).map(|(_, p)| p.id()).collect();
    report.missing =
        names.iter().filter(|(_, param)| !found.contains(&param.id())).map(|(name, _)| name.clone()).collect();
    judge(&report, weights)?;
    let mut values = Vec::new();
    let mut seen = HashSet::new();
    for (name, param) in &names {
        let stored = names_in(weights, name, param);
        if stored.is_empty() || !seen.insert(param.id()) {
            continue;
        }
        let (dtype, device) = (param.dtype(), param.device());
        let value = match stored.len() {
            2 => Value::Packed(Sparse24::load(weights, name, param.matrix_shape(), dtype, device)?),
            3 => {
                let rows = SparseRows::load(weights, name, param.matrix_shape(), dtype, device)?;
                if rows.is_fast() { Value::Rows(rows) } else { Value::Dense(param.of_matrix(&rows.to_dense()?)?) }
            }
            _ => Value::Dense(weights.tensor_like(name, param.shape(), dtype, device)?),
        };
        values.push((param, value));
    }
    for (param, value) in values {
        match value {
            Value::Dense(value) => param.set(&value)?,
            Value::Packed(packed) => param.set_packed(&packed)?,
            Value::Rows(rows) => param.set_sparse_rows(&rows)?,
        }
    }
    Ok(report)
}

/// What a parameter is set to.
enum Value {
    Dense(Tensor),
    Packed(Sparse24),
    Rows(SparseRows),
}

/// The tensors of a file that stand for a parameter under this name: itself, or the two of a packed matrix, or the three of one that is listed
/// by rows, or none.
fn names_in(weights: &Weights, name: &str, param: &Param) -> Vec<String> {
    if weights.contains(name) {
        return vec![name.to_string()];
    }
    if param.shape().len() < 2 {
        return Vec::new();
    }
    if Sparse24::is_in(weights, name) {
        return Sparse24::names(name).to_vec();
    }
    if SparseRows::is_in(weights, name) { SparseRows::names(name).to_vec() } else { Vec::new() }
}

/// All names of all parameters, tied ones under each of theirs.
fn all_names<M: Module + ?Sized>(module: &M) -> Vec<(String, Param)> {
    let mut all = Vec::new();
    module.visit(&mut Visitor::new(&mut |item| {
        if let Item::Param(name, param) = item {
            all.push((name, param.clone()));
        }
    }));
    all
}

/// All parts of one type that the modules of a tree show by [`Visitor::part`], with their full names, in order.
pub fn parts<T: Any + Clone>(module: &(impl Module + ?Sized)) -> Vec<(String, T)> {
    let mut all = Vec::new();
    module.visit(&mut Visitor::new(&mut |item| {
        if let Item::Part(name, part) = item
            && let Some(part) = part.downcast_ref::<T>()
        {
            all.push((name, part.clone()));
        }
    }));
    all
}

enum Item<'a> {
    Param(String, &'a Param),
    Mode(&'a Mode),
    Part(String, &'a dyn Any),
}

/// Walks a tree of modules and knows the name of the place it is at.
pub struct Visitor<'a> {
    path: String,
    sink: &'a mut dyn FnMut(Item<'_>),
}

impl<'a> Visitor<'a> {
    fn new(sink: &'a mut dyn FnMut(Item<'_>)) -> Self {
        Visitor { path: String::new(), sink }
    }

    /// A parameter of the module.
    pub fn param(&mut self, name: &str, param: &Param) {
        let full = format!("{}{name}", self.path);
        (self.sink)(Item::Param(full, param));
    }

    /// A parameter that the module may lack.
    pub fn optional(&mut self, name: &str, param: Option<&Param>) {
        if let Some(param) = param {
            self.param(name, param);
        }
    }

    /// A part of the module; names inside it are prefixed by `name.`, or by nothing if `name` is empty.
    pub fn module(&mut self, name: &str, module: &dyn Module) {
        let length = self.path.len();
        if !name.is_empty() {
            self.path.push_str(name);
            self.path.push('.');
        }
        module.visit(self);
        self.path.truncate(length);
    }

    /// Equal parts, named `name.0`, `name.1`, ...
    pub fn modules<M: Module>(&mut self, name: &str, modules: &[M]) {
        for (i, module) in modules.iter().enumerate() {
            self.module(&format!("{name}.{i}"), module);
        }
    }

    /// The switch of a module that behaves differently in training and inference.
    pub fn mode(&mut self, mode: &Mode) {
        (self.sink)(Item::Mode(mode));
    }

    /// Something of the module that is of use to those who know its type, such as how a parameter is stored: [`parts`] finds it.
    pub fn part(&mut self, name: &str, part: &dyn Any) {
        let full = format!("{}{name}", self.path);
        (self.sink)(Item::Part(full, part));
    }
}
