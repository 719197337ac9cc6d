//! The configuration file: TOML, each value with its line.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::nearest;
use super::raw::{Fault, Raw, Source};
use super::section::{self, Section};
use super::table::{KEYS, Sourced};

/// Where the file is looked for when none is named.
pub(crate) const DEFAULT_PATH: &str = "/etc/lastseen/lastseen.toml";

/// Reads the file into `sourced`. A file that was not named may be absent.
pub(crate) fn read(path: Option<&Path>, sourced: &mut Sourced) -> Vec<Fault> {
    let (path, named) = (path.unwrap_or(Path::new(DEFAULT_PATH)), path.is_some());
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, |line| Source::File { path: path.display().to_string(), line }, sourced),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !named => Vec::new(),
        Err(e) => vec![Fault::general(format!(
            "cannot read the configuration file {}: {e}; `lastseen config default` prints one to start from",
            path.display()
        ))],
    }
}

/// Reads TOML into `sourced`; `source` makes the source of a line.
pub(crate) fn parse(text: &str, source: impl Fn(usize) -> Source, sourced: &mut Sourced) -> Vec<Fault> {
    let at = |offset: usize| {
        source(1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count())
    };
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(e) => {
            return vec![Fault::at(&at(e.span().map_or(0, |s| s.start)), e.message().replace('\n', "; "))];
        }
    };
    let mut faults = Vec::new();
    take(table.get_ref(), "", &at, sourced, &mut faults);
    faults
}

/// Takes the values of one table; `prefix` is its path with a dot.
fn take(
    table: &DeTable<'_>,
    prefix: &str,
    at: &dyn Fn(usize) -> Source,
    sourced: &mut Sourced,
    faults: &mut Vec<Fault>,
) {
    for (name, value) in table {
        let path = format!("{prefix}{}", name.get_ref());
        let source = at(name.span().start);
        if let Some(key) = KEYS.iter().find(|k| k.path == path) {
            sourced.insert(key.path, (raw(value), source));
        } else if let Some(name) = section::NAMES.into_iter().find(|name| *name == path) {
            sourced.insert(name, (sections(value, at), source));
        } else if let (DeValue::Table(inner), true) = (value.get_ref(), is_section(&path)) {
            take(inner, &format!("{path}."), at, sourced, faults);
        } else if is_section(&path) {
            faults
                .push(Fault::at(&source, format!("{path} is a section; write [{path}] and its keys below")));
        } else {
            faults.push(Fault::at(&source, unknown(&path, value.get_ref())));
        }
    }
}

/// The tables of `[[hooks]]`, say.
fn sections(value: &Spanned<DeValue<'_>>, at: &dyn Fn(usize) -> Source) -> Raw {
    let section = |item: &Spanned<DeValue<'_>>| {
        let table = item.get_ref().as_table()?;
        let values = table
            .iter()
            .map(|(name, value)| (name.get_ref().to_string(), (raw(value), at(name.span().start))))
            .collect();
        Some(Section { source: at(item.span().start), values })
    };
    let sections = value.get_ref().as_array().and_then(|items| items.iter().map(section).collect());
    sections.map_or(Raw::Other("no list of tables"), Raw::Sections)
}

fn is_section(path: &str) -> bool {
    KEYS.iter().any(|k| k.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// The message about an unknown key, with the nearest right one. A right name in a wrong section counts as near.
fn unknown(path: &str, value: &DeValue<'_>) -> String {
    if value.as_array().is_some_and(|items| items.iter().any(|i| i.get_ref().is_table())) {
        let right = nearest(path, section::NAMES).unwrap_or("hooks");
        return format!("unknown section [[{path}]]; did you mean [[{right}]]?");
    }
    if value.is_table() {
        let sections = KEYS.iter().filter_map(|k| k.path.split_once('.')).map(|(head, _)| head);
        return match nearest(path, sections) {
            Some(section) => format!("unknown section [{path}]; did you mean [{section}]?"),
            None => format!("unknown section [{path}]; `lastseen config default` prints all there are"),
        };
    }
    let name = path.rsplit('.').next().unwrap_or(path);
    let same_name = KEYS.iter().map(|k| k.path).find(|p| p.rsplit('.').next() == Some(name));
    match same_name.or_else(|| nearest(path, KEYS.iter().map(|k| k.path))) {
        Some(right) => match right.split_once('.') {
            Some((head, leaf)) if !path.starts_with(&format!("{head}.")) => {
                format!("unknown key \"{path}\"; did you mean \"{leaf}\" in the section [{head}]?")
            }
            _ if same_name.is_some() => {
                format!("unknown key \"{path}\"; did you mean \"{right}\" at the top, before any section?")
            }
            _ => format!("unknown key \"{path}\"; did you mean \"{right}\"?"),
        },
        None => format!("unknown key \"{path}\"; `lastseen config default` prints all there are"),
    }
}

fn raw(value: &Spanned<DeValue<'_>>) -> Raw {
    match value.get_ref() {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(n) => {
            i64::from_str_radix(n.as_str(), n.radix()).map_or(Raw::Other("a number that large"), Raw::Integer)
        }
        DeValue::Boolean(b) => Raw::Flag(*b),
        DeValue::Array(items) => {
            let texts: Option<Vec<String>> =
                items.iter().map(|i| i.get_ref().as_str().map(str::to_owned)).collect();
            texts.map_or(Raw::Other("a list with something else than strings"), Raw::List)
        }
        DeValue::Float(_) => Raw::Other("a fraction"),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Table(table) => {
            let pair = |(name, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
                Some((name.get_ref().to_string(), value.get_ref().as_str()?.to_owned()))
            };
            let pairs: Option<Vec<(String, String)>> = table.iter().map(pair).collect();
            pairs.map_or(Raw::Other("a table with something else than strings"), Raw::Table)
        }
    }
}
