//! WGSL of the user inside of the attention kernels: who sees whom, and what becomes of a score.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Error, Result};

/// `visible(query, key, head, batch)` in Rust.
pub(crate) type Visible = Arc<dyn Fn(usize, usize, usize, usize) -> bool + Send + Sync>;
/// `score(s, query, key, head, batch)` in Rust, or its derivative by `s`.
pub(crate) type Score = Arc<dyn Fn(f64, usize, usize, usize, usize) -> f64 + Send + Sync>;

/// The files whose place the texts take.
const VISIBLE: &str = "common/visible";
const SCORE: &str = "common/score";

/// A mask's function.
#[derive(Clone)]
pub(crate) struct VisibleCode {
    pub text: &'static str,
    pub rust: Option<Visible>,
}

impl VisibleCode {
    pub fn new(text: &str, rust: Option<Visible>) -> Result<Self> {
        check("Mask::wgsl", text, &["fn visible(q: u32, k: u32, head: u32, batch: u32) -> bool"])?;
        Ok(VisibleCode { text: keep(text), rust })
    }

    /// What the CPU device calls.
    pub fn on_cpu(&self, op: &'static str) -> Result<&Visible> {
        self.rust.as_ref().ok_or_else(|| no_rust(op, "the mask", "Mask::wgsl_and_rust"))
    }
}

impl fmt::Debug for VisibleCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VisibleCode").field("text", &self.text).field("rust", &self.rust.is_some()).finish()
    }
}

/// A change of attention's scores, in WGSL of one's own: FlexAttention's `score_mod` (Dong et al., 2024) with its derivative.
///
/// ```
/// use wgrad::ScoreModifier;
/// # fn main() -> wgrad::Result<()> {
/// // Scores fall with the distance, more in later heads.
/// let modifier = ScoreModifier::wgsl("
///     fn slope(q: u32, k: u32, head: u32) -> f32 { return 1.0 / (1.0 + f32(head) * abs(f32(q) - f32(k))); }
///     fn score(s: f32, q: u32, k: u32, head: u32, batch: u32) -> f32 { return s * slope(q, k, head); }
///     fn score_grad(s: f32, q: u32, k: u32, head: u32, batch: u32) -> f32 { return slope(q, k, head); }")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ScoreModifier {
    pub(crate) text: &'static str,
    pub(crate) rust: Option<[Score; 2]>,
}

impl ScoreModifier {
    /// From a text that has `score`, which turns the scaled product `s` of a query and a key into another number, and `score_grad`,
    /// the derivative of that by `s`; both `(s: f32, q: u32, k: u32, head: u32, batch: u32) -> f32`. Make it once: texts are kept until the
    /// process ends.
    ///
    /// # Errors
    /// If the text is no valid WGSL: the message has line and column. If a function is missing or has another signature, or
    /// another name of the text is one of the kernels'. In a browser these come at the first use.
    pub fn wgsl(text: &str) -> Result<Self> {
        let signature = |name: &str| format!("fn {name}(s: f32, q: u32, k: u32, head: u32, batch: u32) -> f32");
        check("ScoreModifier::wgsl", text, &[&signature("score"), &signature("score_grad")])?;
        Ok(ScoreModifier { text: keep(text), rust: None })
    }

    /// The same functions `(s, query, key, head, batch)` for the CPU device, which does not run WGSL.
    #[must_use]
    pub fn and_rust(
        self,
        score: impl Fn(f64, usize, usize, usize, usize) -> f64 + Send + Sync + 'static,
        gradient: impl Fn(f64, usize, usize, usize, usize) -> f64 + Send + Sync + 'static,
    ) -> Self {
        ScoreModifier { rust: Some([Arc::new(score), Arc::new(gradient)]), ..self }
    }

    /// What the CPU device calls.
    pub(crate) fn on_cpu(&self, op: &'static str) -> Result<&[Score; 2]> {
        self.rust.as_ref().ok_or_else(|| no_rust(op, "the score modifier", "ScoreModifier::and_rust"))
    }
}

impl fmt::Debug for ScoreModifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScoreModifier").field("text", &self.text).field("rust", &self.rust.is_some()).finish()
    }
}

fn no_rust(op: &'static str, what: &str, other: &str) -> Error {
    Error::argument(op, format!("{what} is WGSL, which the CPU device does not run: give it Rust as well, {other}"))
}

/// A kernel with texts of the user in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Filled {
    pub kernel: &'static str,
    pub visible: Option<&'static str>,
    pub score: Option<&'static str>,
}

#[derive(Default)]
struct Known {
    texts: HashMap<String, &'static str>,
    names: HashMap<Filled, &'static str>,
    filled: HashMap<&'static str, Filled>,
}

static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

fn known<T>(f: impl FnOnce(&mut Known) -> T) -> T {
    f(KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// One copy of a text for as long as the process runs.
fn keep(text: &str) -> &'static str {
    known(|known| {
        if let Some(kept) = known.texts.get(text) {
            return *kept;
        }
        let kept: &'static str = Box::leak(text.to_string().into_boxed_str());
        known.texts.insert(text.to_string(), kept);
        kept
    })
}

impl Filled {
    /// The name by which to launch it: the kernel's own if there is nothing to fill in.
    pub fn name(self) -> &'static str {
        if (self.visible, self.score) == (None, None) {
            return self.kernel;
        }
        known(|known| {
            if let Some(name) = known.names.get(&self) {
                return *name;
            }
            let name: &'static str = Box::leak(format!("{} with code {}", self.kernel, known.names.len()).into());
            known.names.insert(self, name);
            known.filled.insert(name, self);
            name
        })
    }

    /// The kernel that [`Filled::name`] gave the name.
    pub fn of(name: &str) -> Option<Filled> {
        known(|known| known.filled.get(name).copied())
    }

    /// The text in place of a file.
    pub fn text(self, file: &str) -> Option<&'static str> {
        match file {
            VISIBLE => self.visible,
            SCORE => self.score,
            _ => None,
        }
    }
}

#[cfg(target_arch = "wasm32")]
fn check(_: &'static str, _: &str, _: &[&str]) -> Result<()> {
    Ok(())
}

/// Errs if the text is not valid on its own, lacks one of the functions, or has names that would meet those of the kernels.
#[cfg(not(target_arch = "wasm32"))]
fn check(op: &'static str, text: &str, signatures: &[&str]) -> Result<()> {
    use wgpu::naga::front::wgsl::parse_str;
    use wgpu::naga::valid::{Capabilities, ValidationFlags, Validator};

    let fail = |message: String| Err(Error::argument(op, message));
    let at = |place: Option<wgpu::naga::SourceLocation>| {
        place.map_or_else(String::new, |at| format!("line {}, column {}: ", at.line_number, at.line_position))
    };
    let module = match parse_str(text) {
        Ok(module) => module,
        Err(error) => return fail(format!("{}{}", at(error.location(text)), error.message())),
    };
    if let Err(error) = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module) {
        let mut message = error.as_inner().to_string();
        let mut cause = std::error::Error::source(error.as_inner());
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        return fail(format!("{}{message}", at(error.location(text))));
    }
    if !module.global_variables.is_empty() || !module.entry_points.is_empty() || !module.overrides.is_empty() {
        return fail("the text has bindings, variables, overrides or entry points: only functions can be used".into());
    }
    let functions: Vec<String> = module.functions.iter().map(|(_, function)| signature(&module, function)).collect();
    for &wanted in signatures {
        let types = |of: &str| of.split([':', ',', ')']).skip(1).step_by(2).map(str::to_string).collect::<Vec<_>>();
        let name = |of: &str| of.split('(').next().map(str::to_string);
        match functions.iter().find(|of| name(of) == name(wanted)) {
            None => return fail(format!("the text lacks `{wanted}`")),
            Some(found) if types(found) != types(wanted) || result(found) != result(wanted) => {
                return fail(format!("the text has `{found}`, expected `{wanted}`"));
            }
            Some(_) => {}
        }
    }
    let names = module.functions.iter().filter_map(|(_, function)| function.name.as_deref());
    let constants = module.constants.iter().filter_map(|(_, constant)| constant.name.as_deref());
    let types = module.types.iter().filter_map(|(_, ty)| ty.name.as_deref());
    let taken = |name: &&str| !["visible", "score", "score_grad"].contains(name) && is_taken(name);
    match names.chain(constants).chain(types).find(taken) {
        Some(name) => fail(format!("the name `{name}` is one of the kernels': choose another")),
        None => Ok(()),
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn result(signature: &str) -> Option<&str> {
    signature.split_once("-> ").map(|(_, result)| result)
}

/// A function's head as it would be written.
#[cfg(not(target_arch = "wasm32"))]
fn signature(module: &wgpu::naga::Module, function: &wgpu::naga::Function) -> String {
    use wgpu::naga::{ScalarKind, TypeInner};
    let name = |ty| match module.types[ty].inner {
        TypeInner::Scalar(scalar) => match scalar.kind {
            ScalarKind::Uint => "u32".to_string(),
            ScalarKind::Sint => "i32".to_string(),
            ScalarKind::Float => "f32".to_string(),
            ScalarKind::Bool => "bool".to_string(),
            other => format!("{other:?}"),
        },
        ref other => module.types[ty].name.clone().unwrap_or_else(|| format!("{other:?}")),
    };
    let argument = |argument: &wgpu::naga::FunctionArgument| {
        format!("{}: {}", argument.name.as_deref().unwrap_or("_"), name(argument.ty))
    };
    let arguments: Vec<String> = function.arguments.iter().map(argument).collect();
    let result = function.result.as_ref().map(|result| format!(" -> {}", name(result.ty))).unwrap_or_default();
    format!("fn {}({}){result}", function.name.as_deref().unwrap_or("_"), arguments.join(", "))
}

/// Whether the kernels declare this name.
#[cfg(not(target_arch = "wasm32"))]
fn is_taken(name: &str) -> bool {
    let declares = |line: &str| {
        let line = line.split_once("> ").filter(|_| line.contains("var<")).map_or(line, |(_, rest)| rest);
        let line = ["fn ", "const ", "override ", "struct ", "alias "]
            .iter()
            .fold(line, |line, word| line.strip_prefix(word).unwrap_or(line));
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    let families = ["attention/", "common/", "sparse/"];
    let files = wgrad_shaders::names().filter(|file| families.iter().any(|family| file.starts_with(family)));
    files.filter_map(wgrad_shaders::source).any(|text| text.lines().any(declares))
}
