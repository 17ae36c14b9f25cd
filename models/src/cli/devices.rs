//! `wgrad devices`

use serde_json::json;
use wgrad::{AdapterDescription, adapters};

use super::args::DevicesArgs;
use crate::Result;

/// Lists the adapters of this machine.
pub fn run(args: &DevicesArgs) -> Result<()> {
    let found = adapters();
    if args.json {
        let rows: Vec<_> = found.iter().map(row).collect();
        return super::print(&super::json(&rows)?);
    }
    let mut text = String::new();
    for adapter in &found {
        let AdapterDescription { index, name, driver, backend, kind, features, limits } = adapter;
        text.push_str(&format!("gpu:{index}  {name}\n       {kind}, {backend}, {driver}\n"));
        let features = if features.is_empty() { "none".into() } else { features.join(", ") };
        text.push_str(&format!("       features: {features}\n"));
        let limits: Vec<String> = limits.iter().map(|(name, value)| format!("{name} {value}")).collect();
        text.push_str(&format!("       limits: {}\n", limits.join(", ")));
    }
    if found.is_empty() {
        text.push_str("no GPU adapter, not even a software driver such as Mesa's llvmpipe (mesa-vulkan-drivers)\n");
    }
    text.push_str("cpu    always there\n");
    super::print(&text)
}

fn row(adapter: &AdapterDescription) -> serde_json::Value {
    let limits: serde_json::Map<String, serde_json::Value> =
        adapter.limits.iter().map(|&(name, value)| (name.to_string(), json!(value))).collect();
    json!({
        "index": adapter.index,
        "name": adapter.name,
        "driver": adapter.driver,
        "backend": adapter.backend,
        "kind": adapter.kind,
        "features": adapter.features,
        "limits": limits,
    })
}
