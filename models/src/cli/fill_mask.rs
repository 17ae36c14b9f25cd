//! `wgrad fill-mask`

use std::io::IsTerminal;

use super::args::FillMaskArgs;
use crate::fill_mask::{Filled, MaskFiller};
use crate::{Error, Result};

/// Fills the masks of the sentences given, or of each line of standard input.
pub fn run(args: &FillMaskArgs) -> Result<()> {
    let sentences = if args.sentences.is_empty() { lines()? } else { args.sentences.clone() };
    let filler = MaskFiller::load(&args.model, &args.device.open()?)?;
    let filled: Vec<Filled> = sentences.iter().map(|s| filler.fill(s, args.top)).collect::<Result<_>>()?;
    if args.json {
        return super::print(&super::json(&filled)?);
    }
    let mut text = String::new();
    for Filled { sentence, filled, masks } in &filled {
        text.push_str(&format!("{sentence}\n  {filled}\n"));
        for (number, candidates) in masks.iter().enumerate() {
            let list: Vec<String> =
                candidates.iter().map(|c| format!("{} {:.1} %", c.token, 100.0 * c.probability)).collect();
            text.push_str(&format!("  mask {}: {}\n", number + 1, list.join(", ")));
        }
    }
    super::print(&text)
}

fn lines() -> Result<Vec<String>> {
    if std::io::stdin().is_terminal() {
        return Err(Error::argument("sentences", "none given: name a sentence with [MASK] in it, or pipe lines in"));
    }
    let text = std::io::read_to_string(std::io::stdin()).map_err(|e| Error::io("standard input", &e))?;
    Ok(text.lines().filter(|line| !line.trim().is_empty()).map(str::to_string).collect())
}
