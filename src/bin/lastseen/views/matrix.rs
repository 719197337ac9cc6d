//! `lastseen matrix`: who hears whom.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::Value;

use super::{TIMEOUT, age, colours, show};
use crate::args;
use crate::client::{self, plain, plain_json};

/// To so many nodes every cell is shown; above, the faults alone.
const CELLS: usize = 30;
/// The widest line.
const WIDTH: usize = 80;
/// So many columns without names stand together.
const GROUP: usize = 5;
/// Observers that are named; of more the count is told.
const NAMED: usize = 4;
/// Nodes without a fresh row that are named; of more the count is told.
const SILENT: usize = 30;

const LEGEND: &str = ". fine   x link down   < it does not hear me   > I do not hear it   s suspected\n\
                      D down   ~ lossy   = self   ? no fresh row   u never heard\n";

/// Shows the matrix.
pub(crate) fn run_matrix(args: &args::View) -> ExitCode {
    show(args.watch, || {
        let path = if args.client.json { "/api/v1/matrix" } else { "/api/v1/matrix?edges=all" };
        let matrix = client::get(&args.client.daemon.http, path, TIMEOUT)?;
        Ok(if args.client.json { plain_json(&matrix) } else { matrix_text(&matrix, colours()) })
    })
}

/// What one node sees of another one, as a sign, its meaning, and its colour (of SGR).
fn sign(matrix: &Value, from: &str, to: &str) -> (char, &'static str, u8) {
    let row = &matrix["rows"][from];
    match () {
        () if from == to => ('=', "itself", 90),
        () if row["age_seconds"].is_null() => ('?', "no fresh row", 33),
        () => meaning(&row["peers"][to], row),
    }
}

/// What a cell of a row says.
fn meaning(cell: &Value, row: &Value) -> (char, &'static str, u8) {
    match (cell["status"].as_str(), cell["link"].as_str()) {
        (Some("down"), _) => ('D', "down", 31),
        (Some("suspected"), _) => ('s', "suspected", 33),
        (Some("unknown"), _) => ('u', "never heard", 33),
        (_, Some("down")) => ('x', "link down", 31),
        (_, Some("tx_lost")) => ('<', "it does not hear them", 31),
        (_, Some("rx_lost")) => ('>', "they do not hear it", 31),
        (_, Some("lossy")) => ('~', "lossy", 33),
        (Some(_), _) => ('.', "fine", 32),
        (None, _) if row["cut"] == true => ('?', "not told: the row was cut", 33),
        (None, _) => (' ', "not observed", 0),
    }
}

pub(super) fn matrix_text(matrix: &Value, colours: bool) -> String {
    let ids: Vec<&str> = matrix["nodes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if ids.len() > CELLS {
        return faults(matrix, &ids, colours);
    }
    let grid = Grid {
        names: ids.iter().map(|id| name(id)).collect(),
        ages: ids.iter().map(|id| row_age(&matrix["rows"][*id])).collect(),
        matrix,
        ids,
        colours,
    };
    let text = grid.with_names().unwrap_or_else(|| grid.with_numbers());
    text + &last_known(matrix, &grid.ids)
}

/// The last believed content of the rows that are no longer believed, one line each.
fn last_known(matrix: &Value, ids: &[&str]) -> String {
    let mut text = String::new();
    for id in ids {
        let row = &matrix["rows"][*id];
        let Some(stale) = row["stale_seconds"].as_f64() else { continue };
        let said = row["peers"].as_object().into_iter().flatten();
        let said = said.map(|(to, cell)| (to, meaning(cell, row)));
        let words: Vec<String> = said
            .filter(|(_, said)| said.0 != '.')
            .map(|(to, said)| format!("{} {}", name(to), said.1))
            .collect();
        let words = if words.is_empty() { "all fine".to_owned() } else { words.join(", ") };
        let line = format!("{}, {} ago: {words}", name(id), age(stale));
        for line in fold(line.split(' ').map(str::to_owned), " ", "  ") {
            text += &format!("{line}\n");
        }
    }
    if text.is_empty() { text } else { format!("last known:\n{text}") }
}

fn name(id: &str) -> String {
    plain(&Value::from(id))
}

/// How old a row is, or the last word of a node whose row is not believed any more.
fn row_age(row: &Value) -> String {
    match (row["age_seconds"].as_f64(), row["stale_seconds"].as_f64()) {
        (Some(fresh), _) => age(fresh),
        (None, Some(stale)) => format!("{}, stale", age(stale)),
        (None, None) => "none".to_owned(),
    }
}

fn painted(text: &str, colour: u8, colours: bool) -> String {
    if colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}

/// How many columns of a terminal a text takes at most.
fn columns(text: &str) -> usize {
    // No character takes more than two, and none before the first of Hangul more than one.
    text.chars().map(|c| if c < '\u{1100}' { 1 } else { 2 }).sum()
}

/// Lines of at most 80 columns, broken between words; a longer word is whole all the same.
fn fold(words: impl IntoIterator<Item = String>, between: &str, indent: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if columns(line) + columns(between) + columns(&word) <= WIDTH => {
                *line += between;
                *line += &word;
            }
            Some(_) => lines.push(format!("{indent}{word}")),
            None => lines.push(word),
        }
    }
    lines
}

/// A matrix of which every cell is shown.
struct Grid<'a> {
    matrix: &'a Value,
    ids: Vec<&'a str>,
    names: Vec<String>,
    ages: Vec<String>,
    colours: bool,
}

impl Grid<'_> {
    /// With names as headings; `None`: they do not fit.
    fn with_names(&self) -> Option<String> {
        let widest = self.names.iter().map(String::len).max().unwrap_or(0);
        let (first, column) = (widest.max("from \\ to".len()), widest + 2);
        let width = first + self.ids.len() * column + 3 + self.age_width();
        // Only of ASCII it is certain where the next column begins.
        if width > WIDTH || !self.names.iter().all(|name| name.is_ascii()) {
            return None;
        }
        let mut text = format!("{:<first$}", "from \\ to");
        self.names.iter().for_each(|name| text += &format!("{name:>column$}"));
        text += "   row age\n";
        for (from, name) in self.names.iter().enumerate() {
            text += &format!("{name:<first$}");
            for to in 0..self.ids.len() {
                text += &format!("{:>1$}{2}", "", column - 1, self.cell(from, to));
            }
            text += &format!("   {}\n", self.ages[from]);
        }
        Some(text + LEGEND)
    }

    /// With numbers as headings. The names stand behind the rows, or below the map if one is too long for that; none is
    /// shortened.
    fn with_numbers(&self) -> String {
        let nodes = self.ids.len();
        let age_width = self.age_width();
        let left = 2 + nodes + nodes.div_ceil(GROUP) + 3 + age_width + 2;
        let beside = self.names.iter().all(|name| left + columns(name) <= WIDTH);
        let gap = |to: usize| if to.is_multiple_of(GROUP) { " " } else { "" };
        let mut text = "  ".to_owned();
        (0..nodes).for_each(|to| text += &format!("{}{}", gap(to), (to + 1) % 10));
        text += "   row age\n";
        for from in 0..nodes {
            text += &format!("{:>2}", from + 1);
            (0..nodes).for_each(|to| text += &format!("{}{}", gap(to), self.cell(from, to)));
            if beside {
                text += &format!("   {:<age_width$}  {}\n", self.ages[from], self.names[from]);
            } else {
                text += &format!("   {}\n", self.ages[from]);
            }
        }
        text += LEGEND;
        text += "columns have the numbers of the rows (their last digit)\n";
        if !beside {
            let name = |(at, name): (usize, &String)| format!("{:>2} {name}", at + 1);
            text += "\n";
            for line in fold(self.names.iter().enumerate().map(name), "  ", "") {
                text += &format!("{line}\n");
            }
        }
        text
    }

    fn age_width(&self) -> usize {
        self.ages.iter().map(String::len).max().unwrap_or(0).max("row age".len())
    }

    fn cell(&self, from: usize, to: usize) -> String {
        let (sign, _, colour) = sign(self.matrix, self.ids[from], self.ids[to]);
        painted(sign.encode_utf8(&mut [0; 4]), colour, self.colours)
    }
}

/// What fresh rows say that is not fine: about whom and what, and who says so.
struct Said<'a> {
    by: Vec<&'a str>,
    colour: u8,
}

/// What is not fine, and how old the rows are.
fn faults(matrix: &Value, ids: &[&str], colours: bool) -> String {
    let rows = &matrix["rows"];
    let (fresh, silent): (Vec<&str>, Vec<&str>) =
        ids.iter().copied().partition(|id| rows[*id]["age_seconds"].is_number());
    let mut said: BTreeMap<(&str, &'static str), Said<'_>> = BTreeMap::new();
    let mut voters: BTreeMap<&str, usize> = BTreeMap::new();
    for from in &fresh {
        let watched = rows[*from]["peers"].as_object();
        for to in watched.into_iter().flat_map(|peers| peers.keys()) {
            *voters.entry(to).or_default() += 1;
            let (sign, meaning, colour) = sign(matrix, from, to);
            if sign != '.' {
                said.entry((to, meaning)).or_insert_with(|| Said { by: Vec::new(), colour }).by.push(from);
            }
        }
    }
    let oldest = fresh.iter().filter_map(|id| rows[*id]["age_seconds"].as_f64()).reduce(f64::max);
    let oldest = oldest.map_or_else(String::new, |oldest| format!(", the oldest {}", age(oldest)));
    let mut text = format!("{} nodes, {} fresh rows{oldest}\n", ids.len(), fresh.len());
    let mut tell = |line: &str, colour: u8| {
        for line in fold(line.split(' ').map(str::to_owned), " ", "  ") {
            text += &format!("{}\n", painted(&line, colour, colours));
        }
    };
    for ((about, meaning), Said { by, colour }) in &said {
        let by = voices(by, voters[about]);
        tell(&format!("{}: {meaning} at {by}", name(about)), *colour);
    }
    if said.is_empty() {
        tell("all links are fine", 32);
    }
    if !silent.is_empty() {
        let names = silent.iter().map(|id| format!("{} ({})", name(id), row_age(&rows[*id])));
        tell(&format!("no fresh row: {}", list(names, SILENT)), 33);
    }
    text
}

/// Who says so, of so many that have a fresh row and observe it.
fn voices(by: &[&str], voters: usize) -> String {
    if by.len() == voters && voters > 1 {
        return format!("all {voters} with a fresh row");
    }
    format!("{} of {voters}: {}", by.len(), list(by.iter().map(|id| name(id)), NAMED))
}

/// The first of some names, and how many more there are.
fn list(mut names: impl ExactSizeIterator<Item = String>, most: usize) -> String {
    let more = names.len().saturating_sub(most);
    let named: Vec<String> = names.by_ref().take(most).collect();
    if more == 0 { named.join(", ") } else { format!("{} and {more} more", named.join(", ")) }
}

#[cfg(test)]
mod tests;
