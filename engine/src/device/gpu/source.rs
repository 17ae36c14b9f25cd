//! The text pass: from a shader file to the WGSL of one variant. `shaders/README.md` states its rules.

use std::collections::{BTreeMap, BTreeSet};

use crate::{DType, Error, Result};

/// How the `Params` struct reaches the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ParamsIn {
    /// The kernel has none.
    Nowhere,
    /// Immediate data in the command stream.
    Immediates,
    /// A uniform buffer with a dynamic offset, as the file has it.
    Uniform,
}

/// The WGSL that the engine compiles for `kernel` with these element types, for tools and tests that look at shaders.
#[doc(hidden)]
pub fn shader_source(kernel: &str, elems: &[(&str, DType)], immediates: bool) -> Result<String> {
    // The line may stand in an imported file.
    let mut lines = Vec::new();
    let fail = |message: String| Error::Kernel { kernel: kernel.to_string(), message };
    import(kernel, &|name| wgrad_shaders::source(name), &mut BTreeSet::new(), &mut lines).map_err(fail)?;
    let has_params = lines.iter().any(|line| line.trim() == PARAMS_LINE);
    let params = match (has_params, immediates) {
        (false, _) => ParamsIn::Nowhere,
        (true, true) => ParamsIn::Immediates,
        (true, false) => ParamsIn::Uniform,
    };
    specialise(kernel, elems, params, &|name| wgrad_shaders::source(name))
}

const PARAMS_LINE: &str = "@group(1) @binding(0) var<uniform> p: Params;";
const HALF: &str = "common/half";

/// Text of `kernel` with imports inserted, element types of `elems` in place, and parameters as `params` says.
/// `find` gives the text of a file by its name without `.wgsl`.
pub(crate) fn specialise<'f>(
    kernel: &str,
    elems: &[(&str, DType)],
    params: ParamsIn,
    find: &dyn Fn(&str) -> Option<&'f str>,
) -> Result<String> {
    let fail = |message: String| Error::Kernel { kernel: kernel.to_string(), message };
    let mut lines = Vec::new();
    let mut seen = BTreeSet::new();
    import(kernel, find, &mut seen, &mut lines).map_err(fail)?;

    let declared = lines.iter().position(|line| line.trim() == PARAMS_LINE);
    match (declared, params) {
        (None, ParamsIn::Nowhere) | (Some(_), ParamsIn::Uniform) => {}
        (Some(at), ParamsIn::Immediates) => lines[at] = "var<immediate> p: Params;".to_string(),
        (Some(_), ParamsIn::Nowhere) => return Err(fail("declares Params, but the launch gives none".to_string())),
        (None, _) => return Err(fail(format!("the launch gives params, but this line is missing: {PARAMS_LINE}"))),
    }

    let mut aliases = BTreeMap::new();
    for &(binding, dtype) in elems {
        set_element(&mut lines, binding, dtype, &mut aliases).map_err(fail)?;
    }
    for (alias, value) in aliases {
        let head = format!("alias {alias} =");
        let Some(line) = lines.iter_mut().find(|line| line.starts_with(&head)) else {
            return Err(fail(format!("`{head} {value};` is missing")));
        };
        if let Some((_, takes)) = line.split_once("// takes ")
            && !takes.split([',', ' ']).any(|word| word == value)
        {
            return Err(fail(format!("alias {alias} takes {takes}, not {value}")));
        }
        *line = format!("{head} {value};");
    }
    if elems.iter().any(|(_, dtype)| dtype.is_half()) {
        import(HALF, find, &mut seen, &mut lines).map_err(fail)?;
    }
    let mut text = lines.join("\n");
    text.push('\n');
    Ok(text)
}

/// Appends the lines of file `name`, with its imports in place, unless it was inserted before.
fn import<'f>(
    name: &str,
    find: &dyn Fn(&str) -> Option<&'f str>,
    seen: &mut BTreeSet<String>,
    lines: &mut Vec<String>,
) -> std::result::Result<(), String> {
    if !seen.insert(name.to_string()) {
        return Ok(());
    }
    let text = find(name).ok_or_else(|| format!("there is no shader file {name}.wgsl"))?;
    for line in text.lines() {
        match line.strip_prefix("//#import ") {
            Some(path) => {
                let path = path.trim();
                let piece = path.strip_suffix(".wgsl").ok_or_else(|| format!("import of {path}: not a .wgsl file"))?;
                import(piece, find, seen, lines)?;
            }
            None => lines.push(line.to_string()),
        }
    }
    Ok(())
}

/// The type that a kernel computes with when the stored type is `dtype`.
fn value_type(dtype: DType) -> std::result::Result<&'static str, String> {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => Ok("f32"),
        DType::I32 => Ok("i32"),
        DType::U32 | DType::Bool => Ok("u32"),
        DType::F64 => Err("f64 does not exist on a GPU".to_string()),
    }
}

/// Gives `binding` the stored type `dtype`: notes the value of its alias, and packs it where it is a half.
fn set_element(
    lines: &mut [String],
    binding: &str,
    dtype: DType,
    aliases: &mut BTreeMap<String, &'static str>,
) -> std::result::Result<(), String> {
    let mut value = value_type(dtype)?;
    let head = format!(" {binding}: array<");
    let declaration = lines
        .iter()
        .position(|line| line.starts_with("@group(0)") && line.contains(&head))
        .ok_or_else(|| format!("no storage binding `{binding}: array<..>` on one line"))?;
    let (before, element) = lines[declaration]
        .split_once(&head)
        .and_then(|(before, rest)| rest.split_once(">;").map(|(element, _)| (before.to_string(), element.to_string())))
        .ok_or_else(|| format!("the declaration of {binding} does not end with `>;`"))?;
    let (width, base) = match element.strip_prefix("vec4<") {
        Some(inner) => (4, inner.trim_end_matches('>').to_string()),
        None => (1, element),
    };
    let bits = lines.iter().any(|line| *line == format!("alias {base} = u32; // bits"));
    if bits {
        value = "u32";
    }
    if matches!(base.as_str(), "f32" | "i32" | "u32") {
        if base != value {
            return Err(format!("{binding} is declared as {base} and cannot hold {dtype}: give it an alias"));
        }
    } else if let Some(other) = aliases.insert(base.clone(), value)
        && other != value
    {
        return Err(format!("{binding} needs `alias {base} = {value}`, another binding needs {other}"));
    }
    if !dtype.is_half() {
        return Ok(());
    }
    let packed = if width == 4 { "vec2<u32>" } else { "u32" };
    lines[declaration] = format!("{before}{head}{packed}>;");

    let writes_more = lines.iter().any(|line| matches!(accessor_of(line, binding), Some("store2" | "store4")));
    let kind = if bits { "bits".to_string() } else { dtype.to_string() };
    let mut accessors = 0;
    for line in lines.iter_mut() {
        let Some(accessor) = accessor_of(line, binding) else { continue };
        if !line.trim_end().ends_with('}') {
            return Err(format!("{accessor}_{binding} must stand on one line"));
        }
        *line = match accessor {
            "store" if writes_more => format!("fn store_{binding}(i: u32, v: {base}) {{}}"),
            _ => half_accessor(accessor, binding, &base, width, &kind)?,
        };
        accessors += 1;
    }
    match accessors {
        0 => Err(format!("{binding} has no accessor such as `fn load_{binding}(i: u32) -> {base}`")),
        _ => Ok(()),
    }
}

/// `load4` for a line that starts with `fn load4_x(`, where the binding is `x`.
fn accessor_of(line: &str, binding: &str) -> Option<&'static str> {
    let rest = line.strip_prefix("fn ")?;
    let kinds = ["load", "load2", "load4", "store", "store2", "store4"];
    kinds.into_iter().find(|kind| {
        rest.strip_prefix(kind)
            .and_then(|rest| rest.strip_prefix('_'))
            .and_then(|rest| rest.strip_prefix(binding))
            .is_some_and(|rest| rest.starts_with('('))
    })
}

/// An accessor of a binding whose halves are packed two a word: `array<u32>`, or `array<vec2<u32>>` for `lanes` 4. `kind` names
/// the functions of `common/half.wgsl`.
fn half_accessor(accessor: &str, x: &str, value: &str, lanes: u32, kind: &str) -> std::result::Result<String, String> {
    let word = |w: &str| if lanes == 4 { format!("{x}[({w}) >> 1u][({w}) & 1u]") } else { format!("{x}[{w}]") };
    let unpack = |w: &str| format!("unpack_{kind}({})", word(w));
    let pair = |lane: &str| format!("pack_{kind}({lane})");
    Ok(match accessor {
        "load" => format!(
            "fn load_{x}(i: u32) -> {value} {{ let h = {}; return select(h.x, h.y, (i & 1u) == 1u); }}",
            unpack("i >> 1u")
        ),
        "load2" => format!("fn load2_{x}(i: u32) -> vec2<{value}> {{ return {}; }}", unpack("i")),
        "load4" if lanes == 4 => format!(
            "fn load4_{x}(i: u32) -> vec4<{value}> {{ let w = {x}[i]; return vec4<{value}>(unpack_{kind}(w.x), unpack_{kind}(w.y)); }}"
        ),
        "load4" => format!(
            "fn load4_{x}(i: u32) -> vec4<{value}> {{ return vec4<{value}>({}, {}); }}",
            unpack("2u * i"),
            unpack("2u * i + 1u")
        ),
        "store2" => format!("fn store2_{x}(i: u32, v: vec2<{value}>) {{ {} = {}; }}", word("i"), pair("v")),
        "store4" if lanes == 4 => format!(
            "fn store4_{x}(i: u32, v: vec4<{value}>) {{ {x}[i] = vec2<u32>({}, {}); }}",
            pair("v.xy"),
            pair("v.zw")
        ),
        "store4" => format!(
            "fn store4_{x}(i: u32, v: vec4<{value}>) {{ {} = {}; {} = {}; }}",
            word("2u * i"),
            pair("v.xy"),
            word("2u * i + 1u"),
            pair("v.zw")
        ),
        _ => {
            return Err(format!(
                "store_{x} cannot write one half: two share a word, so a kernel for halves writes with store2_{x} or store4_{x}"
            ));
        }
    })
}
