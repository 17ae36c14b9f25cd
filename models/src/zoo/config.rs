//! Reading a Hugging Face `config.json`, in today's and in older spellings.

use std::path::Path;

use serde_json::{Map, Value};

use crate::activation::{self, Activation};
use crate::attention::{Rotary, Stretch};
use crate::{Error, Result};

/// Largest size that a configuration may name: products of two still fit 64 bits.
const MOST: u64 = 1 << 31;
/// Most layers. The deepest published models have some hundreds.
const MOST_LAYERS: usize = 4096;

/// A `config.json`, with errors that name the file and the field.
///
/// A field that goes by several names is asked for by all of them, `"num_hidden_layers|n_layer"`: the first that is there and not
/// null counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    path: String,
    fields: Map<String, Value>,
}

impl Config {
    /// Reads `config.json` of a model folder.
    ///
    /// # Errors
    /// If the file is missing or is not a JSON object.
    pub fn read(folder: &Path) -> Result<Self> {
        Self::read_file(&folder.join("config.json"))
    }

    /// Reads another file of the kind.
    ///
    /// # Errors
    /// If the file is missing or is not a JSON object.
    pub fn read_file(path: &Path) -> Result<Self> {
        let text = crate::fsx::read_text(path)?;
        let value = serde_json::from_str(&text).map_err(|e| Error::file(path, format!("not JSON: {e}")))?;
        Self::of(path.display().to_string(), value)
    }

    /// A configuration made in memory.
    ///
    /// # Errors
    /// If it is not a JSON object.
    pub fn new(value: Value) -> Result<Self> {
        Self::of("config".into(), value)
    }

    fn of(path: String, value: Value) -> Result<Self> {
        match value {
            Value::Object(fields) => Ok(Config { path, fields }),
            _ => Err(Error::file(&path, "not a JSON object")),
        }
    }

    /// The fields as they were read.
    pub fn json(&self) -> Value {
        Value::Object(self.fields.clone())
    }

    /// The name that is there of several, and its value.
    fn find<'a>(&self, names: &'a str) -> Option<(&'a str, &Value)> {
        let all = names.split('|').filter_map(|name| Some((name, self.fields.get(name)?)));
        all.into_iter().find(|(_, value)| !value.is_null())
    }

    fn field<T>(&self, names: &str, kind: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        let Some((name, value)) = self.find(names) else { return Ok(None) };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(self.error(format!("field {name:?} is {}, expected {kind}", short(value)))),
        }
    }

    fn missing(&self, names: &str, kind: &str) -> Error {
        self.error(format!("field \"{}\" ({kind}) is missing", names.replace('|', "\" or \"")))
    }

    /// A size or count.
    ///
    /// # Errors
    /// If it is missing, not a whole number, or beyond 2^31.
    pub fn size(&self, names: &str) -> Result<usize> {
        self.size_if(names)?.ok_or_else(|| self.missing(names, "a whole number"))
    }

    /// A size with a default.
    ///
    /// # Errors
    /// If it is there and not a whole number up to 2^31.
    pub fn size_or(&self, names: &str, default: usize) -> Result<usize> {
        Ok(self.size_if(names)?.unwrap_or(default))
    }

    /// A size that may be absent.
    ///
    /// # Errors
    /// If it is there and not a whole number up to 2^31.
    pub fn size_if(&self, names: &str) -> Result<Option<usize>> {
        self.field(names, "a whole number up to 2^31", |value| {
            value.as_u64().filter(|&n| n <= MOST).and_then(|n| usize::try_from(n).ok())
        })
    }

    /// A number of layers.
    ///
    /// # Errors
    /// If it is missing, not a whole number, or absurd.
    pub fn layers(&self, names: &str) -> Result<usize> {
        match self.size(names)? {
            layers if layers <= MOST_LAYERS => Ok(layers),
            layers => Err(self.error(format!("{names} is {layers}, expected at most {MOST_LAYERS}"))),
        }
    }

    /// Width of an attention head: `head_dim` if the configuration names it, else what divides `hidden` into `heads`.
    ///
    /// # Errors
    /// If `heads` is zero or does not divide `hidden`.
    pub fn head_dim(&self, hidden: usize, heads: usize) -> Result<usize> {
        match self.size_if("head_dim")? {
            Some(0) => Err(self.error("head_dim is 0")),
            Some(width) if heads > 0 => Ok(width),
            None if heads > 0 && hidden.is_multiple_of(heads) && hidden > 0 => Ok(hidden / heads),
            _ => Err(self.error(format!("a width of {hidden} is not a multiple of {heads} attention heads"))),
        }
    }

    /// A number that may be absent.
    ///
    /// # Errors
    /// If it is there and not a number.
    pub fn number_if(&self, names: &str) -> Result<Option<f64>> {
        self.field(names, "a finite number", |v| v.as_f64().filter(|v| v.is_finite()))
    }

    /// A number with a default.
    ///
    /// # Errors
    /// If it is there and not a number.
    pub fn number_or(&self, names: &str, default: f64) -> Result<f64> {
        Ok(self.number_if(names)?.unwrap_or(default))
    }

    /// What norms add to a variance.
    ///
    /// # Errors
    /// If it is there and not a number from 0 to 1.
    pub fn eps(&self, names: &str, default: f64) -> Result<f64> {
        match self.number_or(names, default)? {
            eps if (0.0..=1.0).contains(&eps) => Ok(eps),
            eps => Err(self.error(format!("{names} is {eps}, expected a number from 0 to 1"))),
        }
    }

    /// A bound or divisor, which may be absent.
    ///
    /// # Errors
    /// If it is there and not a number above 0.
    pub fn positive_if(&self, names: &str) -> Result<Option<f64>> {
        match self.number_if(names)? {
            Some(value) if value < 1e-6 => Err(self.error(format!("{names} is {value}, expected a number above 0"))),
            value => Ok(value),
        }
    }

    /// A switch with a default.
    ///
    /// # Errors
    /// If it is there and not true or false.
    pub fn flag_or(&self, names: &str, default: bool) -> Result<bool> {
        Ok(self.field(names, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    /// A text with a default.
    ///
    /// # Errors
    /// If it is there and not a text.
    pub fn text_or(&self, names: &str, default: &str) -> Result<String> {
        let text = self.field(names, "a text", |v| v.as_str().map(str::to_string))?;
        Ok(text.unwrap_or_else(|| default.to_string()))
    }

    /// A list of texts; empty if absent. One text with `|` in it, as older files have it, is a list too.
    ///
    /// # Errors
    /// If it is there and neither.
    pub fn texts(&self, names: &str) -> Result<Vec<String>> {
        let list = self.field(names, "a list of texts", |value| match value {
            Value::String(text) => Some(text.split('|').map(str::to_string).collect()),
            Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_string)).collect(),
            _ => None,
        })?;
        Ok(list.unwrap_or_default())
    }

    /// A list of sizes; empty if absent.
    ///
    /// # Errors
    /// If it is there and holds anything but whole numbers up to 2^31.
    pub fn sizes(&self, names: &str) -> Result<Vec<usize>> {
        let size = |v: &Value| v.as_u64().filter(|&n| n <= MOST).map(|n| n as usize);
        let list = self.field(names, "a list of whole numbers", |v| v.as_array()?.iter().map(size).collect())?;
        Ok(list.unwrap_or_default())
    }

    /// A configuration inside this one.
    ///
    /// # Errors
    /// If it is there and not an object.
    pub fn inner(&self, name: &str) -> Result<Option<Config>> {
        let fields = self.field(name, "an object", |v| v.as_object().cloned())?;
        Ok(fields.map(|fields| Config { path: format!("{}: {name}", self.path), fields }))
    }

    /// The activation that a field names.
    ///
    /// # Errors
    /// If it is unknown.
    pub fn activation(&self, names: &str, default: &str) -> Result<Activation> {
        let name = self.text_or(names, default)?;
        activation::parse(&name).map_err(|_| self.error(format!("activation {name:?} is unknown")))
    }

    /// Rotary positions for heads of `head_dim`: `rope_parameters`, for one kind of layers if it tells them apart, or the older
    /// fields `rope_theta` and so on beside the others.
    ///
    /// # Errors
    /// If a field is of the wrong kind, or the scaling is one that is not there.
    pub fn rotary(&self, kind: Option<&str>, head_dim: usize, theta: f64) -> Result<Rotary> {
        let today = self.inner("rope_parameters")?;
        let of_kind = match (&today, kind) {
            (Some(all), Some(kind)) => all.inner(kind)?,
            _ => None,
        };
        let source = of_kind.as_ref().or(today.as_ref()).unwrap_or(self);
        let scaling = self.inner("rope_scaling")?;
        let stretch = self.stretch(scaling.as_ref().unwrap_or(source))?;
        let theta = source.number_or("rope_theta|rotary_emb_base", self.number_or("rope_theta", theta)?)?;
        let share = self.number_or("partial_rotary_factor|rotary_pct", 1.0)?;
        let share = source.number_or("partial_rotary_factor", share)?;
        if theta <= 0.0 || !(0.0..=1.0).contains(&share) {
            return Err(self.error(format!("rotary positions of base {theta} on {share} of a head")));
        }
        let dim = (head_dim as f64 * share) as usize;
        if dim > 1 << 16 {
            return Err(self.error(format!("rotary positions of {dim} elements")));
        }
        Ok(Rotary { theta, dim: dim - dim % 2, interleaved: false, stretch })
    }

    /// How `scaling` says that rotary positions are stretched.
    fn stretch(&self, scaling: &Config) -> Result<Stretch> {
        let name = scaling.text_or("rope_type|type", "default")?;
        let number = |names: &str, default: f64| Ok::<_, Error>(scaling.positive_if(names)?.unwrap_or(default));
        let factor = number("factor", 1.0)?;
        let positions = self.number_or("max_position_embeddings", 2048.0)?.max(1.0);
        let original = number("original_max_position_embeddings", positions)?;
        let stretch = match name.as_str() {
            "default" => return Ok(Stretch::None),
            "linear" => Stretch::Linear { factor },
            "llama3" => {
                let (low, high) = (number("low_freq_factor", 1.0)?, number("high_freq_factor", 4.0)?);
                if low >= high {
                    return Err(scaling.error(format!("low_freq_factor {low} is not below high_freq_factor {high}")));
                }
                Stretch::ByLength { factor, low, high, original }
            }
            "yarn" => {
                let magnitude = number("attention_factor", if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 })?;
                let (fast, slow) = (number("beta_fast", 32.0)?, number("beta_slow", 1.0)?);
                Stretch::Yarn { factor, fast, slow, original, magnitude }
            }
            _ => return Err(scaling.error(format!("rotary positions of type {name:?} are not supported"))),
        };
        Ok(stretch)
    }

    /// An error about this file.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::file(&self.path, message.into())
    }
}

/// A value as it stands in errors.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(value: Value) -> Config {
        Config::new(value).unwrap()
    }

    #[test]
    fn the_first_spelling_that_is_there_counts() {
        let c = config(json!({ "n_layer": 3, "num_hidden_layers": null, "hidden_size": -1, "eps": 1e-5 }));
        assert_eq!(c.size("num_hidden_layers|n_layer").unwrap(), 3);
        assert_eq!(c.size_or("intermediate_size|n_inner", 7).unwrap(), 7);
        assert_eq!(c.number_or("layer_norm_eps|eps", 1.0).unwrap(), 1e-5);
        let negative = c.size("hidden_size").unwrap_err().to_string();
        assert!(negative.contains("hidden_size") && negative.contains("-1"), "{negative}");
        let missing = c.size("vocab_size|n_vocab").unwrap_err().to_string();
        assert!(missing.contains("\"vocab_size\" or \"n_vocab\"") && missing.contains("missing"), "{missing}");
    }

    #[test]
    fn absurd_sizes_are_refused() {
        let c = config(json!({ "a": 1u64 << 40, "layers": 100_000, "heads": 5, "width": 1e300 }));
        assert!(c.size("a").is_err() && c.layers("layers").is_err() && c.size("width").is_err());
        assert!(c.head_dim(32, 5).is_err() && c.head_dim(32, 0).is_err() && c.head_dim(0, 4).is_err());
        assert_eq!(c.head_dim(32, 4).unwrap(), 8);
    }

    #[test]
    fn rotary_positions_of_all_spellings() {
        let rotary = |value: Value, kind| config(value).rotary(kind, 8, 10_000.0);
        let plain = Rotary { theta: 10_000.0, dim: 8, interleaved: false, stretch: Stretch::None };
        assert_eq!(rotary(json!({}), None).unwrap(), plain);
        let old = json!({ "rope_theta": 500.0, "rotary_pct": 0.5, "rope_scaling": null });
        assert_eq!(rotary(old, None).unwrap(), Rotary { theta: 500.0, dim: 4, ..plain });
        let neox = json!({ "rotary_emb_base": 500, "rotary_pct": 0.25 });
        assert_eq!(rotary(neox, None).unwrap(), Rotary { theta: 500.0, dim: 2, ..plain });
        let new =
            json!({ "rope_parameters": { "rope_theta": 7.0, "partial_rotary_factor": 0.5, "rope_type": "default" } });
        assert_eq!(rotary(new, None).unwrap(), Rotary { theta: 7.0, dim: 4, ..plain });
        let kinds = json!({ "rope_parameters": { "near": { "rope_theta": 3.0 }, "far": { "rope_theta": 9.0 } } });
        assert_eq!(rotary(kinds.clone(), Some("far")).unwrap().theta, 9.0);
        let linear = json!({ "rope_scaling": { "type": "linear", "factor": 2.0 } });
        assert_eq!(rotary(linear, None).unwrap().stretch, Stretch::Linear { factor: 2.0 });
        let llama = json!({ "rope_theta": 500000.0, "rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        } });
        let stretch = Stretch::ByLength { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };
        assert_eq!(rotary(llama, None).unwrap(), Rotary { theta: 500_000.0, stretch, ..plain });
        for wrong in [json!({ "type": "dynamic" }), json!({ "type": "linear", "factor": 0.0 })] {
            assert!(rotary(json!({ "rope_scaling": wrong }), None).is_err());
        }
    }
}
