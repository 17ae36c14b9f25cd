//! What all pictures are drawn on.

use std::fmt::Write;

/// Width of every picture.
pub const WIDTH: f64 = 900.0;
/// Where axes begin and end.
pub const LEFT: f64 = 76.0;
pub const RIGHT: f64 = WIDTH - 32.0;

/// Colours on light and on dark ground; all are told apart by colour-blind readers (after Okabe and Ito).
const COLOURS: [(&str, &str); 6] = [
    ("#0b6fb8", "#56b4e9"),
    ("#c8500a", "#f0904a"),
    ("#00805c", "#2fc79b"),
    ("#a8437f", "#dd8dbb"),
    ("#8a6d00", "#e6c229"),
    ("#5b5b66", "#b4b4c0"),
];

/// Where a text stands relative to its place.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture that grows downwards.
pub struct Canvas {
    body: String,
    height: f64,
}

impl Canvas {
    pub fn new() -> Self {
        Canvas { body: String::new(), height: 0.0 }
    }

    /// Makes room for a panel with a title and a line about it; returns where its content begins.
    pub fn panel(&mut self, height: f64, title: &str, about: &str) -> f64 {
        let top = self.height;
        self.height += height;
        self.text("title", (LEFT, top + 36.0), Anchor::Start, title);
        self.text("about", (LEFT, top + 56.0), Anchor::Start, about);
        top + 74.0
    }

    fn put(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(arguments);
        self.body.push('\n');
    }

    pub fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        self.put(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    /// A text that reads upwards.
    pub fn upright(&mut self, (x, y): (f64, f64), text: &str) {
        let text = escape(text);
        let turn = format!("translate({x:.1} {y:.1}) rotate(-90)");
        self.put(format_args!("<text transform=\"{turn}\" text-anchor=\"middle\">{text}</text>"));
    }

    pub fn line(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.put(format_args!("<polyline class=\"{class}\" points=\"{}\"/>", points.join(" ")));
    }

    pub fn bar(&mut self, class: &str, (x, y): (f64, f64), width: f64, height: f64) {
        self.put(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\"/>"
        ));
    }

    pub fn dot(&mut self, class: &str, (x, y): (f64, f64), radius: f64) {
        self.put(format_args!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"/>"));
    }

    /// The document.
    pub fn finish(self, label: &str) -> String {
        let Canvas { body, height } = self;
        let mut style = String::from(
            "text { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #57606a }\n\
             .title { font-size: 17px; font-weight: 600; fill: #1f2328 } .name { fill: #1f2328 }\n\
             .about { font-size: 11.5px } .on { font-size: 10px; font-weight: 600; fill: #ffffff }\n\
             .paper { fill: #ffffff } .empty { fill: #eff1f4 }\n\
             polyline { fill: none; stroke-linejoin: round; stroke-linecap: round; stroke-width: 2 }\n\
             .grid { stroke: #e4e7eb; stroke-width: 1 } .axis { stroke: #8c959f; stroke-width: 1 }\n\
             .roof { stroke: #8c959f; stroke-width: 2.5 } .fit { stroke-width: 1.2; stroke-dasharray: 5 4; opacity: 0.8 }\n",
        );
        let mut dark = String::from(
            "text { fill: #9aa4af } .title, .name { fill: #e6edf3 } .on { fill: #0d1117 }\n\
             .paper { fill: #0d1117 } .empty { fill: #1b2028 }\n\
             .grid { stroke: #21262d } .axis, .roof { stroke: #6e7681 }\n",
        );
        for (n, (on_light, on_dark)) in COLOURS.iter().enumerate() {
            style += &format!(".s{n} {{ stroke: {on_light} }} .f{n} {{ fill: {on_light} }}\n");
            dark += &format!(".s{n} {{ stroke: {on_dark} }} .f{n} {{ fill: {on_dark} }}\n");
        }
        let label = escape(label);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
             role=\"img\" aria-label=\"{label}\">\n<style>\n{style}@media (prefers-color-scheme: dark) {{\n{dark}}}\n</style>\n\
             <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n{body}</svg>\n"
        )
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
