use lastseen::proto::ServerId;
use serde_json::{Map, json};

use super::*;

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
        let fresh = (!silent.contains(&from)).then_some(0.4);
        rows.insert(id(from), json!({"age_seconds": fresh, "stale_seconds": null, "peers": peers}));
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
    assert_eq!(lines[6..].join("\n") + "\n", LEGEND);
    assert!(!text.contains('\x1b'));
    assert!(matrix_text(&matrix(5, &faults, &[4]), true).contains("\x1b[31mD\x1b[0m"));
}

#[test]
fn a_row_that_was_cut_leaves_open_whom_it_does_not_name() {
    let mut matrix = matrix(3, &[(1, 2, "down", "down")], &[]);
    matrix["rows"]["web-1"]["cut"] = json!(true);
    matrix["rows"]["web-1"]["peers"].as_object_mut().unwrap().remove("web-3");
    let text = matrix_text(&matrix, false);
    assert_eq!(text.lines().nth(1), Some("web-1          =      D      ?   0.4 s"));
}

#[test]
fn a_row_that_is_not_believed_any_more_shows_its_last_known_state_and_the_age_of_that() {
    let mut matrix = matrix(3, &[(2, 1, "healthy", "down")], &[]);
    for (id, stale) in [("web-2", 48.0), ("web-3", 7.5)] {
        (matrix["rows"][id]["age_seconds"], matrix["rows"][id]["stale_seconds"]) =
            (Value::Null, stale.into());
    }
    let text = matrix_text(&matrix, false);
    assert_eq!(text.lines().nth(2), Some("web-2          ?      =      ?   48 s, stale"), "{text}");
    assert!(
        text.ends_with("last known:\nweb-2, 48 s ago: web-1 link down\nweb-3, 7.5 s ago: all fine\n"),
        "{text}"
    );
}

/// The matrix of nodes that are called so, of which the last one calls the first Down.
fn called(names: &[String], fresh: Option<f64>, stale: Option<f64>) -> Value {
    let mut rows = Map::new();
    for name in names {
        rows.insert(name.clone(), json!({"age_seconds": 0.4, "stale_seconds": null, "peers": {}}));
    }
    let last = names.last().unwrap();
    rows[last]["peers"][&names[0]] = json!({"status": "down", "link": "down"});
    let row = json!({"age_seconds": fresh, "stale_seconds": stale, "peers": {}});
    rows.insert(names[0].clone(), row);
    json!({"nodes": names, "rows": rows})
}

/// So many names of this length and shape, all different.
fn names(count: usize, shape: usize, length: usize) -> Vec<String> {
    let name = |n: usize| {
        let number = n.to_string();
        let filled = |c: char| c.to_string().repeat(length.saturating_sub(number.len()) / c.len_utf8());
        match shape {
            0 => format!("{}{number}", filled('w')),
            1 => format!("{number}{}", filled('w')),
            2 => format!("{}{number}", filled('é')),
            3 => format!("{number}{}", filled('機')),
            4 => format!("{}{number}", filled('🦀')),
            // One of them long, the others short.
            5 if n == count => filled('w'),
            5 => number,
            // One byte each.
            _ => "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456"[n..=n].to_owned(),
        }
    };
    (1..=count).map(name).collect()
}

/// Columns of a terminal.
fn shown(line: &str) -> usize {
    line.chars().map(|c| if matches!(c, '機' | '🦀') { 2 } else { 1 }).sum()
}

#[test]
fn thirty_nodes_of_any_name_fit_into_80_columns_and_are_told_apart() {
    let ages = [
        (Some(0.4), None),
        (None, Some(48.0)),
        (None, Some(172_799.0)),
        (Some(172_799.0), None),
        (None, None),
    ];
    let shapes = (1..=30).flat_map(|count| (0..7).map(move |shape| (count, shape)));
    for (count, shape, length) in shapes
        .flat_map(|(count, shape)| (3 + count % 3..=64).step_by(3).map(move |length| (count, shape, length)))
    {
        let names = names(count, shape, length);
        for name in &names {
            ServerId::check(name).unwrap();
        }
        let (fresh, stale) = ages[(count + length) % ages.len()];
        let text = matrix_text(&called(&names, fresh, stale), false);
        assert!(text.lines().all(|line| shown(line) <= 80), "{text}");
        for name in &names {
            assert!(text.split_whitespace().any(|word| word == name), "{name} is missing in:\n{text}");
        }
    }
}

#[test]
fn names_fit_into_80_columns() {
    let two_letters: Vec<String> = ('a'..='p').map(|c| format!("{c}x")).collect();
    let numbered = |count, word: &str| -> Vec<String> { (1..=count).map(|n| format!("{word}{n}")).collect() };
    let padded: Vec<String> = (1..=30).map(|n| format!("web-prod-{n:02}")).collect();
    for names in [padded, numbered(13, "n"), two_letters] {
        let text = matrix_text(&called(&names, None, Some(48.0)), false);
        assert!(text.lines().all(|line| shown(line) <= 80), "{text}");
    }
}

#[test]
fn names_that_are_no_headings_stand_behind_their_rows() {
    let names: Vec<String> = (1..=12).map(|n| format!("web-prod-{n:02}")).collect();
    let text = matrix_text(&called(&names, None, Some(48.0)), false);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "   12345 67890 12   row age");
    assert_eq!(lines[1], " 1 =???? ????? ??   48 s, stale  web-prod-01");
    assert_eq!(lines[12], "12 D            =   0.4 s        web-prod-12");
    assert_eq!(
        lines[lines.len() - 3..],
        [
            "columns have the numbers of the rows (their last digit)",
            "last known:",
            "web-prod-01, 48 s ago: all fine"
        ]
    );
}

#[test]
fn long_names_stand_below_the_map_and_are_whole() {
    let names: Vec<String> = (1..=3).map(|n| format!("{}-{n}", "w".repeat(62))).collect();
    let text = matrix_text(&called(&names, Some(0.4), None), false);
    let (map, list) = text.split_once("\n\n").unwrap();
    assert!(map.starts_with("   123   row age\n 1 =     0.4 s\n 2  =    0.4 s\n 3 D =   0.4 s\n"), "{text}");
    assert_eq!(list, format!(" 1 {}\n 2 {}\n 3 {}\n", names[0], names[1], names[2]));
    // The short ones share a line.
    let text = matrix_text(&called(&self::names(30, 5, 64), Some(0.4), None), false);
    assert!(text.contains("\n\n 1 1   2 2   3 3"), "{text}");
}

#[test]
fn above_thirty_the_faults_and_ages() {
    let mut faults: Vec<_> = (2..=40).map(|from| (from, 1, "down", "down")).collect();
    faults.extend([(3, 4, "healthy", "down"), (4, 3, "healthy", "lossy")]);
    let mut forty = matrix(40, &faults, &[1, 40]);
    forty["rows"]["web-1"]["stale_seconds"] = 48.0.into();
    forty["rows"]["web-7"]["age_seconds"] = 1.8.into();
    let text = matrix_text(&forty, false);
    assert_eq!(
        text,
        "40 nodes, 38 fresh rows, the oldest 1.8 s\n\
         web-1: down at all 38 with a fresh row\n\
         web-3: lossy at 1 of 37: web-4\n\
         web-4: link down at 1 of 37: web-3\n\
         no fresh row: web-1 (48 s, stale), web-40 (none)\n"
    );
    let text = matrix_text(&forty, true);
    assert!(text.contains("\x1b[31mweb-1: down at all") && text.contains("\x1b[33mno fresh row: "), "{text}");
    let fine = matrix(31, &[], &[]);
    assert_eq!(matrix_text(&fine, false), "31 nodes, 31 fresh rows, the oldest 0.4 s\nall links are fine\n");
    assert!(matrix_text(&fine, true).ends_with("\x1b[32mall links are fine\x1b[0m\n"));
}

#[test]
fn above_thirty_all_is_all() {
    // 38 of 39 say so, and one hears it.
    let faults: Vec<_> = (3..=40).map(|from| (from, 1, "down", "down")).collect();
    let text = matrix_text(&matrix(40, &faults, &[1]), false);
    assert!(text.contains("\nweb-1: down at 38 of 39: web-3, web-4, web-5, web-6 and 34 more\n"), "{text}");
    // Of two with a fresh row one says so.
    let silent: Vec<usize> = (3..=40).collect();
    let text = matrix_text(&matrix(40, &[(1, 3, "down", "down")], &silent), false);
    assert!(text.contains("\nweb-3: down at 1 of 2: web-1\n"), "{text}");
    let text = matrix_text(&matrix(40, &[(1, 3, "down", "down"), (2, 3, "down", "down")], &silent), false);
    assert!(text.contains("\nweb-3: down at all 2 with a fresh row\n"), "{text}");
    // One voice is never all.
    let text = matrix_text(&matrix(40, &[(1, 3, "down", "down")], &(2..=40).collect::<Vec<_>>()), false);
    assert!(text.contains("\nweb-3: down at 1 of 1: web-1\n"), "{text}");
    // Who does not observe it has no voice.
    let mut some = matrix(40, &[(1, 3, "down", "down"), (2, 3, "down", "down")], &[]);
    for from in 4..=40 {
        some["rows"][format!("web-{from}")]["peers"] = json!({});
    }
    let text = matrix_text(&some, false);
    assert!(text.contains("\nweb-3: down at all 2 with a fresh row\n"), "{text}");
}

#[test]
fn above_thirty_lines_are_folded() {
    let names = names(40, 0, 64);
    let mut silent = called(&names, None, None);
    for name in &names[..35] {
        silent["rows"][name]["age_seconds"] = Value::Null;
    }
    let text = matrix_text(&silent, false);
    assert!(text.lines().all(|line| shown(line) <= 80), "{text}");
    assert!(text.ends_with("(none) and 5 more\n") && text.contains(&names[29]), "{text}");
}

#[test]
fn the_dashboard_has_the_same_signs() {
    let model = include_str!("../../assets/model.js");
    for entry in LEGEND.lines().flat_map(|line| line.split("   ")) {
        let (sign, meaning) = entry.split_once(' ').unwrap();
        let there = format!("sign: \"{sign}\", legend: \"{meaning}\"");
        assert!(model.contains(&there), "{there}");
    }
}
