//! What a model folder holds: modules with their shapes, numbers of parameters, and memory.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use wgrad::io::Weights;
use wgrad::{Sparse24, SparseRows};

use crate::Result;
use crate::zoo::Config;

/// A module, or a parameter.
#[derive(Default, PartialEq)]
struct Node {
    shape: Option<Vec<usize>>,
    /// How a matrix is packed, and its bytes.
    packed: Option<(&'static str, usize)>,
    children: Vec<(String, Node)>,
}

impl Node {
    fn at(&mut self, name: &str) -> &mut Node {
        let place = self.children.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.children.push((name.to_string(), Node::default()));
            self.children.len() - 1
        });
        &mut self.children[place].1
    }

    /// Numbers by their value, names in their order.
    fn sort(&mut self) {
        self.children.sort_by_key(|(name, _)| (name.parse::<usize>().ok(), name.clone()));
        self.children.iter_mut().for_each(|(_, child)| child.sort());
    }

    fn elements(&self) -> usize {
        let own = self.shape.as_ref().map_or(0, |shape| shape.iter().product());
        own + self.children.iter().map(|(_, child)| child.elements()).sum::<usize>()
    }

    /// Lines of the children; equal ones that are numbered on from each other are shown once.
    fn lines(&self, depth: usize, out: &mut Vec<(String, String, usize)>) {
        let mut rest = &self.children[..];
        while let Some((name, child)) = rest.first() {
            let first: Option<usize> = name.parse().ok();
            let follows = |(offset, (other, node)): &(usize, &(String, Node))| {
                first.is_some_and(|first| *other == (first + offset).to_string()) && node == child
            };
            let count = rest.iter().enumerate().take_while(follows).count().max(1);
            let shown = if count > 1 { format!("{name}..{}", first.unwrap_or(0) + count - 1) } else { name.clone() };
            let mut shape = child.shape.as_ref().map_or_else(String::new, |shape| format!("{shape:?}"));
            if let Some((how, bytes)) = child.packed {
                let _ = write!(shape, " {how} in {} bytes", digits(bytes));
            }
            out.push((format!("{}{shown}", "  ".repeat(depth)), shape, count * child.elements()));
            child.lines(depth + 1, out);
            rest = &rest[count..];
        }
    }
}

/// A description of the model in a folder, by its configuration and the names in its files. Weights are not read.
///
/// # Errors
/// If a file is missing or damaged.
pub fn describe(folder: &Path) -> Result<String> {
    let config = Config::read(folder)?;
    let weights = Weights::open(folder)?;
    let mut tree = Node::default();
    let mut dtypes: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for name in weights.names() {
        let (dtype, bytes) = weights.stored(name)?;
        let packed = name.rsplit_once('.').and_then(|(stem, part)| Some((stem, part, packing(&weights, stem, part)?)));
        let node = packed.map_or(name, |(stem, ..)| stem).split('.').fold(&mut tree, |node, part| node.at(part));
        let shape = weights.shape(name)?;
        match (packed, shape) {
            // Both tensors of a packed matrix tell its shape; columns are rounded up to whole blocks.
            (Some((_, part, TWO_OF_FOUR)), &[rows, columns]) => {
                node.shape = Some(vec![rows, columns * if part == "values" { 2 } else { 32 }]);
            }
            // How many columns there are is known to the model alone.
            (Some((_, "starts" | "places", _)), _) => {}
            _ => node.shape = Some(shape.to_vec()),
        }
        if let Some((_, _, how)) = packed {
            node.packed = Some((how, node.packed.map_or(0, |(_, bytes)| bytes) + bytes));
        }
        let entry = dtypes.entry(dtype).or_default();
        *entry = (entry.0 + 1, entry.1 + bytes);
    }
    tree.sort();
    let architecture = config.texts("architectures")?.into_iter().next();
    let architecture = architecture.map_or_else(|| config.text_or("model_type", "a model"), Ok)?;
    let mut out = format!("{architecture}: {} parameters\n", digits(tree.elements()));
    for (dtype, (tensors, bytes)) in &dtypes {
        let _ = writeln!(out, "{tensors} tensors of {dtype}, {} bytes", digits(*bytes));
    }
    let mut lines = Vec::new();
    tree.lines(0, &mut lines);
    let width = |f: fn(&(String, String, usize)) -> &str| lines.iter().map(|line| f(line).len()).max().unwrap_or(0);
    let (names, shapes) = (width(|line| &line.0), width(|line| &line.1));
    for (name, shape, elements) in &lines {
        let _ = writeln!(out, "{name:names$}  {shape:shapes$}  {:>15}", digits(*elements));
    }
    Ok(out)
}

const TWO_OF_FOUR: &str = "2:4";

/// How the matrix is packed of which a tensor of a file is a part, if it is.
fn packing(weights: &Weights, stem: &str, part: &str) -> Option<&'static str> {
    match part {
        "values" | "meta" if Sparse24::is_in(weights, stem) => Some(TWO_OF_FOUR),
        "values" | "starts" | "places" if SparseRows::is_in(weights, stem) => Some("kept, listed by rows"),
        _ => None,
    }
}

/// A number with its thousands apart.
fn digits(n: usize) -> String {
    let text = n.to_string();
    let mut out = String::new();
    for (place, digit) in text.chars().enumerate() {
        if place > 0 && (text.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_blocks_are_shown_once() {
        let mut tree = Node::default();
        for block in 0..3 {
            for (name, width) in [("up", 4), ("down", if block == 2 { 5 } else { 4 })] {
                tree.at("layer").at(&block.to_string()).at(name).shape = Some(vec![2, width]);
            }
        }
        let mut lines = Vec::new();
        tree.lines(0, &mut lines);
        let shown: Vec<(&str, usize)> = lines.iter().map(|(name, _, n)| (name.as_str(), *n)).collect();
        let expected = [("layer", 50), ("  0..1", 32), ("    up", 8), ("    down", 8), ("  2", 18), ("    up", 8)];
        assert_eq!(shown[..6], expected);
        assert_eq!(digits(1_234_567), "1,234,567");
    }
}
