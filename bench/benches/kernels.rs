//! `cargo bench -p wgrad-bench`: the kernels on the machine at hand, in small sizes. `WGRAD_DEVICE` chooses the device, a word
//! after `--` what to run: `WGRAD_DEVICE=software cargo bench -p wgrad-bench -- softmax`.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use wgrad::Device;
use wgrad_bench::params::Params;
use wgrad_bench::workload;

/// A workload and its sizes, small enough for a software driver.
const SIZES: [&str; 18] = [
    "matmul m=256 n=256 k=256",
    "matmul m=1 n=2048 k=2048",
    "softmax rows=1024 d=1024",
    "layer_norm rows=1024 d=768",
    "layer_norm_bwd rows=1024 d=768",
    "rms_norm rows=1024 d=768",
    "rms_norm_bwd rows=1024 d=768",
    "cross_entropy rows=256 vocab=4096",
    "cross_entropy_bwd rows=256 vocab=4096",
    "attention h=4 l=256",
    "attention_bwd h=4 l=256",
    "elementwise n=1048576",
    "elementwise n=1048576 op=bias_gelu",
    "embedding n=1024",
    "embedding_bwd n=1024",
    "reduce n=1048576",
    "adamw n=1048576",
    "copy n=1048576",
];

fn kernels(criterion: &mut Criterion) {
    let device = Device::best().expect("a device");
    let mut group = criterion.benchmark_group(device.to_string());
    group.sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(800));
    for line in SIZES {
        let (name, sizes) = line.split_once(' ').expect("a name and sizes");
        let params = Params::parse(&sizes.split(' ').collect::<Vec<_>>()).expect("key=value");
        let (work, _) = workload::prepare(name, params, &device).expect(line);
        let mut step = work.step;
        (work.check)(&mut step).expect(line);
        if let Some(bytes) = work.bytes {
            group.throughput(Throughput::Bytes(bytes as u64));
        }
        group.bench_function(BenchmarkId::from_parameter(line), |bencher| {
            bencher.iter(|| {
                let results = step().expect(line);
                device.sync().expect(line);
                results
            });
        });
    }
    group.finish();
}

criterion_group!(benches, kernels);
criterion_main!(benches);
