//! The cases of `ops.json`: values and gradients of single operations.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;

use wgrad::{Device, Tensor, autograd};
use wgrad_tests::compare;

use crate::args::{Args, Op, Unsupported};
use crate::fixture::{Case, Entry, Fallible, Ops, Store, Tensors, folder};
use crate::report::{Report, first_of_each, selected};
use crate::{attention, conv, elementwise, fft, index, loss, matmul, norm, optim, reduce, resample, view};

/// How to run an operation.
fn find(op: &str) -> Option<Op> {
    let families = [
        attention::find,
        conv::find,
        elementwise::find,
        fft::find,
        index::find,
        loss::find,
        matmul::find,
        norm::find,
        optim::find,
        reduce::find,
        resample::find,
        view::find,
    ];
    families.iter().find_map(|find| find(op))
}

/// Runs all cases on a device, or the first of each operation.
pub fn run(device: &Device, name: &str, few: bool) {
    let (ops, store) = load().unwrap_or_else(|e| panic!("{}: {e}", folder().display()));
    let tensors = store.parse().unwrap_or_else(|e| panic!("ops.safetensors: {e}"));
    assert!(!ops.cases.is_empty(), "ops.json holds no case");
    let cases: Vec<&Case> = if few { first_of_each(&ops.cases, |c| &c.op) } else { ops.cases.iter().collect() };
    let mut report = Report::new(format!("golden operations on {name}"));
    for case in cases.into_iter().filter(|c| selected(&c.name)) {
        report.add(&case.name, check(case, &tensors, device));
    }
    report.check_guards(device);
    report.finish();
}

fn load() -> Fallible<(Ops, Store)> {
    let ops: Ops = serde_json::from_reader(BufReader::new(File::open(folder().join("ops.json"))?))?;
    if ops.format != 1 {
        return Err(format!("ops.json has format {}, this runner reads format 1", ops.format).into());
    }
    Ok((ops, Store::open(&folder().join("ops.safetensors"))?))
}

fn check(case: &Case, tensors: &Tensors, device: &Device) -> Fallible<()> {
    let op = find(&case.op).ok_or_else(|| Unsupported(format!("no operation {}", case.op)))?;
    let mut leaves = BTreeMap::new();
    let mut operands = BTreeMap::new();
    for (name, entry) in &case.inputs {
        let mut leaf = tensors.tensor(&entry.key, device)?;
        if case.grads.contains_key(name) {
            leaf = leaf.requires_grad();
        }
        let operand = entry.view.iter().try_fold(leaf.clone(), |x, step| step.of(&x))?;
        leaves.insert(name.as_str(), leaf);
        operands.insert(name.as_str(), operand);
    }
    let outputs: BTreeMap<String, Tensor> = op(&Args { tensors: operands, attrs: &case.attrs })?.into_iter().collect();
    let mut roots = Vec::new();
    for (name, entry) in &case.outputs {
        let got = outputs.get(name).ok_or_else(|| format!("there is no output {name}"))?;
        same(&format!("output {name}"), got, entry, tensors)?;
        // An output that is constant in all inputs has no place in the graph.
        if let Some(cot) = entry.cot.as_ref().filter(|_| got.is_tracked()) {
            roots.push((got, tensors.tensor(cot, device)?));
        }
    }
    if case.grads.is_empty() {
        return Ok(());
    }
    let gradients = autograd::backward(&roots, &[], false)?;
    for (name, entry) in &case.grads {
        let zeros;
        let got = match leaves.get(name.as_str()).and_then(|leaf| gradients.get(leaf)) {
            Some(gradient) => gradient,
            // None says that the loss does not depend on the input; the reference must say the same.
            None => {
                zeros = Tensor::zeros(&entry.shape, wgrad::DType::F32, device)?;
                &zeros
            }
        };
        same(&format!("gradient of {name}"), got, entry, tensors)?;
    }
    Ok(())
}

/// Checks one result against what is stored, within the tolerance that is stored with it: no device needs more.
pub fn same(what: &str, got: &Tensor, entry: &Entry, tensors: &Tensors) -> Fallible<()> {
    if got.shape() != entry.shape {
        return Err(format!("{what} has shape {:?}, expected {:?}", got.shape(), entry.shape).into());
    }
    compare(&got.to_f64_vec()?, &tensors.values(&entry.key)?, entry.tolerance())
        .map_err(|e| format!("{what}: {e}").into())
}
