//! Matrix units in plain WGSL: so that kernels for them run, slowly, where there are none, and can be tested there.
//!
//! A text pass after that of `source.rs`. Sums lie spread over the 32 invocations of what the kernel calls a subgroup, eight elements of half a
//! row each; of operands it is noted where they lie, and they are read when they are multiplied. So memory that an operand was loaded from
//! must stay as it is until then. The pass knows what the kernels write and no more: loads by address in a named array of vec4,
//!
//! ```wgsl
//! a0 = coopLoadT<coop_mat16x16<f16, A>>(&slab_a[i], pitch);
//! ```
//!
//! stores through a named pointer, products, and `main` with the parameters `local` (local_invocation_index) and `subgroup`.

use std::fmt::Write;

/// The text of a kernel with its matrix operations emulated. Other text comes back as it is.
pub(super) fn emulate(text: &str) -> Result<String, String> {
    if !text.contains("enable wgpu_cooperative_matrix;") {
        return Ok(text.to_string());
    }
    let mut arrays: Vec<&str> = Vec::new();
    let mut pointers: Vec<(&str, &str)> = Vec::new();
    let mut out = String::new();
    let mut in_main = false;
    for line in text.lines() {
        let code = line.trim();
        if code == "enable wgpu_cooperative_matrix;" || code.ends_with("@builtin(subgroup_id) subgroup: u32,") {
            continue;
        }
        in_main |= code.starts_with("fn main(");
        if let Some((name, array, index)) = pointer(code) {
            pointers.push((name, array));
            writeln!(out, "let {name} = {index};").ok();
            continue;
        }
        let mut line = line.to_string();
        while let Some(at) = line.find("coopLoad") {
            line = load(&line, at, &mut arrays, text).ok_or_else(|| format!("cannot emulate `{code}`"))?;
        }
        if let Some(at) = line.find("coopStore") {
            line = store(&line, at, &pointers).ok_or_else(|| format!("cannot emulate `{code}`"))?;
        }
        for (from, to) in [
            ("coop_mat16x16<f32, C>", "UnitSums"),
            ("coop_mat16x16<f16, A>", "UnitOperand"),
            ("coop_mat16x16<f16, B>", "UnitOperand"),
            ("coopMultiplyAdd(", "unit_multiply_add("),
        ] {
            line = line.replace(from, to);
        }
        out += &line;
        out.push('\n');
        if in_main && code == ") {" {
            out += "unit_lane = local % 32u;\nlet subgroup = local / 32u;\n";
            in_main = false;
        }
    }
    out += FRAME;
    read_operands(&mut out, &arrays);
    for (n, (_, array)) in pointers.iter().enumerate() {
        if pointers[..n].iter().all(|(_, before)| before != array) {
            store_sums(&mut out, array);
        }
    }
    Ok(out)
}

/// Of `let name = &array[index];`.
fn pointer(code: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = code.strip_prefix("let ")?.split_once(" = &")?;
    let (array, index) = rest.strip_suffix("];")?.split_once('[')?;
    Some((name, array, index))
}

/// `coopLoadT<...>(&array[index], pitch)` at `at`: of an operand a note where it lies, the sums as such.
fn load<'t>(line: &str, at: usize, arrays: &mut Vec<&'t str>, text: &'t str) -> Option<String> {
    let rest = &line[at..];
    let open = rest.find("(&")?;
    let (call, kind) = rest[..open].split_once('<')?;
    let inside = &rest[open + 2..];
    let bracket = inside.find('[')?;
    let name = &inside[..bracket];
    let mut depth = 0;
    let close = inside.char_indices().skip(bracket).find_map(|(i, c)| {
        depth += i32::from(c == '[') - i32::from(c == ']');
        (depth == 0).then_some(i)
    })?;
    let (head, index, rest) = (&line[..at], &inside[bracket + 1..close], &inside[close + 1..]);
    let rows = u32::from(call == "coopLoadT");
    if kind.contains("f32") {
        return Some(format!("{head}load_{}_{name}({index}{rest}", ["columns", "rows"][rows as usize]));
    }
    // The name as it stands in the text, which lives longer than the line.
    let start = text.find(&format!(" {name}: array<vec4<"))? + 1;
    let name = &text[start..start + name.len()];
    let which = arrays.iter().position(|known| *known == name).unwrap_or_else(|| {
        arrays.push(name);
        arrays.len() - 1
    });
    Some(format!("{head}UnitOperand({which}u, {rows}u, {index}{rest}"))
}

/// `coopStoreT(value, pointer, pitch)` at `at` as a call of a function of the pointer's array.
fn store(line: &str, at: usize, pointers: &[(&str, &str)]) -> Option<String> {
    let (head, rest) = line.split_at(at);
    let (call, inside) = rest.split_once('(')?;
    let mut words = inside.splitn(3, ',').map(str::trim);
    let (value, name, rest) = (words.next()?, words.next()?, words.next()?);
    let (_, array) = pointers.iter().rev().find(|(known, _)| *known == name)?;
    let by = if call == "coopStoreT" { "rows" } else { "columns" };
    Some(format!("{head}store_{by}_{array}({value}, {name}, {rest}"))
}

const FRAME: &str = "
struct UnitSums {
    left: vec4<f32>,
    right: vec4<f32>,
}

struct UnitOperand {
    which: u32,
    by_rows: u32,
    at: u32,
    pitch: u32,
}

var<private> unit_lane: u32;

fn unit_multiply_add(a: UnitOperand, b: UnitOperand, c: UnitSums) -> UnitSums {
    var sums = c;
    let row = unit_lane / 2u;
    let column = 8u * (unit_lane % 2u);
    for (var k = 0u; k < 16u; k++) {
        let x = unit_element(a, row, k);
        for (var i = 0u; i < 4u; i++) {
            sums.left[i] += x * unit_element(b, k, column + i);
            sums.right[i] += x * unit_element(b, k, column + 4u + i);
        }
    }
    return sums;
}
";

/// Elements of operands, which lie in arrays of vec4, whose pitches count those.
fn read_operands(out: &mut String, arrays: &[&str]) {
    *out += "fn unit_element(m: UnitOperand, row: u32, column: u32) -> f32 {
        let line = select(column, row, m.by_rows == 1u);
        let along = select(row, column, m.by_rows == 1u);
        let i = m.at + line * m.pitch + along / 4u;
        switch m.which {\n";
    for (n, array) in arrays.iter().enumerate() {
        writeln!(out, "case {n}u: {{ return f32({array}[i][along % 4u]); }}").ok();
    }
    *out += "default: { return 0.0; }\n}\n}\n";
}

/// Loads and stores of sums in an array of vec4.
fn store_sums(out: &mut String, array: &str) {
    for (by, line, along) in [("rows", "row", "column"), ("columns", "column", "row")] {
        let element = format!("{array}[at + {line} * pitch + {along} / 4u][{along} % 4u]");
        writeln!(
            out,
            "fn store_{by}_{array}(value: UnitSums, at: u32, pitch: u32) {{
                var m = value;
                let row = unit_lane / 2u;
                for (var i = 0u; i < 8u; i++) {{
                    let column = 8u * (unit_lane % 2u) + i;
                    if (i < 4u) {{ {element} = m.left[i]; }} else {{ {element} = m.right[i & 3u]; }}
                }}
            }}
            fn load_{by}_{array}(at: u32, pitch: u32) -> UnitSums {{
                var m = UnitSums();
                let row = unit_lane / 2u;
                for (var i = 0u; i < 8u; i++) {{
                    let column = 8u * (unit_lane % 2u) + i;
                    if (i < 4u) {{ m.left[i] = {element}; }} else {{ m.right[i & 3u] = {element}; }}
                }}
                return m;
            }}"
        )
        .ok();
    }
}
