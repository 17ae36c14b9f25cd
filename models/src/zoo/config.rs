//! Reading a Hugging Face `config.json`.

use std::path::Path;

use serde_json::Value;

use crate::{Error, Result};

/// A `config.json`, with errors that name the file and the field.
pub struct Config {
    path: String,
    fields: serde_json::Map<String, Value>,
}

impl Config {
    /// Reads `config.json` of a model folder.
    ///
    /// # Errors
    /// If the file is missing or is not a JSON object.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(|e| Error::file(&path, e))?;
        let value = serde_json::from_str(&text).map_err(|e| Error::file(&path, format!("not JSON: {e}")))?;
        match value {
            Value::Object(fields) => Ok(Config { path: path.display().to_string(), fields }),
            _ => Err(Error::file(&path, "not a JSON object")),
        }
    }

    fn field<T>(&self, name: &str, kind: &str, read: impl Fn(&Value) -> Option<T>) -> Result<T> {
        let value = self.fields.get(name).ok_or_else(|| self.error(format!("field {name:?} ({kind}) is missing")))?;
        read(value).ok_or_else(|| self.error(format!("field {name:?} is {value}, expected {kind}")))
    }

    /// As the reader that follows, with a default for a field that is absent or null.
    fn field_or<T>(&self, name: &str, kind: &str, default: T, read: impl Fn(&Value) -> Option<T>) -> Result<T> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(default),
            Some(_) => self.field(name, kind, read),
        }
    }

    /// A size or count.
    ///
    /// # Errors
    /// If it is missing or not a whole number.
    pub fn size(&self, name: &str) -> Result<usize> {
        self.field(name, "a whole number", size)
    }

    /// A size with a default.
    ///
    /// # Errors
    /// If it is there and not a whole number.
    pub fn size_or(&self, name: &str, default: usize) -> Result<usize> {
        self.field_or(name, "a whole number", default, size)
    }

    /// A number with a default.
    ///
    /// # Errors
    /// If it is there and not a number.
    pub fn number_or(&self, name: &str, default: f64) -> Result<f64> {
        self.field_or(name, "a number", default, Value::as_f64)
    }

    /// A switch with a default.
    ///
    /// # Errors
    /// If it is there and not true or false.
    pub fn flag_or(&self, name: &str, default: bool) -> Result<bool> {
        self.field_or(name, "true or false", default, Value::as_bool)
    }

    /// A text with a default.
    ///
    /// # Errors
    /// If it is there and not a text.
    pub fn text_or(&self, name: &str, default: &str) -> Result<String> {
        self.field_or(name, "a text", default.to_string(), |v| v.as_str().map(str::to_string))
    }

    /// An error about this file.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::file(&self.path, message.into())
    }
}

fn size(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}
