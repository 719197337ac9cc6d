//! The figures, as they are committed and as they are compared.

use std::fmt::Write as _;

use toml::Table;

/// What each group is, and by how many in a hundred its figures may differ.
const GROUPS: [(&str, &str, f64); 5] = [
    ("instructions", "of one operation", 3.0),
    ("allocations", "in all operations of a path; those that are not named make none", 0.0),
    ("bytes", "on the wire, without IP and UDP", 0.0),
    ("size", "of the program, linked in parts", 2.0),
    ("packages", "that it is built of, on this system", 0.0),
];

/// Figures by group and name, in the order in which they were measured.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    made_with: Vec<(String, String)>,
    all: Vec<(String, String, u64)>,
}

impl Figures {
    pub(crate) fn made_with(&mut self, what: &str, which: &str) {
        self.made_with.push((what.to_owned(), which.to_owned()));
    }

    pub(crate) fn add(&mut self, group: &str, name: &str, figure: u64) {
        self.all.push((group.to_owned(), name.to_owned(), figure));
    }

    fn get(&self, group: &str, name: &str) -> Option<u64> {
        self.all.iter().find(|(g, n, _)| g == group && n == name).map(|(.., figure)| *figure)
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text =
            "# What `.ci/guard` compares; `.ci/guard write` writes it.\n\n[made_with]\n".to_owned();
        for (what, which) in &self.made_with {
            writeln!(text, "{what} = {which:?}").expect("a string takes all");
        }
        for (group, what, percent) in GROUPS {
            let tolerance =
                if percent > 0.0 { format!(", within {percent} %") } else { ", exactly".to_owned() };
            writeln!(text, "\n# {what}{tolerance}\n[{group}]").expect("a string takes all");
            for (_, name, figure) in self.all.iter().filter(|(g, ..)| g == group) {
                writeln!(text, "{name} = {figure}").expect("a string takes all");
            }
        }
        text
    }

    pub(crate) fn from_text(text: &str) -> Figures {
        let mut figures = Figures::default();
        for (group, names) in text.parse::<Table>().expect("figures.toml is TOML") {
            for (name, value) in names.as_table().expect("figures.toml has tables only") {
                match value.as_integer() {
                    Some(figure) => {
                        figures.add(&group, name, u64::try_from(figure).expect("no figure is negative"))
                    }
                    None => figures.made_with(name, value.as_str().expect("a text, or a figure")),
                }
            }
        }
        figures
    }

    /// What is not as it was, a line each; with a word on what else is not, if that may be why.
    pub(crate) fn differs(&self, before: &Figures) -> Vec<String> {
        let mut wrong = Vec::new();
        let of = |figures: &Figures| {
            figures.all.iter().map(|(g, n, _)| (g.clone(), n.clone())).collect::<Vec<_>>()
        };
        let mut names = of(self);
        names.extend(of(before).into_iter().filter(|(group, name)| self.get(group, name).is_none()));
        for (group, name) in names {
            let percent = GROUPS.iter().find(|(g, ..)| *g == group).map_or(0.0, |(.., percent)| *percent);
            let (now, was) = (self.get(&group, &name), before.get(&group, &name));
            // What is not named among the allocations makes none.
            let (now, was) =
                if group == "allocations" { (now.or(Some(0)), was.or(Some(0))) } else { (now, was) };
            wrong.extend(difference(now, was, percent).map(|how| format!("{group}: {name}: {how}")));
        }
        if !wrong.is_empty() {
            for (what, which) in self.made_with.iter().filter(|made| !before.made_with.contains(made)) {
                wrong.push(format!("The {what} is another than that of the file: {which}"));
            }
        }
        wrong
    }
}

/// How a figure differs by more than it may.
fn difference(now: Option<u64>, was: Option<u64>, percent: f64) -> Option<String> {
    match (now, was) {
        (Some(now), Some(was)) => {
            let change = (now as f64 - was as f64) / (was as f64).max(1.0) * 100.0;
            (change.abs() > percent).then(|| format!("{now}, was {was} ({change:+.1} %, {percent} may be)"))
        }
        (Some(now), None) => Some(format!("{now}, and not in the file")),
        (None, Some(was)) => Some(format!("no longer measured, was {was}")),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(all: &[(&str, &str, u64)]) -> Figures {
        let mut figures = Figures::default();
        figures.made_with("compiler", "rustc 1.88.0");
        all.iter().for_each(|(group, name, figure)| figures.add(group, name, *figure));
        figures
    }

    #[test]
    fn what_is_written_reads_back() {
        let all = figures(&[("instructions", "seal", 1000), ("bytes", "ping", 48), ("packages", "core", 9)]);
        let read = Figures::from_text(&all.to_text());
        assert_eq!((all.differs(&read), read.differs(&all)), (vec![], vec![]));
        assert_eq!((read.all.len(), &read.made_with), (3, &all.made_with));
    }

    #[test]
    fn losses_gains_and_what_is_missing_or_new_are_told() {
        let was =
            figures(&[("instructions", "seal", 1000), ("bytes", "ping", 48), ("allocations", "few", 1)]);
        let told = |all: &[(&str, &str, u64)]| figures(all).differs(&was).len();
        let same = [("instructions", "seal", 1030), ("bytes", "ping", 48), ("allocations", "few", 1)];
        assert_eq!(told(&same), 0);
        for (at, wrong) in [(0, 1031), (0, 969), (1, 47), (1, 49), (2, 2), (2, 0)] {
            let mut all = same;
            all[at].2 = wrong;
            assert_eq!(told(&all), 1, "{all:?}");
        }
        assert_eq!(told(&same[..1]), 2, "the ping is gone, and so are the allocations");
        assert_eq!(told(&[&same[..], &[("allocations", "none", 3)]].concat()), 1);
        assert_eq!(told(&[&same[..], &[("allocations", "none", 0)]].concat()), 0);
    }

    #[test]
    fn another_compiler_is_named_beside_what_differs() {
        let was = figures(&[("size", "static_program", 100)]);
        let mut now = Figures::default();
        now.made_with("compiler", "rustc 1.99.0");
        now.add("size", "static_program", 100);
        assert_eq!(now.differs(&was), Vec::<String>::new());
        now.all[0].2 = 103;
        assert!(now.differs(&was)[1].contains("1.99.0"), "{:?}", now.differs(&was));
    }
}
