//! The node's labels: a table of the file, `a=b,c=d` in the environment.

use lastseen::proto::Labels;

use super::raw::{Raw, Setting, quoted};

impl Setting for Labels {
    fn read(raw: &Raw) -> Result<Self, String> {
        let wrong = || format!("{raw} is no table of labels; write {{ rack = \"r7\", role = \"db\" }}");
        let pair = |text: &str| {
            text.trim().split_once('=').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        };
        let pairs = match raw {
            Raw::Table(pairs) => Some(pairs.clone()),
            Raw::Untyped(text) if text.trim().is_empty() => Some(Vec::new()),
            Raw::Untyped(text) => text.split(',').map(pair).collect(),
            _ => None,
        };
        Labels::new(pairs.ok_or_else(wrong)?)
    }

    fn show(&self) -> String {
        let pairs: Vec<String> =
            self.iter().map(|(name, value)| format!("{name} = {}", quoted(value))).collect();
        if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_or_pairs() {
        let pairs =
            |all: &[(&str, &str)]| all.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let labels = Labels::read(&Raw::Table(pairs(&[("role", "db"), ("rack", "r7")]))).unwrap();
        assert_eq!(Labels::read(&Raw::Untyped("role=db, rack = r7".into())), Ok(labels.clone()));
        assert_eq!(labels.show(), "{ rack = \"r7\", role = \"db\" }");
        assert_eq!(Labels::read(&Raw::Untyped(String::new())).unwrap().show(), "{}");
        for (wrong, told) in [
            (Raw::Text("role=db".into()), "is no table of labels; write { rack = "),
            (Raw::Untyped("role".into()), "is no table"),
            (Raw::List(vec!["role=db".into()]), "is no table"),
            (Raw::Table(pairs(&[("Role", "db")])), "not named right"),
            (Raw::Untyped("a=b,a=c".into()), "twice"),
        ] {
            let error = Labels::read(&wrong).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
