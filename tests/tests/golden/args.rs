//! What a case hands to an operation: tensors and attributes by name.

use std::collections::BTreeMap;

use serde_json::Value;
use wgrad::Tensor;

use crate::fixture::Fallible;

/// Runs one operation.
pub type Op = fn(&Args) -> Fallible<Outputs>;

/// Results by name.
pub type Outputs = Vec<(String, Tensor)>;

/// The inputs and attributes of a case.
pub struct Args<'a> {
    pub tensors: BTreeMap<&'a str, Tensor>,
    pub attrs: &'a Value,
}

impl Args<'_> {
    /// An input that must be there.
    pub fn t(&self, name: &str) -> Fallible<&Tensor> {
        self.tensors.get(name).ok_or_else(|| format!("the case has no input {name}").into())
    }

    /// An input that may be absent.
    pub fn opt(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The inputs `prefix0`, `prefix1`, ...
    pub fn numbered(&self, prefix: &str) -> Vec<&Tensor> {
        (0..).map_while(|i| self.tensors.get(format!("{prefix}{i}").as_str())).collect()
    }

    /// An attribute of any type that JSON has; null and absent are an error unless `T` is an Option.
    pub fn get<T: serde::de::DeserializeOwned>(&self, name: &str) -> Fallible<T> {
        let value = self.attrs.get(name).cloned().unwrap_or(Value::Null);
        serde_json::from_value(value).map_err(|e| format!("attribute {name}: {e}").into())
    }

    /// `dims`, where null means all.
    pub fn dims(&self) -> Fallible<Vec<isize>> {
        Ok(self.get::<Option<Vec<isize>>>("dims")?.unwrap_or_default())
    }

    /// `dim`.
    pub fn dim(&self) -> Fallible<isize> {
        self.get("dim")
    }

    /// `keepdim`.
    pub fn keepdim(&self) -> Fallible<bool> {
        Ok(self.get::<Option<bool>>("keepdim")?.unwrap_or(false))
    }
}

/// A single result, called `out`.
pub fn out(tensor: wgrad::Result<Tensor>) -> Fallible<Outputs> {
    Ok(vec![("out".into(), tensor?)])
}

/// The results `values` and `indices`.
pub fn ranked((values, indices): (Tensor, Tensor)) -> Fallible<Outputs> {
    Ok(vec![("values".into(), values), ("indices".into(), indices)])
}

/// A case of a known operation that the engine does not offer; carried as an error and reported as unsupported.
#[derive(Debug)]
pub struct Unsupported(pub String);

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unsupported {}
