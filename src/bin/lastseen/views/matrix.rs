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
/// Observers that are named; of more the count is told.
const NAMED: usize = 4;

const LEGEND: &str = ". fine   x link down   < it does not hear me   > I do not hear it   s suspected\n\
                      D down   ~ lossy   = self   ? no fresh row   u never heard\n";

/// Shows the matrix.
pub(crate) fn run_matrix(args: &args::Matrix) -> ExitCode {
    show(args.watch, || {
        let path = if args.client.json { "/api/v1/matrix" } else { "/api/v1/matrix?edges=all" };
        let matrix = client::get(&args.client.daemon.http, path, TIMEOUT)?;
        Ok(if args.client.json { plain_json(&matrix) } else { matrix_text(&matrix, colours()) })
    })
}

/// What one node sees of another one, as a sign, its meaning, and its colour (of SGR).
fn sign(matrix: &Value, from: &str, to: &str) -> (char, &'static str, u8) {
    let row = &matrix["rows"][from];
    let cell = &row["peers"][to];
    match (cell["status"].as_str(), cell["link"].as_str()) {
        _ if from == to => ('=', "itself", 90),
        _ if row["age_seconds"].is_null() => ('?', "no fresh row", 33),
        (Some("down"), _) => ('D', "down", 31),
        (Some("suspected"), _) => ('s', "suspected", 33),
        (Some("unknown"), _) => ('u', "never heard", 33),
        (_, Some("down")) => ('x', "link down", 31),
        (_, Some("tx_lost")) => ('<', "it does not hear them", 31),
        (_, Some("rx_lost")) => ('>', "they do not hear it", 31),
        (_, Some("lossy")) => ('~', "lossy", 33),
        (Some(_), _) => ('.', "fine", 32),
        (None, _) => (' ', "not observed", 0),
    }
}

fn matrix_text(matrix: &Value, colours: bool) -> String {
    let nodes: Vec<&str> =
        matrix["nodes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if nodes.len() > CELLS {
        return faults(matrix, &nodes);
    }
    let name = |id: &str| plain(&Value::from(id));
    let widest = nodes.iter().map(|id| name(id).chars().count()).max().unwrap_or(0);
    // With names as headings while they fit; with numbers above.
    let named = widest * (nodes.len() + 1) + 2 * nodes.len() + 12 <= WIDTH;
    let label = |at: usize| if named { name(nodes[at]) } else { (at + 1).to_string() };
    let first = if named { widest.max("from \\ to".len()) } else { 2 };
    let column = if named { widest + 1 } else { 2 };
    let mut text = format!("{:<first$}", if named { "from \\ to" } else { "" });
    for at in 0..nodes.len() {
        text +=
            &if named { format!(" {:>column$}", label(at)) } else { format!("{:>column$}", (at + 1) % 10) };
    }
    text += "   row age\n";
    for (at, from) in nodes.iter().enumerate() {
        text += &format!("{:<first$}", label(at));
        for to in &nodes {
            let (sign, _, colour) = sign(matrix, from, to);
            let width = if named { column + 1 } else { column };
            text += &" ".repeat(width - 1);
            text += &if colours { format!("\x1b[{colour}m{sign}\x1b[0m") } else { sign.to_string() };
        }
        let row_age = &matrix["rows"][*from]["age_seconds"];
        text += &format!("   {:<7}", row_age.as_f64().map_or_else(|| "none".to_owned(), age));
        text = text.trim_end().to_owned();
        text += &if named { "\n".to_owned() } else { format!("  {}\n", name(from)) };
    }
    text + LEGEND
}

/// What is not fine: about whom, what, and who says so.
fn faults(matrix: &Value, nodes: &[&str]) -> String {
    let mut said: BTreeMap<(&str, &'static str), Vec<&str>> = BTreeMap::new();
    let mut silent = Vec::new();
    for from in nodes {
        if matrix["rows"][*from]["age_seconds"].is_null() {
            silent.push(*from);
            continue;
        }
        let watched = matrix["rows"][*from]["peers"].as_object();
        for to in watched.into_iter().flat_map(|peers| peers.keys()) {
            let (sign, meaning, _) = sign(matrix, from, to);
            if !matches!(sign, '.' | ' ') {
                said.entry((to, meaning)).or_default().push(from);
            }
        }
    }
    let rows = nodes.len() - silent.len();
    let list = |ids: &[&str]| {
        let named: Vec<String> = ids.iter().take(NAMED).map(|id| plain(&Value::from(*id))).collect();
        let more = ids.len().saturating_sub(NAMED);
        if more == 0 { named.join(", ") } else { format!("{} and {more} more", named.join(", ")) }
    };
    let mut text = format!("{} nodes, {rows} rows\n", nodes.len());
    for ((about, meaning), by) in &said {
        let all = by.len() + 1 >= rows;
        let by = if all { "all".to_owned() } else { list(by) };
        text += &format!("{}: {meaning} at {by}\n", plain(&Value::from(*about)));
    }
    if said.is_empty() {
        text += "all links are fine\n";
    }
    if !silent.is_empty() {
        text += &format!("no fresh row of {}\n", list(&silent));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    /// So many nodes, all fine but what is named.
    fn matrix(count: usize, faults: &[(usize, usize, &str, &str)], silent: &[usize]) -> Value {
        let id = |n: usize| format!("web-{n}");
        let mut rows = Map::new();
        for from in 1..=count {
            let mut peers = Map::new();
            for to in (1..=count).filter(|to| *to != from && !silent.contains(&from)) {
                let fault = faults.iter().find(|f| (f.0, f.1) == (from, to));
                let (status, link) = fault.map_or(("healthy", "up"), |f| (f.2, f.3));
                peers.insert(id(to), json!({"status": status, "link": link}));
            }
            let age = if silent.contains(&from) { Value::Null } else { json!(0.4) };
            rows.insert(id(from), json!({"age_seconds": age, "peers": peers}));
        }
        json!({"nodes": (1..=count).map(id).collect::<Vec<_>>(), "rows": rows})
    }

    #[test]
    fn every_cell() {
        let faults = [
            (1, 4, "down", "down"),
            (2, 3, "healthy", "down"),
            (3, 2, "healthy", "tx_lost"),
            (5, 1, "suspected", "up"),
            (5, 2, "healthy", "lossy"),
            (5, 3, "healthy", "rx_lost"),
        ];
        let text = matrix_text(&matrix(5, &faults, &[4]), false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "from \\ to  web-1  web-2  web-3  web-4  web-5   row age");
        assert_eq!(lines[1], "web-1          =      .      .      D      .   0.4 s");
        assert_eq!(lines[2], "web-2          .      =      x      .      .   0.4 s");
        assert_eq!(lines[3], "web-3          .      <      =      .      .   0.4 s");
        assert_eq!(lines[4], "web-4          ?      ?      ?      =      ?   none");
        assert_eq!(lines[5], "web-5          s      ~      >      .      =   0.4 s");
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{text}");
        assert!(!text.contains('\x1b'));
        assert!(matrix_text(&matrix(5, &faults, &[4]), true).contains("\x1b[31mD\x1b[0m"));
    }

    #[test]
    fn thirty_nodes_fit_into_80_columns() {
        let text = matrix_text(&matrix(30, &[(30, 1, "down", "down")], &[]), false);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let last = text.lines().nth(30).unwrap();
        assert!(
            last.starts_with("30 D . .") && last.contains(" =   0.4 s") && last.ends_with("web-30"),
            "{last}"
        );
    }

    #[test]
    fn above_thirty_the_faults() {
        let mut faults: Vec<_> = (2..=40).map(|from| (from, 1, "down", "down")).collect();
        faults.extend([(3, 4, "healthy", "down"), (4, 3, "healthy", "down")]);
        let text = matrix_text(&matrix(40, &faults, &[1]), false);
        assert_eq!(
            text,
            "40 nodes, 39 rows\nweb-1: down at all\nweb-3: link down at web-4\nweb-4: link down at web-3\n\
             no fresh row of web-1\n"
        );
        assert_eq!(matrix_text(&matrix(31, &[], &[]), false), "31 nodes, 31 rows\nall links are fine\n");
    }
}
