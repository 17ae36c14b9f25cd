//! `key=value` arguments of a run.

use serde_json::{Map, Value};

use crate::{Error, Result};

/// Keys and values as given, and those that a workload has asked for, with its defaults.
#[derive(Debug, Clone, Default)]
pub struct Params {
    /// In the order in which they came.
    given: Vec<(String, String)>,
    used: Map<String, Value>,
}

impl Params {
    /// Reads `key=value` words.
    ///
    /// # Errors
    /// If a word has no `=`, or a key comes twice.
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Result<Self> {
        let mut given: Vec<(String, String)> = Vec::new();
        for word in words.iter().map(AsRef::as_ref) {
            let Some((key, value)) = word.split_once('=').filter(|(key, _)| !key.is_empty()) else {
                return Err(Error::new(format!("expected key=value, got {word:?}")));
            };
            if given.iter().any(|(known, _)| known == key) {
                return Err(Error::new(format!("key {key} is given twice")));
            }
            given.push((key.to_string(), value.to_string()));
        }
        Ok(Params { given, used: Map::new() })
    }

    /// The words again.
    pub fn words(&self) -> Vec<String> {
        self.given.iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    /// Takes a key out that concerns the run and not the workload, such as `iters`.
    pub fn take(&mut self, key: &str) -> Option<String> {
        let place = self.given.iter().position(|(known, _)| known == key)?;
        Some(self.given.remove(place).1)
    }

    /// Takes out a whole number of the run, if it is given.
    ///
    /// # Errors
    /// If it is no number from `least` on.
    pub fn take_number(&mut self, key: &str, least: usize) -> Result<Option<usize>> {
        self.take(key).map(|value| whole(key, &value, least)).transpose()
    }

    /// Takes out a yes (1) or no (0) of the run.
    ///
    /// # Errors
    /// If it is neither.
    pub fn take_flag(&mut self, key: &str, default: bool) -> Result<bool> {
        self.take(key).map_or(Ok(default), |value| yes(key, &value))
    }

    /// Sets a key, in place of what was given.
    pub fn set(&mut self, key: &str, value: impl ToString) {
        match self.given.iter_mut().find(|(known, _)| known == key) {
            Some((_, given)) => *given = value.to_string(),
            None => self.given.push((key.to_string(), value.to_string())),
        }
    }

    /// Sets all keys of others.
    pub fn extend(&mut self, others: &Params) {
        others.given.iter().for_each(|(key, value)| self.set(key, value));
    }

    /// A size of the workload, from 1 on.
    ///
    /// # Errors
    /// If it is no such number.
    pub fn size(&mut self, key: &str, default: usize) -> Result<usize> {
        let value = self.take_number(key, 1)?.unwrap_or(default);
        self.used.insert(key.to_string(), value.into());
        Ok(value)
    }

    /// A part of the workload, above 0 and up to 1.
    ///
    /// # Errors
    /// If it is no such number.
    pub fn fraction(&mut self, key: &str, default: f64) -> Result<f64> {
        let value = match self.take(key) {
            None => default,
            Some(value) => value
                .parse()
                .ok()
                .filter(|number| *number > 0.0 && *number <= 1.0)
                .ok_or_else(|| Error::new(format!("{key}={value}: expected a number above 0, at most 1")))?,
        };
        self.used.insert(key.to_string(), value.into());
        Ok(value)
    }

    /// A yes (1) or no (0) of the workload.
    ///
    /// # Errors
    /// If it is neither.
    pub fn flag(&mut self, key: &str, default: bool) -> Result<bool> {
        let value = self.take_flag(key, default)?;
        self.used.insert(key.to_string(), u8::from(value).into());
        Ok(value)
    }

    /// One of several words; the first is the default.
    ///
    /// # Errors
    /// If it is none of them.
    pub fn choice(&mut self, key: &str, among: &[&'static str]) -> Result<&'static str> {
        let value = match self.take(key) {
            None => among[0],
            Some(value) => among
                .iter()
                .find(|word| **word == value)
                .copied()
                .ok_or_else(|| Error::new(format!("{key}={value}: expected one of {}", among.join(", "))))?,
        };
        self.used.insert(key.to_string(), value.into());
        Ok(value)
    }

    /// What the workload used.
    ///
    /// # Errors
    /// If a key is left over that the workload does not know.
    pub fn finish(self, workload: &str) -> Result<Map<String, Value>> {
        match self.given.first() {
            None => Ok(self.used),
            Some((key, _)) => {
                let known: Vec<&str> = self.used.keys().map(String::as_str).collect();
                Err(Error::new(format!("{workload} has no key {key}; its keys are {}", known.join(", "))))
            }
        }
    }
}

fn whole(key: &str, value: &str, least: usize) -> Result<usize> {
    let number = value.parse().ok().filter(|&number| number >= least);
    number.ok_or_else(|| Error::new(format!("{key}={value}: expected a whole number from {least} on")))
}

fn yes(key: &str, value: &str) -> Result<bool> {
    match value {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(Error::new(format!("{key}={value}: expected 1 or 0"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_given_values() {
        let mut params = Params::parse(&["m=7", "iters=3", "causal=1"]).unwrap();
        assert_eq!(params.take_number("iters", 1).unwrap(), Some(3));
        assert_eq!((params.size("m", 1).unwrap(), params.size("n", 5).unwrap()), (7, 5));
        assert!(params.flag("causal", false).unwrap());
        assert_eq!(params.choice("dtype", &["f32", "f16"]).unwrap(), "f32");
        let used = Value::Object(params.finish("matmul").unwrap());
        assert_eq!(used, serde_json::json!({ "m": 7, "n": 5, "causal": 1, "dtype": "f32" }));
    }

    #[test]
    fn bad_words_are_named() {
        let text = |result: Result<Params>| result.unwrap_err().to_string();
        assert!(text(Params::parse(&["m7"])).contains("m7"));
        assert!(text(Params::parse(&["=7"])).contains("=7"));
        assert!(text(Params::parse(&["m=7", "m=8"])).contains("twice"));
        let params = |word| Params::parse(&[word]).unwrap();
        for word in ["m=0", "m=-1", "m=x", "m="] {
            assert!(params(word).size("m", 1).unwrap_err().to_string().contains(word));
        }
        assert!(params("causal=2").flag("causal", false).is_err());
        assert!(params("dtype=f8").choice("dtype", &["f32"]).unwrap_err().to_string().contains("f8"));
        let mut left = params("cols=4");
        left.size("d", 1).unwrap();
        let text = left.finish("softmax").unwrap_err().to_string();
        assert!(text.contains("cols") && text.contains("softmax") && text.ends_with("are d"), "{text}");
    }
}
