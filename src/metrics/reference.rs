//! The page of the documentation that is made of the table of families. `UPDATE_SNAPSHOTS=1 cargo test reference`
//! writes it anew.

use std::fmt::Write as _;

use super::families::{FAMILIES, Family};
use super::tests::text_of;

const PAGE: &str = "\
<!-- Made of the code: UPDATE_SNAPSHOTS=1 cargo test reference -->

# Metrics reference

`/metrics` on the HTTP listener, in the text format of Prometheus. Every series is there from the start, at zero or NaN, and goes
with its peer. How much is told says `metrics.detail`, or `?detail=` of the request: each level adds to the one before.

```sh no-run
curl -s http://127.0.0.1:5279/metrics?detail=summary
```

`summary` does not grow with the number of nodes; each service that some node offers adds 4 series to it. `peers` adds some 35 series for each peer that this node observes itself; above 64
peers that are 16 at most. `matrix` adds what every node sees of every other, and the families of peers for those too that are
not observed here: ask one or two nodes of the cluster for it, and not all; above 1,000 nodes it is refused. What a
file of yours will export says `lastseen config check FILE`.

No label is called `instance`, `job`, `cluster`, `node`, `pod`, `namespace`, `zone`, `host` or `service`, which are Prometheus' own
or the cloud's.
";

/// The levels, and which of them writes this family first.
const LEVELS: [(&str, &str); 3] = [
    ("summary", "The node and the cluster as it sees it."),
    ("peers", "Of each peer that this node observes."),
    ("matrix", "What each node that is believed says of each that it observes."),
];

#[test]
fn the_metrics_reference_is_current() {
    let texts = [(false, false), (true, false), (true, true)].map(|(peers, matrix)| text_of(peers, matrix));
    let level = |f: &Family| texts.iter().position(|t| t.contains(&format!("# TYPE {} ", f.name)));
    let mut page = PAGE.to_owned();
    for (nth, (detail, what)) in LEVELS.iter().enumerate() {
        let _ = write!(
            page,
            "\n## From `{detail}` on\n\n{what}\n\n| name | type | unit | labels | help |\n| --- | --- | --- | --- | --- |\n"
        );
        for f in FAMILIES.iter().filter(|f| level(f) == Some(nth)) {
            let labels: Vec<String> = f.labels.iter().map(|label| format!("`{label}`")).collect();
            let unit = if f.unit == metrics::Unit::Count { "" } else { f.unit.as_str() };
            let (name, kind, help) = (f.name, f.kind.as_str(), f.help);
            let _ = writeln!(page, "| `{name}` | {kind} | {unit} | {} | {help} |", labels.join(", "));
        }
    }
    assert!(FAMILIES.iter().all(|f| level(f).is_some()), "every family is written at some level");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let old = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(page, old, "docs/metrics.md is old: run with UPDATE_SNAPSHOTS=1");
}
