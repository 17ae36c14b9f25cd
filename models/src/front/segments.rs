//! Cutting a document into segments: paragraphs, and parts of long ones at the ends of sentences or lines.

/// Longest segment in bytes. Some 100 word pieces, so that a training row holds a segment or more.
pub const MAX_BYTES: usize = 400;

/// How a document marks what is prose.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Markdown and plain text: every line is prose.
    Prose,
    /// Sources, where lines of comment start with one of a few leaders.
    Source,
}

/// The segments of `text`, in order. White space is one blank each. In sources, the leaders of comments are dropped, and a change
/// between comment and code ends a segment, so that the prose of comments is learned as prose.
pub fn segments(text: &str, kind: Kind) -> Vec<String> {
    let mut found = Vec::new();
    let mut paragraph = String::new();
    let mut in_comment = false;
    for line in text.lines() {
        let (comment, words) = match kind {
            Kind::Prose => (false, line),
            Kind::Source => strip_leader(line.trim_start()),
        };
        if comment != in_comment || words.trim().is_empty() {
            cut(&mut found, &mut paragraph);
        }
        in_comment = comment;
        for word in words.split_whitespace() {
            if !paragraph.is_empty() {
                paragraph.push(' ');
            }
            paragraph.push_str(word);
        }
    }
    cut(&mut found, &mut paragraph);
    found
}

/// Whether a line is a comment, and the line without its leader.
fn strip_leader(line: &str) -> (bool, &str) {
    for leader in ["///", "//!", "//"] {
        if let Some(rest) = line.strip_prefix(leader) {
            return (true, rest);
        }
    }
    match line.strip_prefix('#') {
        Some(rest) if rest.is_empty() || rest.starts_with(' ') => (true, rest),
        _ => (false, line),
    }
}

/// Moves the paragraph to `found` in pieces of at most [`MAX_BYTES`]. Pieces without a letter teach nothing and are left out.
fn cut(found: &mut Vec<String>, paragraph: &mut String) {
    let mut rest = paragraph.as_str();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(piece_end(rest));
        if piece.contains(char::is_alphabetic) {
            found.push(piece.trim().to_owned());
        }
        rest = after.trim_start();
    }
    paragraph.clear();
}

/// Where the first piece ends: at the end, else after the last full stop or the like in reach, else at the last blank, else at the last
/// whole character.
fn piece_end(text: &str) -> usize {
    if text.len() <= MAX_BYTES {
        return text.len();
    }
    let whole = (1..=MAX_BYTES).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    let reach = &text[..whole];
    let blanks = || reach.char_indices().rev().filter(|&(at, c)| c == ' ' && at > 0).map(|(at, _)| at);
    let ends_sentence = |&at: &usize| reach[..at].ends_with(['.', '!', '?', ':', ';', '}', '{', '|']);
    // A sentence end in the first quarter would leave a stump.
    let sentence = blanks().filter(|&at| at > MAX_BYTES / 4).find(ends_sentence);
    sentence.or_else(|| blanks().next()).unwrap_or(reach.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_and_comments_are_apart() {
        let text = "//! Norms,\n//! all of them.\n\nuse std::fmt;\nfn f() {}\n    // Why so.\n    let x = 1;\n}\n\n}\n";
        let expected = ["Norms, all of them.", "use std::fmt; fn f() {}", "Why so.", "let x = 1; }"];
        assert_eq!(segments(text, Kind::Source), expected);
        assert_eq!(segments("# Title\n\nOne\ntwo\tthree.\n", Kind::Prose), ["# Title", "One two three."]);
        assert_eq!(segments("#[test]\n# a comment\n", Kind::Source), ["#[test]", "a comment"]);
    }

    #[test]
    fn long_paragraphs_are_cut_at_sentences_without_losing_words() {
        let text = "Every word of this sentence stays. ".repeat(40);
        let pieces = segments(&text, Kind::Prose);
        assert!(pieces.iter().all(|piece| piece.len() <= MAX_BYTES && piece.ends_with("stays.")));
        assert_eq!(pieces.join(" "), text.trim());
        let unbroken = "\u{e4}".repeat(1001);
        let pieces = segments(&unbroken, Kind::Prose);
        assert!(pieces.len() > 5);
        assert_eq!(pieces.concat(), unbroken);
    }
}
