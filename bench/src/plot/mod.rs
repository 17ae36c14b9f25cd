//! Reports as pictures: SVG that is readable on light and on dark pages.

mod bars;
mod canvas;
pub(crate) mod growth;
mod roofline;
mod scale;

use std::path::PathBuf;

use clap::Args;

use crate::report::{self, Kind, Report};
use crate::{Error, Result};
use canvas::Canvas;

/// Draw reports: a roofline and the fractions of the limit for a suite, a ladder for a ladder, slopes for costs.
#[derive(Debug, Args)]
pub struct PlotArgs {
    /// Reports of suite, ladder and cost; their pictures stand below each other.
    #[arg(required = true, value_name = "FILE.json")]
    files: Vec<PathBuf>,
    /// The picture.
    #[arg(long, value_name = "FILE.svg")]
    out: PathBuf,
}

/// Does what the arguments say.
///
/// # Errors
/// If a file is no report or has nothing to draw, or the picture cannot be written.
pub fn run(args: &PlotArgs) -> Result<()> {
    let reports: Vec<Report> = args.files.iter().map(|file| Report::load(file)).collect::<Result<_>>()?;
    report::write(&args.out, &draw(&reports)?)
}

/// The reports below each other.
///
/// # Errors
/// If one has nothing to draw.
pub fn draw(reports: &[Report]) -> Result<String> {
    let mut canvas = Canvas::new();
    for report in reports {
        let drawn = match report.kind {
            // Either may be missing: a suite of copies has no arithmetic.
            Kind::Suite => roofline::draw(&mut canvas, report) | bars::fractions(&mut canvas, report),
            Kind::Ladder => bars::ladder(&mut canvas, report),
            Kind::Cost => growth::draw(&mut canvas, report),
        };
        if !drawn {
            let kind = format!("{:?}", report.kind).to_lowercase();
            return Err(Error::new(format!("the {kind} of {} has nothing to draw", report.caption())));
        }
    }
    let titles: Vec<String> = reports.iter().map(Report::caption).collect();
    Ok(canvas.finish(&format!("Benchmarks of wgrad: {}", titles.join("; "))))
}

/// A picture of lines: a title, what it is about, and what was measured.
pub(crate) fn lines(title: &str, about: &str, measure: &str, all: &[growth::Series]) -> String {
    let mut canvas = Canvas::new();
    growth::lines(&mut canvas, [title, about], measure, all);
    canvas.finish(&format!("{title}: {about}"))
}

/// A number with three digits: 0.123, 1.23, 12.3, 123, 1230.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{record, report};

    fn sound(svg: &str) {
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(svg.matches("<g").count(), svg.matches("</g>").count());
        assert!(svg.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn a_suite_is_a_roofline_and_bars() {
        let records = vec![
            record("matmul", &[("m", 512)], 1.0, [Some(100.0), Some(1.0), Some(0.5)]),
            record("copy", &[("n", 8)], 1.0, [None, Some(18.0), Some(0.9)]),
            record("dispatch", &[("n", 8)], 1.0, [None; 3]),
        ];
        let svg = draw(&[report(Kind::Suite, records.clone())]).unwrap();
        sound(&svg);
        assert!(svg.contains("Roofline") && svg.contains("matmul m=512") && svg.contains("90 %"));
        assert!(!svg.contains("dispatch"));
        sound(&draw(&[report(Kind::Suite, records[1..].to_vec())]).unwrap());
        assert!(
            draw(&[report(Kind::Suite, records[2..].to_vec())]).unwrap_err().to_string().contains("nothing to draw")
        );
        assert!(draw(&[report(Kind::Ladder, Vec::new())]).is_err());
    }

    #[test]
    fn a_ladder_is_bars() {
        let rung = |step: &str, gflops| {
            let mut record = record("matmul", &[("m", 512)], 1.0, [Some(gflops), None, Some(gflops / 200.0)]);
            record.params.insert("step".into(), step.into());
            record
        };
        let svg = draw(&[report(Kind::Ladder, vec![rung("1 naive", 1.5), rung("2 <tiles>", 30.0)])]).unwrap();
        sound(&svg);
        assert!(svg.contains("1 naive") && svg.contains("2 &lt;tiles&gt;") && svg.contains("20.0 x"), "{svg}");
    }

    #[test]
    fn costs_have_slopes() {
        let run = |key: &str, value: usize, ms: f64| {
            let sizes: Vec<(&str, usize)> = [("b", 4), ("d", 64), ("l", 64), ("layers", 2)]
                .map(|(name, base)| (name, if name == key { value } else { base }))
                .to_vec();
            record("mlm_step", &sizes, ms, [Some(1.0), None, None])
        };
        let mut records = vec![run("b", 4, 10.0)];
        records.extend([run("b", 8, 20.0), run("b", 16, 40.0), run("d", 128, 40.0), run("d", 256, 160.0)]);
        let svg = draw(&[report(Kind::Cost, records)]).unwrap();
        sound(&svg);
        assert!(svg.contains("batch: slope 1.00") && svg.contains("width: slope 2.00"), "{svg}");
        assert!(draw(&[report(Kind::Cost, vec![run("b", 4, 10.0)])]).is_err());
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.1234, 1.234, 12.34, 123.4, 1234.0].map(short), ["0.123", "1.23", "12.3", "123", "1234"]);
    }
}
