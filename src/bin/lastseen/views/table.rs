//! Aligned columns, at most 80 wide.

/// The widest line. A name is never cut (it is there to be copied), so long names make longer lines.
const WIDTH: usize = 80;
/// With less room than this for the last column, its text goes below.
const NARROW: usize = 20;

/// A table of text; the last column holds sentences, which go on below.
pub(super) struct Table<const N: usize> {
    rows: Vec<(u8, [String; N])>,
    indent: usize,
}

impl<const N: usize> Table<N> {
    /// A table whose lines begin so far to the right.
    pub(super) fn new(indent: usize) -> Table<N> {
        Table { rows: Vec::new(), indent }
    }

    /// A row in the terminal colour `colour` (of SGR).
    pub(super) fn row(&mut self, colour: u8, cells: [String; N]) {
        self.rows.push((colour, cells));
    }

    pub(super) fn render(&self, colours: bool) -> String {
        let widths: [usize; N] = std::array::from_fn(|column| {
            self.rows.iter().map(|(_, row)| row[column].chars().count()).max().unwrap_or(0)
        });
        let left = self.indent + widths[..N - 1].iter().map(|width| width + 2).sum::<usize>();
        let mut text = String::new();
        for (colour, row) in &self.rows {
            let mut head = " ".repeat(self.indent);
            for (cell, width) in row[..N - 1].iter().zip(widths) {
                head += &format!("{cell:<width$}  ");
            }
            for line in with_sentence(head, &row[N - 1], left) {
                let line = line.trim_end();
                if colours {
                    text += &format!("\x1b[{colour}m{line}\x1b[0m\n");
                } else {
                    text += &format!("{line}\n");
                }
            }
        }
        text
    }
}

/// The lines of a row: `head` is its other cells, and `left` the column where the sentence begins.
fn with_sentence(head: String, sentence: &str, left: usize) -> Vec<String> {
    if left + NARROW <= WIDTH {
        let mut lines = wrap(sentence, WIDTH - left).into_iter();
        let first = head + &lines.next().unwrap_or_default();
        return std::iter::once(first).chain(lines.map(|line| " ".repeat(left) + &line)).collect();
    }
    let below = wrap(sentence, WIDTH - 6).into_iter().map(|line| " ".repeat(6) + &line);
    std::iter::once(head).chain(below).collect()
}

/// Lines of at most `width` characters, broken between words; a longer word is broken where it must be.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            lines.push(String::new());
            used = 0;
        }
        let line = lines.last_mut().expect("it begins with one");
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        for c in word.chars() {
            if used == width {
                lines.push(String::new());
                used = 0;
            }
            lines.last_mut().expect("it begins with one").push(c);
            used += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_go_on_below() {
        let mut table = Table::new(2);
        let why = "10 heartbeats missed in a row (Down at 5), last proof of life 12.3 s ago";
        table.row(31, ["web-7".into(), "down".into(), why.into()]);
        table.row(32, ["web-12".into(), "one_way".into(), "short".into()]);
        assert_eq!(
            table.render(false),
            "  web-7   down     10 heartbeats missed in a row (Down at 5), last proof of life\n                   \
             12.3 s ago\n  web-12  one_way  short\n"
        );
        assert!(table.render(true).lines().all(|l| l.starts_with("\x1b[3") && l.ends_with("\x1b[0m")));
    }

    #[test]
    fn long_names_are_whole_and_sentences_fit() {
        let mut table = Table::new(2);
        let name = "a-name-of-a-node.that-is-very-long.example.net:5278-and-then-some";
        table.row(31, [name.into(), "down".into(), "word ".repeat(40)]);
        let text = table.render(false);
        assert!(text.contains(name), "{text}");
        assert!(text.lines().skip(1).all(|l| l.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn words_break_only_when_they_must() {
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("ab cde f", 5), ["ab", "cde f"]);
        assert_eq!(wrap("abcdefgh i", 5), ["abcde", "fgh i"]);
    }
}
