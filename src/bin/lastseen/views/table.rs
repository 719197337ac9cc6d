//! Aligned columns.

/// A table of text; the last column is not padded.
pub(super) struct Table<const N: usize> {
    rows: Vec<(u8, [String; N])>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(head: [&str; N]) -> Table<N> {
        Table { rows: vec![(1, head.map(str::to_owned))] }
    }

    /// A row in the terminal colour `colour` (of SGR).
    pub(super) fn row(&mut self, colour: u8, cells: [String; N]) {
        self.rows.push((colour, cells));
    }

    pub(super) fn render(&self, colours: bool) -> String {
        let width =
            |column: usize| self.rows.iter().map(|(_, r)| r[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        let mut text = String::new();
        for (colour, row) in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                line += &format!("{cell:<width$}  ");
            }
            let line = line.trim_end();
            if colours {
                text += &format!("\x1b[{colour}m{line}\x1b[0m\n");
            } else {
                text += &format!("{line}\n");
            }
        }
        text
    }
}
