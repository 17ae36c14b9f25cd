//! Every kernel in every variant that the engine can ask for: parsed, validated without optional features (but for subgroups,
//! in kernels that need them), inside the limits of every browser, and translated to SPIR-V, MSL and HLSL.
//!
//! A variant is the element types of the bindings and the way of the parameters. Both follow from the file by the rules
//! of `shaders/README.md`: a binding with accessors can hold f32, f16 or bf16, one of an alias also the integers that the alias
//! lists, and parameters come from a uniform or as immediates. The text pass refuses everything else. Override constants change
//! no types; their values in use are checked by the tests that run on a device opened with a browser's limits.

use std::collections::BTreeMap;

use naga::back::{hlsl, msl, pipeline_constants, spv};
use naga::proc::Layouter;
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage};
use wgrad::{DType, shader_source};

/// The default limits of WebGPU.
const STORAGE_BUFFERS: usize = 8;
const WORKGROUP_BYTES: u32 = 16 << 10;
const INVOCATIONS: u32 = 256;
/// What a launch can hand over.
const PARAMS_BYTES: u32 = 128;

type Elems = Vec<(String, DType)>;

#[test]
fn every_variant_of_every_kernel_translates() {
    let mut checked = 0;
    let mut failed = Vec::new();
    for kernel in kernels() {
        for elems in variants(kernel) {
            for immediates in [false, true] {
                let elems: Vec<(&str, DType)> = elems.iter().map(|(name, dtype)| (name.as_str(), *dtype)).collect();
                if let Err(why) = check(kernel, &elems, immediates) {
                    failed.push(format!("{kernel} {elems:?}, immediates {immediates}: {why}"));
                }
                checked += 1;
            }
        }
    }
    println!("{checked} variants of {} kernels", kernels().count());
    assert!(checked > 0 && failed.is_empty(), "{} of {checked} fail:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn kernels_open_with_their_maths() {
    for kernel in kernels() {
        let text = wgrad_shaders::source(kernel).unwrap();
        assert!(text.starts_with("// "), "{kernel} does not begin with a comment that says what it computes");
        assert!(text.lines().count() <= 350, "{kernel} is longer than 350 lines");
    }
}

/// All files but the pieces for import.
fn kernels() -> impl Iterator<Item = &'static str> {
    wgrad_shaders::names().filter(|name| !name.starts_with("common/"))
}

/// A binding whose element type may vary.
struct Binding {
    name: String,
    /// The alias that it is declared with, and the integers that the alias takes.
    alias: Option<(String, Vec<DType>)>,
    /// Whether it can hold halves: those that are written one element at a time cannot, nor those of integers alone.
    halves: bool,
}

/// The element types that the bindings of a file can have together: all floats of one width, each binding alone in another, and
/// each alias with integers.
fn variants(kernel: &str) -> Vec<Elems> {
    let bindings = bindings(kernel);
    let with = |keep: &dyn Fn(&Binding) -> bool, dtype: DType| -> Elems {
        bindings.iter().filter(|b| keep(b)).map(|b| (b.name.clone(), dtype)).collect()
    };
    let mut all = vec![Elems::new()];
    for half in [DType::F16, DType::BF16] {
        all.push(with(&|b| b.halves, half));
        for binding in bindings.iter().filter(|b| b.halves) {
            all.push(with(&|b| b.name == binding.name, half));
        }
    }
    let aliases: BTreeMap<_, _> = bindings.iter().filter_map(|b| b.alias.clone()).collect();
    for (alias, integers) in &aliases {
        for &integer in integers {
            all.push(with(&|b| b.alias.as_ref().is_some_and(|(name, _)| name == alias), integer));
        }
    }
    for integer in [DType::I32, DType::U32, DType::Bool] {
        all.push(with(&|b| b.alias.as_ref().is_some_and(|(_, takes)| takes.contains(&integer)), integer));
    }
    all.sort_by_key(|elems| format!("{elems:?}"));
    all.dedup();
    all
}

fn bindings(kernel: &str) -> Vec<Binding> {
    // With its imports, some of which declare bindings.
    let text = shader_source(kernel, &[], false).unwrap_or_else(|e| panic!("{kernel}: {e}"));
    let mut bindings = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("@group(0)")) {
        let (_, declared) = line.split_once("> ").unwrap_or_else(|| panic!("{kernel}: {line}"));
        let (name, of) = declared.split_once(": array<").unwrap_or_else(|| panic!("{kernel}: {line}"));
        let of = of.trim_end_matches([';', '>']).trim_start_matches("vec4<");
        let has = |accessor: &str| text.contains(&format!("\nfn {accessor}_{name}("));
        let loads = ["load", "load2", "load4", "store", "store2", "store4"].into_iter().any(has);
        let line = text.lines().find(|l| l.starts_with(&format!("alias {of} = ")));
        let alias = line.map(|l| (of.to_string(), integers(l)));
        if loads && (of == "f32" || alias.is_some()) {
            let writes_one = has("store") && !has("store2") && !has("store4");
            let floats = line.and_then(|l| l.split_once("takes")).is_none_or(|(_, types)| types.contains("f32"));
            bindings.push(Binding { name: name.to_string(), alias, halves: floats && !writes_one });
        }
    }
    bindings
}

/// The integer types of a line such as `alias T = f32; // takes f32, i32`; without a list, all.
fn integers(alias: &str) -> Vec<DType> {
    let listed = alias.split_once("// takes ").map_or("i32 u32", |(_, list)| list);
    let has = |word: &str| listed.split([',', ' ']).any(|w| w == word);
    let mut integers = Vec::new();
    if has("i32") {
        integers.push(DType::I32);
    }
    if has("u32") {
        integers.extend([DType::U32, DType::Bool]);
    }
    integers
}

fn check(kernel: &str, elems: &[(&str, DType)], immediates: bool) -> Result<(), String> {
    let text = shader_source(kernel, elems, immediates).map_err(|e| e.to_string())?;
    let module = naga::front::wgsl::parse_str(&text).map_err(|e| e.emit_to_string(&text))?;
    // Packing halves is in core WGSL; only downlevel devices lack it.
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(Capabilities::IMMEDIATES, immediates);
    // A kernel that speaks of subgroups, or of matrix units, is chosen only where there are any.
    let matrix_units = text.contains("enable wgpu_cooperative_matrix;");
    capabilities.set(Capabilities::SUBGROUP, text.contains("subgroup_invocation_id") || matrix_units);
    capabilities.set(Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX, matrix_units);
    let validate = |module: &Module| {
        let mut validator = Validator::new(ValidationFlags::all(), capabilities);
        validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
        validator.validate(module).map_err(|e| e.emit_to_string(&text))
    };
    let info = validate(&module)?;
    let entry = (ShaderStage::Compute, "main");
    let (module, info) = pipeline_constants::process_overrides(&module, &info, Some(entry), &Default::default())
        .map_err(|e| e.to_string())?;
    validate(&module)?;
    limits(&module, matrix_units)?;
    translate(&module, &info, matrix_units)
}

fn limits(module: &Module, matrix_units: bool) -> Result<(), String> {
    let mut layouts = Layouter::default();
    layouts.update(module.to_ctx()).map_err(|e| e.to_string())?;
    let bytes = |space: fn(&AddressSpace) -> bool| -> u32 {
        let of_space = module.global_variables.iter().filter(|(_, v)| space(&v.space));
        of_space.map(|(_, v)| layouts[v.ty].size.next_multiple_of(16)).sum()
    };
    let buffers =
        module.global_variables.iter().filter(|(_, v)| matches!(v.space, AddressSpace::Storage { .. })).count();
    let shared = bytes(|space| *space == AddressSpace::WorkGroup);
    let params = bytes(|space| matches!(space, AddressSpace::Immediate | AddressSpace::Uniform));
    let main = module.entry_points.iter().find(|e| e.name == "main").ok_or("no entry point main")?;
    let invocations: u32 = main.workgroup_size.iter().product();
    let within = |what: &str, value: usize, limit: usize| match value <= limit {
        true => Ok(()),
        false => Err(format!("{value} {what}, a browser has {limit}")),
    };
    within("storage buffers", buffers, STORAGE_BUFFERS)?;
    // No browser has matrix units, and no device that has them less than twice as much.
    let most = if matrix_units { 2 * WORKGROUP_BYTES } else { WORKGROUP_BYTES };
    within("bytes of workgroup memory", shared as usize, most as usize)?;
    within("bytes of parameters", params as usize, PARAMS_BYTES as usize)?;
    within("invocations in a workgroup", invocations as usize, INVOCATIONS as usize)
}

fn translate(module: &Module, info: &ModuleInfo, matrix_units: bool) -> Result<(), String> {
    let main = || Some((ShaderStage::Compute, "main".to_string()));

    let options = spv::Options { lang_version: (1, 3), ..Default::default() };
    let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".to_string() };
    let words = spv::write_vec(module, info, &options, Some(&pipeline)).map_err(|e| format!("SPIR-V: {e}"))?;
    assert_eq!(words[0], 0x0723_0203, "the magic number of SPIR-V");

    let options = msl::Options { lang_version: (2, 4), ..Default::default() };
    let pipeline = msl::PipelineOptions { entry_point: main(), ..Default::default() };
    let (text, translation) = msl::write_string(module, info, &options, &pipeline).map_err(|e| format!("MSL: {e}"))?;
    translation.entry_point_names.into_iter().collect::<Result<Vec<_>, _>>().map_err(|e| format!("MSL: {e}"))?;
    assert!(text.contains("kernel void"), "an MSL kernel");

    if matrix_units {
        // naga does not write them for HLSL.
        return Ok(());
    }
    let options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V6_0,
        immediates_target: Some(hlsl::BindTarget::default()),
        ..Default::default()
    };
    let pipeline = hlsl::PipelineOptions { entry_point: main() };
    let mut text = String::new();
    let translation = hlsl::Writer::new(&mut text, &options, &pipeline)
        .write(module, info, None)
        .map_err(|e| format!("HLSL: {e}"))?;
    translation.entry_point_names.into_iter().collect::<Result<Vec<_>, _>>().map_err(|e| format!("HLSL: {e}"))?;
    assert!(text.contains("numthreads"), "an HLSL kernel");
    Ok(())
}
