//! Tests against a software driver. They need one; `WGRAD_SKIP_GPU=1` skips them and says so.

use std::sync::Arc;
use std::time::Instant;

use half::{bf16, f16};

use super::{Bind, Gpu, GpuBuffer, GpuOptions, Launch, Select, lock, open};
use crate::{DType, Error, Result};

fn options() -> GpuOptions {
    GpuOptions {
        checked: false,
        immediates: true,
        matrix_units: true,
        emulated_units: false,
        guards: false,
        memory_limit: None,
        binding_limit: None,
        loop_limit: None,
        portable: false,
    }
}

fn with(options: GpuOptions, test: impl FnOnce(Arc<Gpu>)) {
    if std::env::var("WGRAD_SKIP_GPU").is_ok_and(|v| v == "1") {
        eprintln!("skipped: WGRAD_SKIP_GPU=1");
        return;
    }
    test(open(Select::Software, options).expect("a Vulkan software driver such as Mesa's llvmpipe"));
}

fn floats(gpu: &Arc<Gpu>, values: &[f32]) -> Arc<GpuBuffer> {
    gpu.upload("test", bytemuck::cast_slice(values)).unwrap()
}

fn read_f32(gpu: &Gpu, buffer: &GpuBuffer) -> Vec<f32> {
    bytemuck::pod_collect_to_vec(&gpu.read("test", buffer, 0, buffer.bytes()).unwrap())
}

fn convert(gpu: &Gpu, x: &GpuBuffer, from: DType, y: &GpuBuffer, to: DType, count: u64) -> Result<()> {
    let fours = count.div_ceil(4);
    gpu.run(Launch {
        kernel: "util/convert",
        elems: &[("x", from), ("y", to)],
        constants: &[],
        bind: &[Bind::Read(x.into()), Bind::Write(y.into())],
        params: &(fours as u32).to_le_bytes(),
        groups: fours.div_ceil(256),
    })
}

const SCALE: &str = "
override FACTOR: f32 = 2.0;
struct Params { count: u32, offset: f32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = (wg.x + wg.y * nwg.x) * 64u + local;
    if (i < p.count) { y[i] = x[i] * FACTOR + p.offset; }
}
";

fn scale(gpu: &Gpu, x: &GpuBuffer, y: &GpuBuffer, count: u32, factor: f64, offset: f32) -> Result<()> {
    lock(&gpu.stream).define("test/scale", SCALE);
    gpu.run(Launch {
        kernel: "test/scale",
        elems: &[],
        constants: &[("FACTOR", factor)],
        bind: &[Bind::Read(x.into()), Bind::Write(y.into())],
        params: bytemuck::cast_slice(&[count, offset.to_bits()]),
        groups: u64::from(count).div_ceil(64),
    })
}

#[test]
fn all_ways_of_passing_parameters_agree() {
    let ways = [
        options(),
        GpuOptions { immediates: false, ..options() },
        GpuOptions { checked: true, ..options() },
        GpuOptions { portable: true, guards: true, ..options() },
    ];
    for way in ways {
        with(way, |gpu| {
            assert_eq!(gpu.caps().immediates, way.immediates && !way.portable);
            let x = floats(&gpu, &[1.0, 2.0, 3.0]);
            let mut last = x;
            for step in 0..300 {
                let y = gpu.alloc("test", 12).unwrap();
                scale(&gpu, &last, &y, 3, if step % 2 == 0 { 2.0 } else { 0.5 }, step as f32 % 3.0).unwrap();
                last = y;
            }
            let mut expected = [1.0f32, 2.0, 3.0];
            for step in 0..300 {
                expected = expected.map(|v| v * if step % 2 == 0 { 2.0 } else { 0.5 } + step as f32 % 3.0);
            }
            assert_eq!(read_f32(&gpu, &last), expected);
            gpu.check_guards().unwrap();
            gpu.sync().unwrap();
        });
    }
}

#[test]
fn a_recycled_buffer_is_not_written_before_its_readers() {
    with(options(), |gpu| {
        let y = gpu.alloc("test", 4096).unwrap();
        let x = floats(&gpu, &[1.0; 1024]);
        let id = x.physical.id;
        scale(&gpu, &x, &y, 1024, 1.0, 0.0).unwrap();
        drop(x);
        let other = floats(&gpu, &[7.0; 1024]);
        assert_eq!(other.physical.id, id, "the pool should hand out the freed buffer");
        assert_eq!(read_f32(&gpu, &y), vec![1.0; 1024]);
        // A copy is in order with dispatches before and after it.
        let z = gpu.alloc("test", 4096).unwrap();
        gpu.copy(&other, 0, &z, 2048, 2048).unwrap();
        scale(&gpu, &z, &y, 1024, 3.0, 0.0).unwrap();
        gpu.copy(&other, 0, &z, 0, 4096).unwrap();
        assert_eq!(read_f32(&gpu, &y)[512..], vec![21.0; 512]);
        assert_eq!(gpu.read("test", &z, 3, 6).unwrap(), [0x40, 0, 0, 0xe0, 0x40, 0]);
        assert!(matches!(gpu.copy(&z, 0, &z, 0, 4), Err(Error::Kernel { .. })));
        assert!(matches!(gpu.copy(&z, 0, &y, 4092, 8), Err(Error::Kernel { .. })));
        assert!(matches!(gpu.read("test", &z, 4000, 97), Err(Error::Argument { .. })));
    });
}

#[test]
fn memory_does_not_grow() {
    with(options(), |gpu| {
        let x = floats(&gpu, &[1.0; 100]);
        let mut after_fifty = gpu.memory();
        for step in 0..1000 {
            let a = gpu.alloc("test", 400).unwrap();
            scale(&gpu, &x, &a, 100, 2.0, 1.0).unwrap();
            let b = gpu.alloc("test", 400).unwrap();
            scale(&gpu, &a, &b, 100, 2.0, 1.0).unwrap();
            if step == 50 {
                after_fifty = gpu.memory();
            }
        }
        assert_eq!(read_f32(&gpu, &x), vec![1.0; 100]);
        let end = gpu.memory();
        assert_eq!(end.allocations, after_fifty.allocations);
        assert_eq!(end.peak_reserved_bytes, after_fifty.peak_reserved_bytes);
        assert_eq!(end.bind_groups_created, after_fifty.bind_groups_created);
        assert_eq!((end.dispatches, end.pipelines), (2000, 1));
        assert!(end.submits >= 2000 / 128 && end.submits < 30, "{end:?}");
        gpu.trim();
        assert_eq!((gpu.memory().pooled_bytes, gpu.memory().live_bytes), (0, 448));
        let a = gpu.alloc("test", 400).unwrap();
        scale(&gpu, &x, &a, 100, 2.0, 1.0).unwrap();
        assert_eq!(read_f32(&gpu, &a), vec![3.0; 100]);
    });
}

#[test]
fn out_of_memory_and_too_large_leave_the_device_usable() {
    with(GpuOptions { memory_limit: Some(1 << 20), ..options() }, |gpu| {
        let limit = gpu.caps().max_buffer_bytes;
        assert!(matches!(gpu.alloc("big", limit + 1), Err(Error::TooLarge { op: "big", .. })));
        assert!(matches!(gpu.alloc("big", u64::MAX), Err(Error::TooLarge { .. })));
        let half = gpu.alloc("half", 1 << 19).unwrap();
        // 768 KiB fit only once the pool has given the first 512 KiB back.
        drop(half);
        let most = gpu.alloc("most", 3 << 18).unwrap();
        match gpu.alloc("rest", 1 << 19) {
            Err(Error::OutOfMemory { op: "rest", requested, in_use, limit }) => {
                assert_eq!((requested, in_use, limit), (1 << 19, 3 << 18, 1 << 20));
            }
            other => panic!("{other:?}"),
        }
        drop(most);
        gpu.set_memory_limit(None);
        let x = floats(&gpu, &[1.0; 4]);
        let y = gpu.alloc("test", 3 << 19).unwrap();
        scale(&gpu, &x, &y, 4, 2.0, 0.0).unwrap();
        assert_eq!(read_f32(&gpu, &y)[..4], [2.0; 4]);
    });
}

#[test]
fn halves_round_trip_as_on_the_host() {
    let below = f32::from_bits(65520.0f32.to_bits() - 1);
    let values = [
        0.0f32,
        -0.0,
        1.0,
        -1.5,
        0.1,
        3.25,
        65504.0,
        1e-7,
        6.1e-5,
        1.0 + 1.0 / 2048.0,
        1.0 + 3.0 / 2048.0,
        below,
        65520.0,
        -1e30,
        f32::INFINITY,
        f32::NAN,
    ];
    with(options(), |gpu| {
        let n = values.len() as u64;
        let x = floats(&gpu, &values);
        let (packed, back) = (gpu.alloc("test", 2 * n).unwrap(), gpu.alloc("test", 4 * n).unwrap());
        convert(&gpu, &x, DType::F32, &packed, DType::BF16, n).unwrap();
        let bits: Vec<u16> = bytemuck::pod_collect_to_vec(&gpu.read("test", &packed, 0, 2 * n).unwrap());
        let expected: Vec<u16> = values.iter().map(|v| bf16::from_f32(*v).to_bits()).collect();
        assert_eq!(bits, expected);
        convert(&gpu, &packed, DType::BF16, &back, DType::F32, n).unwrap();
        for (got, bits) in read_f32(&gpu, &back).iter().zip(&bits) {
            assert_eq!(got.to_bits(), bf16::from_bits(*bits).to_f32().to_bits());
        }
        convert(&gpu, &x, DType::F32, &packed, DType::F16, n).unwrap();
        let bits: Vec<u16> = bytemuck::pod_collect_to_vec(&gpu.read("test", &packed, 0, 2 * n).unwrap());
        for (got, value) in bits.iter().zip(&values) {
            // A NaN may keep or lose its payload.
            let (got, expected) = (f16::from_bits(*got), f16::from_f32(*value));
            assert!(
                got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan(),
                "{value}: {got} {expected}"
            );
        }
        convert(&gpu, &packed, DType::F16, &back, DType::F32, n).unwrap();
        for (got, bits) in read_f32(&gpu, &back).iter().zip(&bits) {
            let expected = f16::from_bits(*bits).to_f32();
            assert!(*got == expected || got.is_nan() && expected.is_nan(), "{got} {expected}");
        }
        convert(&gpu, &x, DType::F32, &back, DType::I32, 6).unwrap();
        let ints: Vec<i32> = bytemuck::pod_collect_to_vec(&gpu.read("test", &back, 0, 24).unwrap());
        assert_eq!(ints, [0, 0, 1, -1, 0, 3]);
    });
}

#[test]
fn a_write_past_the_end_is_caught() {
    with(GpuOptions { guards: true, ..options() }, |gpu| {
        let x = floats(&gpu, &[1.0; 21]);
        let y = gpu.alloc("victim", 80).unwrap();
        let fresh: Vec<f32> = read_f32(&gpu, &y);
        assert!(fresh.iter().all(|v| v.is_nan()), "new memory should read as NaN");
        scale(&gpu, &x, &y, 20, 2.0, 0.0).unwrap();
        gpu.check_guards().unwrap();
        scale(&gpu, &x, &y, 21, 2.0, 0.0).unwrap();
        match gpu.check_guards() {
            Err(Error::Kernel { kernel, .. }) => assert_eq!(kernel, "victim"),
            other => panic!("{other:?}"),
        }
        drop(y);
        gpu.check_guards().unwrap();
    });
}

#[test]
fn a_bad_kernel_is_an_error_and_the_next_one_runs() {
    with(options(), |gpu| {
        let x = floats(&gpu, &[1.0; 4]);
        let y = gpu.alloc("test", 16).unwrap();
        lock(&gpu.stream).define("test/bad", "fn main() -> { }");
        let launch = Launch { kernel: "test/bad", elems: &[], constants: &[], bind: &[], params: &[], groups: 1 };
        for _ in 0..2 {
            match gpu.run(launch) {
                Err(Error::Kernel { kernel, message }) => assert!(kernel == "test/bad" && !message.is_empty()),
                other => panic!("{other:?}"),
            }
        }
        let missing = gpu.run(Launch { kernel: "test/missing", ..launch });
        assert!(missing.unwrap_err().to_string().contains("test/missing.wgsl"));
        let both = [Bind::Read((&*x).into()), Bind::Write((&*x).into())];
        let both = gpu.run(Launch { kernel: "test/scale", bind: &both, params: &[0; 8], ..launch });
        assert!(both.unwrap_err().to_string().contains("bindings 0 and 1"));
        // One binding too few: found when the pipeline is made.
        lock(&gpu.stream).define("test/scale", SCALE);
        let few = Launch { kernel: "test/scale", bind: &[Bind::Read((&*x).into())], params: &[0; 8], ..launch };
        assert!(matches!(gpu.run(few), Err(Error::Kernel { .. })));
        scale(&gpu, &x, &y, 4, 2.0, 0.0).unwrap();
        assert_eq!(read_f32(&gpu, &y), [2.0; 4]);
        gpu.sync().unwrap();
    });
}

#[test]
fn a_lost_device_says_so() {
    with(options(), |gpu| {
        let x = floats(&gpu, &[1.0; 4]);
        let y = gpu.alloc("test", 16).unwrap();
        scale(&gpu, &x, &y, 4, 2.0, 0.0).unwrap();
        gpu.device().destroy();
        assert!(matches!(gpu.sync(), Err(Error::DeviceLost { .. })));
        assert!(matches!(gpu.read("test", &y, 0, 16), Err(Error::DeviceLost { .. })));
        assert!(matches!(gpu.alloc("test", 16), Err(Error::DeviceLost { .. })));
        assert!(matches!(scale(&gpu, &x, &y, 4, 2.0, 0.0), Err(Error::DeviceLost { .. })));
        drop((x, y));
        gpu.trim();
    });
}

#[test]
fn adapters_are_listed_and_opened_by_number() {
    with(options(), |gpu| {
        let adapters = super::adapters();
        let found = adapters.iter().find(|a| a.kind == "software").expect("the driver that the tests run on");
        assert_eq!((&found.name, &found.driver), (&gpu.caps().name, &gpu.caps().driver));
        assert!(found.limits.iter().any(|(name, value)| *name == "binding bytes" && *value >= 128 << 20));
        assert_eq!(open(Select::Index(found.index), options()).unwrap().caps().name, found.name);
        let missing = open(Select::Index(adapters.len()), options());
        assert!(matches!(missing, Err(Error::NoDevice { .. })));
    });
}

#[test]
fn threads_share_a_device() {
    with(options(), |gpu| {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let gpu = &gpu;
                scope.spawn(move || {
                    let x = floats(gpu, &[thread as f32; 100]);
                    for round in 1..50 {
                        let y = gpu.alloc("test", 400).unwrap();
                        scale(gpu, &x, &y, 100, 2.0, round as f32).unwrap();
                        if round % 7 == 0 {
                            assert_eq!(read_f32(gpu, &y), [2.0 * thread as f32 + round as f32; 100]);
                        }
                    }
                });
            }
        });
        // A second engine on the same wgpu device, as an application would hand it in.
        let (device, queue) = (gpu.device().clone(), gpu.queue().clone());
        let guest = super::from_wgpu(device, queue, options()).unwrap();
        let (x, y) = (floats(&guest, &[1.0; 4]), guest.alloc("test", 16).unwrap());
        scale(&guest, &x, &y, 4, 2.0, 0.0).unwrap();
        assert_eq!(read_f32(&guest, &y), [2.0; 4]);
    });
}

#[test]
fn large_uploads_arrive_whole() {
    with(options(), |gpu| {
        let bytes: Vec<u8> = (0..(64 << 20) + 4099u32).map(|i| (i % 251) as u8).collect();
        let buffer = gpu.upload("test", &bytes).unwrap();
        assert!(gpu.read("test", &buffer, 0, bytes.len() as u64).unwrap() == bytes);
    });
}

#[test]
fn grids_fold_and_cover() {
    assert_eq!(super::stream::fold(1, 65535), Some((1, 1)));
    assert_eq!(super::stream::fold(65535, 65535), Some((65535, 1)));
    assert_eq!(super::stream::fold(70_001, 65535), Some((35_001, 2)));
    assert_eq!(super::stream::fold(u64::MAX, 65535), None);
    with(options(), |gpu| {
        let count = 70_000 * 64 - 5;
        let x = gpu.alloc("test", 4 * u64::from(count)).unwrap();
        gpu.fill(&x, 1.0f32.to_bits()).unwrap();
        let y = gpu.alloc("test", 4 * u64::from(count)).unwrap();
        gpu.fill(&y, 0).unwrap();
        scale(&gpu, &x, &y, count, 3.0, 1.0).unwrap();
        assert!(read_f32(&gpu, &y).iter().all(|v| *v == 4.0));
    });
}

#[test]
fn sizes_waste_at_most_a_quarter() {
    for bytes in (1..5000).chain([1 << 20, (1 << 20) + 1, (5 << 20) + 1, u64::from(u32::MAX)]) {
        let class = super::pool::size_class(bytes);
        assert!(
            class >= bytes && class.is_multiple_of(16) && (class - bytes) * 4 <= class.max(1024),
            "{bytes} -> {class}"
        );
        assert_eq!(super::pool::size_class(class), class);
    }
}

const PAIRS: &str = "
alias T = f32;
@group(0) @binding(0) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<storage, read_write> z: array<T>;
fn load_x(i: u32) -> T { return x[i]; }
fn load2_x(i: u32) -> vec2<T> { return vec2<T>(x[2u * i], x[2u * i + 1u]); }
fn load4_x(i: u32) -> vec4<T> { return vec4<T>(x[4u * i], x[4u * i + 1u], x[4u * i + 2u], x[4u * i + 3u]); }
fn load_w(i: u32) -> f32 { return w[i >> 2u][i & 3u]; }
fn store2_y(i: u32, v: vec2<T>) { y[2u * i] = v.x; y[2u * i + 1u] = v.y; }
fn store4_z(i: u32, v: vec4<T>) { z[4u * i] = v.x; z[4u * i + 1u] = v.y; z[4u * i + 2u] = v.z; z[4u * i + 3u] = v.w; }
@compute @workgroup_size(1)
fn main() {
    for (var i = 0u; i < 2u; i++) {
        store4_z(i, load4_x(i) + vec4<T>(T(1)));
        store2_y(2u * i, load2_x(2u * i) + vec2<T>(T(load_w(4u * i)), T(load_w(4u * i + 1u))));
        store2_y(2u * i + 1u, vec2<T>(load_x(4u * i + 2u), load_x(4u * i + 3u)) + vec2<T>(T(load_w(4u * i + 2u)), T(load_w(4u * i + 3u))));
    }
}
";

#[test]
fn accessors_of_every_width_work_for_every_type() {
    let values: Vec<f32> = (0..8).map(|i| i as f32 * 3.0 - 9.0).collect();
    for immediates in [true, false] {
        with(GpuOptions { immediates, guards: true, ..options() }, |gpu| {
            lock(&gpu.stream).define("test/pairs", PAIRS);
            let source = floats(&gpu, &values);
            for dtype in [DType::F32, DType::F16, DType::BF16, DType::I32] {
                let of = |dtype: DType| gpu.alloc("test", dtype.gpu_bytes(8)).unwrap();
                let (x, y, z) = (of(dtype), of(dtype), of(dtype));
                let halves = if dtype == DType::I32 { DType::F32 } else { dtype };
                let w = of(halves);
                convert(&gpu, &source, DType::F32, &x, dtype, 8).unwrap();
                convert(&gpu, &source, DType::F32, &w, halves, 8).unwrap();
                gpu.run(Launch {
                    kernel: "test/pairs",
                    elems: &[("x", dtype), ("y", dtype), ("z", dtype), ("w", halves)],
                    constants: &[],
                    bind: &[
                        Bind::Read((&*x).into()),
                        Bind::Read((&*w).into()),
                        Bind::Write((&*y).into()),
                        Bind::Write((&*z).into()),
                    ],
                    params: &[],
                    groups: 1,
                })
                .unwrap();
                let back = |b: &GpuBuffer| {
                    let f = of(DType::F32);
                    convert(&gpu, b, dtype, &f, DType::F32, 8).unwrap();
                    read_f32(&gpu, &f)
                };
                assert_eq!(back(&z), values.iter().map(|v| v + 1.0).collect::<Vec<_>>(), "{dtype}");
                assert_eq!(back(&y), values.iter().map(|v| v + v).collect::<Vec<_>>(), "{dtype}");
            }
            gpu.check_guards().unwrap();
        });
    }
}

#[test]
fn the_text_pass_says_what_it_missed() {
    let file = "
alias A = f32;
struct Params { n: u32 }
@group(0) @binding(0) var<storage, read> x: array<A>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> z: array<A>;
@group(1) @binding(0) var<uniform> p: Params;
fn load_x(i: u32) -> A { return x[i]; }
fn load_z(i: u32) -> A { return z[i]; }
fn store_y(i: u32, v: f32) { y[i] = v; }
//#import common/half.wgsl
";
    let find = |name: &str| if name == "a/b" { Some(file) } else { wgrad_shaders::source(name) };
    let pass = |elems: &[(&str, DType)], params| super::source::specialise("a/b", elems, params, &find);
    let fails = |elems: &[(&str, DType)], params, part: &str| {
        let message = pass(elems, params).unwrap_err().to_string();
        assert!(message.contains("a/b") && message.contains(part), "{message}");
    };
    use super::source::ParamsIn::{Immediates, Nowhere, Uniform};
    let text = pass(&[("x", DType::BF16), ("z", DType::F32)], Immediates).unwrap();
    assert!(text.contains("var<immediate> p: Params;") && text.contains("x: array<u32>;"), "{text}");
    assert_eq!(text.matches("fn pack_bf16").count(), 1, "an import stands once");
    assert!(pass(&[("x", DType::U32), ("z", DType::Bool)], Uniform).unwrap().contains("alias A = u32;"));
    fails(&[], Nowhere, "declares Params");
    fails(&[("q", DType::F16)], Uniform, "no storage binding `q");
    fails(&[("y", DType::I32)], Uniform, "give it an alias");
    fails(&[("y", DType::F16)], Uniform, "store2_y");
    fails(&[("x", DType::F16), ("z", DType::I32)], Uniform, "another binding needs f32");
    fails(&[("x", DType::F64)], Uniform, "f64");
}

/// Nanoseconds that this thread has run, where the system tells.
fn thread_nanos() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok()
}

/// Prints the host's time per launch; run with `--nocapture`.
#[test]
fn a_launch_costs_microseconds() {
    with(options(), |gpu| {
        let x = floats(&gpu, &[1.0; 64]);
        let y = gpu.alloc("test", 256).unwrap();
        scale(&gpu, &x, &y, 64, 2.0, 0.0).unwrap();
        gpu.sync().unwrap();
        let (start, ran) = (Instant::now(), thread_nanos());
        for _ in 0..500 {
            scale(&gpu, &x, &y, 64, 2.0, 0.0).unwrap();
            scale(&gpu, &y, &x, 64, 0.5, 0.0).unwrap();
        }
        let recorded = start.elapsed();
        let ran = thread_nanos().zip(ran).map(|(end, begin)| (end - begin) / 1000);
        gpu.sync().unwrap();
        let done = start.elapsed();
        println!("{}, {}", gpu.caps().name, gpu.caps().driver);
        println!(
            "1000 launches: recorded in {} us ({ran:?} us of this thread), done in {} us",
            recorded.as_micros(),
            done.as_micros()
        );
        assert_eq!(read_f32(&gpu, &x), [1.0; 64]);
    });
}
