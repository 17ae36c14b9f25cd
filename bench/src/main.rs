//! Benchmarks of wgrad as one JSON line each: `wgrad-bench run dispatch n=1000 device=software iters=20`.

use std::process::ExitCode;
use std::time::Instant;

use wgrad::{DType, Device, Result, Tensor};

const USAGE: &str = "usage: wgrad-bench run dispatch [n=1000] [device=cpu|gpu|gpu:N|software] [iters=10]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [run, workload, rest @ ..] = &args[..] else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if (run.as_str(), workload.as_str()) != ("run", "dispatch") {
        eprintln!("error: unknown workload {run} {workload}\n{USAGE}");
        return ExitCode::from(2);
    }
    let value = |key: &str| rest.iter().find_map(|arg| arg.strip_prefix(key)?.strip_prefix('='));
    let number = |key: &str, default: u64| value(key).map_or(Some(default), |v| v.parse().ok()).filter(|&v| v > 0);
    let (Some(n), Some(iters)) = (number("n", 1000), number("iters", 10)) else {
        eprintln!("error: n and iters are whole numbers from 1 on\n{USAGE}");
        return ExitCode::from(2);
    };
    match dispatch(n, iters, value("device")) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `x + 1`, `n` times in a row on 256 elements: what an operation costs beside its arithmetic.
fn dispatch(n: u64, iters: u64, device: Option<&str>) -> Result<String> {
    let device = device.map_or_else(Device::best, Device::by_name)?;
    let x = Tensor::zeros(&[256], DType::F32, &device)?;
    let chain = || (0..n).try_fold(x.clone(), |y, _| y.add_scalar(1.0));
    let last = chain()?.narrow(0, 255, 1)?.item()?;
    assert_eq!(last, n.min(1 << 24) as f64, "the chain gave a wrong sum");
    let mut millis = Vec::new();
    let mut recorded = Vec::new();
    for _ in 0..iters {
        device.sync()?;
        let begun = Instant::now();
        let end = chain()?;
        recorded.push(begun.elapsed().as_secs_f64() * 1e3);
        device.sync()?;
        millis.push(begun.elapsed().as_secs_f64() * 1e3);
        drop(end);
    }
    millis.sort_by(f64::total_cmp);
    recorded.sort_by(f64::total_cmp);
    let (median, record) = (millis[millis.len() / 2], recorded[recorded.len() / 2]);
    Ok(format!(
        "{{\"engine\":\"wgrad\",\"workload\":\"dispatch\",\"params\":{{\"n\":{n}}},\"device\":\"{device}\",\"iters\":{iters},\
         \"median_ms\":{median:.4},\"min_ms\":{:.4},\"max_ms\":{:.4},\"us_per_op\":{:.3},\"recording_us_per_op\":{:.3}}}",
        millis[0],
        millis[millis.len() - 1],
        median * 1e3 / n as f64,
        record * 1e3 / n as f64
    ))
}
