//! One workload by kernels of growing skill, from the naive one to the engine's own.

use std::path::PathBuf;
use std::rc::Rc;

use clap::Args;
use wgrad::{DType, Device, Kernel, Tensor};

use crate::measure;
use crate::params::Params;
use crate::record::{Record, rounded};
use crate::report::{Kind, Report};
use crate::suite::{progress, table};
use crate::workload::{self, Run, Step};
use crate::{Error, Result, check, cli};

/// Run a matrix product by kernels of growing skill and write a report; `plot` draws it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  wgrad-bench ladder matmul device=software --out ladder.json
  wgrad-bench ladder matmul m=4096 n=4096 k=4096 device=gpu --out ladder.json
The steps are the files in bench/ladder/, then the engine's own product.")]
pub struct LadderArgs {
    /// The workload: matmul.
    #[arg(value_parser = ["matmul"])]
    workload: String,
    /// m=, n=, k= (multiples of 64; 512), device=, iters=, warmup=.
    #[arg(value_name = "KEY=VALUE")]
    params: Vec<String>,
    /// The report.
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
}

/// A step: its name, its kernel, and how many elements a workgroup computes.
const STEPS: [(&str, &str, usize); 4] = [
    ("1 naive", include_str!("../ladder/1-naive.wgsl"), 64),
    ("2 vectors", include_str!("../ladder/2-vector.wgsl"), 256),
    ("3 workgroup tiles", include_str!("../ladder/3-tile.wgsl"), 256),
    ("4 register tiles", include_str!("../ladder/4-registers.wgsl"), 4096),
];

/// Does what the arguments say.
///
/// # Errors
/// If the device is no GPU, a kernel fails or is wrong, or the file cannot be written.
pub fn run(args: &LadderArgs) -> Result<()> {
    let mut params = Params::parse(&args.params)?;
    let device = cli::device(params.take("device").as_deref())?;
    let run = Run::take(&mut params)?;
    let [m, n, k] = [params.size("m", 512)?, params.size("n", 512)?, params.size("k", 512)?];
    params.finish("ladder matmul")?;
    if let Some(size) = [m, n, k].iter().find(|size| !size.is_multiple_of(64)) {
        return Err(Error::new(format!("ladder matmul: size {size} is no multiple of 64")));
    }
    let mut runs = steps(&device, [m, n, k])?;
    let bar = progress(runs.len());
    let mut records = Vec::new();
    for (name, step) in &mut runs {
        bar.set_message(name.clone());
        records.push(measured(name, step, [m, n, k], &device, run)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    cli::print(&table(&records))?;
    match &args.out {
        Some(path) => Report::new(Kind::Ladder, &device, records)?.save(path),
        None => Ok(()),
    }
}

/// The inputs, kept for the check.
struct Inputs {
    a: Tensor,
    b: Tensor,
}

struct Rung {
    run: Step,
    inputs: Rc<Inputs>,
}

fn steps(device: &Device, [m, n, k]: [usize; 3]) -> Result<Vec<(String, Rung)>> {
    device.set_seed(1);
    let draw = |shape: &[usize]| Tensor::normal(0.0, 1.0, shape, DType::F32, device);
    let inputs = Rc::new(Inputs { a: draw(&[m, k])?, b: draw(&[k, n])? });
    let mut rungs = Vec::new();
    // The steps are WGSL; the CPU device has only its product.
    for (name, wgsl, elements) in if device.is_gpu() { &STEPS[..] } else { &[] } {
        let kernel = Kernel::new(name, wgsl);
        let params: Vec<u8> = [m, n, k].iter().flat_map(|&size| (size as u32).to_ne_bytes()).collect();
        let groups = (m * n).div_ceil(*elements) as u64;
        let given = inputs.clone();
        let run: Step =
            Box::new(move || Ok(kernel.run(&[&given.a, &given.b], &[(&[m, n], DType::F32)], &params, groups)?));
        rungs.push(((*name).to_string(), Rung { run, inputs: inputs.clone() }));
    }
    let given = inputs.clone();
    let run: Step = Box::new(move || Ok(vec![given.a.matmul(&given.b)?]));
    rungs.push((format!("{} wgrad", rungs.len() + 1), Rung { run, inputs }));
    Ok(rungs)
}

fn measured(name: &str, rung: &mut Rung, [m, n, k]: [usize; 3], device: &Device, run: Run) -> Result<Record> {
    if run.check {
        let host = |x: &Tensor| x.to_vec::<f32>();
        let Inputs { a, b } = &*rung.inputs;
        let product = host(&(rung.run)()?[0])?;
        let sizes = [1, m, n, k];
        workload::freivalds(name, &host(a)?, &host(b)?, &product, sizes, check::tolerance(DType::F32))?;
    }
    let times = measure::time(device, run.repeat, true, &mut rung.run)?;
    let mut params = serde_json::Map::new();
    for (key, value) in [("m", m), ("n", n), ("k", k)] {
        params.insert(key.into(), value.into());
    }
    params.insert("step".into(), name.into());
    let (flops, bytes) = (2.0 * (m * n) as f64 * k as f64, 4.0 * (m * k + k * n + m * n) as f64);
    let mut record = Record::new("matmul", params, device.to_string(), &times);
    record.gflops = Some(rounded(flops / times.median() / 1e9));
    record.gbps = Some(rounded(bytes / times.median() / 1e9));
    record.limit_fraction = workload::limit_fraction(device, Some(flops), Some(bytes), &times)?;
    Ok(record)
}
