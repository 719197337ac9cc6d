//! A page of Markdown, as far as its checks need: headings, links, code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Something on a page, and its line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) line: usize,
    pub(super) it: T,
}

/// A fenced block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// What stands behind the fence: `sh`, `sh no-run`, `toml`.
    pub(super) info: String,
    pub(super) text: String,
}

/// One page.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// From the root of the repository.
    pub(super) path: PathBuf,
    /// The names that links to its headings have.
    pub(super) anchors: Vec<String>,
    pub(super) links: Vec<At<String>>,
    /// Code within a line.
    pub(super) code: Vec<At<String>>,
    /// The line of a block is that of its first line of text.
    pub(super) blocks: Vec<At<Block>>,
    /// The cells of every row of a table.
    pub(super) rows: Vec<Vec<String>>,
}

impl Page {
    pub(super) fn read(root: &Path, path: &Path) -> Page {
        Page::parse(path, &std::fs::read_to_string(root.join(path)).unwrap())
    }

    fn parse(path: &Path, text: &str) -> Page {
        let mut page = Page { path: path.to_owned(), ..Page::default() };
        let mut slugs = BTreeMap::new();
        let mut lines = text.lines().enumerate();
        while let Some((at, line)) = lines.next() {
            let indent = line.len() - line.trim_start().len();
            if let Some(info) = line.trim_start().strip_prefix("```") {
                let inner = lines.by_ref().map(|(_, l)| l.get(indent..).unwrap_or_default());
                let text: String =
                    inner.take_while(|l| !l.starts_with("```")).map(|l| format!("{l}\n")).collect();
                page.blocks.push(At { line: at + 2, it: Block { info: info.trim().to_owned(), text } });
            } else {
                page.line(at + 1, line, &mut slugs);
            }
        }
        page
    }

    fn line(&mut self, at: usize, line: &str, slugs: &mut BTreeMap<String, usize>) {
        if let Some(title) = line.strip_prefix('#').map(|rest| rest.trim_start_matches('#')) {
            let slug = slug(title);
            let seen = slugs.entry(slug.clone()).or_default();
            self.anchors.push(if *seen == 0 { slug } else { format!("{slug}-{seen}") });
            *seen += 1;
        }
        if let Some(row) = line.strip_prefix('|') {
            self.rows
                .push(row.trim_end().trim_end_matches('|').split('|').map(|c| c.trim().to_owned()).collect());
        }
        // Every second part of a line that is cut at its backticks is code.
        let mut prose = String::new();
        for (nth, part) in line.split('`').enumerate() {
            match nth % 2 {
                0 => prose.push_str(part),
                _ => self.code.push(At { line: at, it: part.to_owned() }),
            }
        }
        let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        self.links.extend(targets.map(|(target, _)| At { line: at, it: target.to_owned() }));
    }
}

/// The anchor that GitHub gives a heading.
fn slug(title: &str) -> String {
    let kept = title.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn a_page_in_parts() {
    let text = "# A `b`, c\n\nSee [x](y.md#z) and `lastseen run`.\n## Twice\n## Twice\n| `up` | fine |\n  ```sh no-run\n  # no heading\n    a\n  ```\n";
    let page = Page::parse(Path::new("p.md"), text);
    assert_eq!(page.anchors, ["a-b-c", "twice", "twice-1"]);
    assert_eq!(page.links, [At { line: 3, it: "y.md#z".to_owned() }]);
    assert!(page.code.contains(&At { line: 3, it: "lastseen run".to_owned() }));
    let text = "# no heading\n  a\n".to_owned();
    assert_eq!(page.blocks, [At { line: 8, it: Block { info: "sh no-run".to_owned(), text } }]);
    assert_eq!(page.rows, [["`up`", "fine"]]);
}
