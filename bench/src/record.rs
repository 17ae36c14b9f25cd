//! The line that a run prints.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::measure::Times;

/// One measured workload. As JSON it has exactly these keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Whose figure it is: `wgrad`, `burn`, `candle`, `torch`.
    pub engine: String,
    /// Name of the workload.
    pub workload: String,
    /// Its sizes, with those that were left to their defaults.
    pub params: Map<String, Value>,
    /// Where it ran, as the driver calls it.
    pub device: String,
    /// Timed runs.
    pub iters: usize,
    /// Median of their times.
    pub median_ms: f64,
    /// The shortest.
    pub min_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Arithmetic of the workload over the median; none where it is not about arithmetic.
    pub gflops: Option<f64>,
    /// Bytes that must be moved at least, over the median; none where that says nothing.
    pub gbps: Option<f64>,
    /// The time that the device's limit allows over the median.
    pub limit_fraction: Option<f64>,
}

impl Record {
    /// A record of times alone.
    pub fn new(workload: &str, params: Map<String, Value>, device: String, times: &Times) -> Self {
        Record {
            engine: "wgrad".into(),
            workload: workload.into(),
            params,
            device,
            iters: times.count(),
            median_ms: rounded(times.median() * 1e3),
            min_ms: rounded(times.min() * 1e3),
            max_ms: rounded(times.max() * 1e3),
            gflops: None,
            gbps: None,
            limit_fraction: None,
        }
    }

    /// Workload and sizes, as one types them.
    pub fn title(&self) -> String {
        title(&self.workload, &self.params)
    }
}

/// Sizes in the order in which one names them.
const ORDER: [&str; 14] = ["b", "h", "m", "n", "k", "rows", "l", "d", "dh", "layers", "vocab", "op", "over", "causal"];

/// `matmul b=1 m=512 n=512 k=512 dtype=f32`.
pub fn title(workload: &str, params: &Map<String, Value>) -> String {
    let rank = |key: &str| ORDER.iter().position(|known| *known == key).unwrap_or(ORDER.len());
    let mut all: Vec<_> = params.iter().collect();
    all.sort_by_key(|(key, _)| rank(key));
    let word = |(key, value): (&String, &Value)| match value.as_str() {
        Some(text) => format!(" {key}={text}"),
        None => format!(" {key}={value}"),
    };
    workload.to_string() + &all.into_iter().map(word).collect::<String>()
}

impl fmt::Display for Record {
    /// As one line of JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// Six significant digits: what is beyond is noise.
pub fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_exactly_the_keys_and_reads_back() {
        let mut params = Map::new();
        params.insert("n".into(), 1000.into());
        let times = Times::new(vec![0.002, 0.001, 0.0033333333]);
        let record = Record::new("dispatch", params, "cpu".into(), &times);
        let text = record.to_string();
        assert_eq!(
            text,
            "{\"engine\":\"wgrad\",\"workload\":\"dispatch\",\"params\":{\"n\":1000},\"device\":\"cpu\",\"iters\":3,\
             \"median_ms\":2.0,\"min_ms\":1.0,\"max_ms\":3.33333,\"gflops\":null,\"gbps\":null,\"limit_fraction\":null}"
        );
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
        assert_eq!(record.title(), "dispatch n=1000");
        let product = serde_json::json!({ "b": 1, "dtype": "f32", "k": 3, "m": 4, "n": 5 });
        assert_eq!(title("matmul", product.as_object().unwrap()), "matmul b=1 m=4 n=5 k=3 dtype=f32");
    }

    #[test]
    fn rounding() {
        assert_eq!(rounded(1234.56789), 1234.57);
        assert_eq!(rounded(0.000123456789), 0.000123457);
        assert_eq!(rounded(0.0), 0.0);
    }
}
