//! Einstein's summation as permutations and one matrix product.

use crate::layout::Dims;
use crate::ops::matmul::matmul;
use crate::ops::view::{permute, reshape_to};
use crate::{Error, Result, Tensor};

/// Letters of an einsum equation, checked.
struct Equation {
    inputs: Vec<Vec<char>>,
    output: Vec<char>,
}

impl Equation {
    fn parse(equation: &str, operands: usize) -> Result<Self> {
        let op = "einsum";
        let refuse = |message: String| Err(Error::argument(op, format!("equation {equation:?}: {message}")));
        let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (text.as_str(), None),
        };
        if let Some(c) = left.chars().chain(right.unwrap_or("").chars()).find(|c| !c.is_ascii_alphabetic() && *c != ',')
        {
            return refuse(format!("{c:?} is not a letter"));
        }
        let inputs: Vec<Vec<char>> = left.split(',').map(|term| term.chars().collect()).collect();
        if inputs.len() != operands {
            return refuse(format!("it has {} terms for {operands} operands", inputs.len()));
        }
        let all: Vec<char> = inputs.iter().flatten().copied().collect();
        let output: Vec<char> = match right {
            Some(right) => right.chars().collect(),
            None => {
                // Without an output: the letters that occur once, in alphabetical order.
                let mut once: Vec<char> =
                    all.iter().copied().filter(|c| all.iter().filter(|d| *d == c).count() == 1).collect();
                once.sort_unstable();
                once
            }
        };
        for term in inputs.iter().chain([&output]) {
            if let Some(c) = term.iter().enumerate().find(|&(i, c)| term[..i].contains(c)) {
                return refuse(format!("letter {:?} stands twice in one term", c.1));
            }
        }
        match output.iter().find(|c| !all.contains(c)) {
            Some(c) => refuse(format!("letter {c:?} of the output stands in no operand")),
            None => Ok(Equation { inputs, output }),
        }
    }
}

/// Puts the dimensions named by `from` into the order `to`.
fn reorder(x: &Tensor, from: &[char], to: &[char]) -> Result<Tensor> {
    let at = |c: &char| from.iter().position(|d| d == c).unwrap_or(0) as isize;
    permute("einsum", x, &to.iter().map(at).collect::<Vec<_>>())
}

/// Sums over the letters that nobody else wants. Returns what is left and its letters.
fn sum_unused(x: &Tensor, letters: &[char], wanted: impl Fn(&char) -> bool) -> Result<(Tensor, Vec<char>)> {
    let unused: Vec<isize> = (0..letters.len()).filter(|&i| !wanted(&letters[i])).map(|i| i as isize).collect();
    let left = letters.iter().copied().filter(|c| wanted(c)).collect();
    if unused.is_empty() { Ok((x.clone(), left)) } else { Ok((x.sum(&unused, false)?, left)) }
}

pub(crate) fn einsum(equation: &str, operands: &[&Tensor]) -> Result<Tensor> {
    let op = "einsum";
    if !(1..=2).contains(&operands.len()) {
        return Err(Error::argument(op, format!("takes one or two operands, got {}", operands.len())));
    }
    let Equation { inputs, output } = Equation::parse(equation, operands.len())?;
    for (x, letters) in operands.iter().zip(&inputs) {
        x.expect_float(op)?;
        if x.rank() != letters.len() {
            let letters: String = letters.iter().collect();
            return Err(Error::shape(op, format!("operand of shape {:?} for the term {letters:?}", x.shape())));
        }
    }
    let (&[a], [la]) = (operands, inputs.as_slice()) else {
        return contract(equation, operands, &inputs, &output);
    };
    let (a, la) = sum_unused(a, la, |c| output.contains(c))?;
    reorder(&a, &la, &output)
}

/// Two operands: one matrix product over [shared by all, left only or right only, summed].
fn contract(equation: &str, operands: &[&Tensor], inputs: &[Vec<char>], output: &[char]) -> Result<Tensor> {
    let op = "einsum";
    let (&[a, b], [la, lb]) = (operands, inputs) else {
        return Err(Error::argument(op, format!("equation {equation:?} for {} operands", operands.len())));
    };
    a.expect_like(op, b)?;
    let size = |x: &Tensor, letters: &[char], c: &char| letters.iter().position(|d| d == c).map(|i| x.shape()[i]);
    for c in la {
        if let (Some(left), Some(right)) = (size(a, la, c), size(b, lb, c))
            && left != right
        {
            return Err(Error::shape(op, format!("equation {equation:?}: letter {c:?} has sizes {left} and {right}")));
        }
    }
    let (a, la) = sum_unused(a, la, |c| lb.contains(c) || output.contains(c))?;
    let (b, lb) = sum_unused(b, lb, |c| la.contains(c) || output.contains(c))?;
    let pick = |letters: &[char], test: &dyn Fn(&char) -> bool| {
        letters.iter().copied().filter(|c| test(c)).collect::<Vec<_>>()
    };
    let shared = pick(&la, &|c| lb.contains(c) && output.contains(c));
    let summed = pick(&la, &|c| lb.contains(c) && !output.contains(c));
    let rows = pick(&la, &|c| !lb.contains(c));
    let columns = pick(&lb, &|c| !la.contains(c));
    let count = |letters: &[char]| -> usize {
        letters.iter().map(|c| size(&a, &la, c).or_else(|| size(&b, &lb, c)).unwrap_or(1)).product()
    };
    let matrix = |x: &Tensor, letters: &[char], left: &[char], right: &[char]| {
        let ordered = reorder(x, letters, &[&shared, left, right].concat())?;
        reshape_to(&ordered, Dims::new(op, &[count(&shared), count(left), count(right)])?)
    };
    let y = matmul(&matrix(&a, &la, &rows, &summed)?, &matrix(&b, &lb, &summed, &columns)?)?;
    let letters = [shared.as_slice(), &rows, &columns].concat();
    let sizes: Vec<usize> = letters.iter().map(|c| count(&[*c])).collect();
    reorder(&reshape_to(&y, Dims::new(op, &sizes)?)?, &letters, output)
}
