//! Sections that may stand more than once, `[[hooks]]` and `[[services]]`: their keys, and how these are read.

use std::collections::BTreeMap;

use super::nearest;
use super::raw::{Fault, Raw, Setting, Source};

/// The sections of this kind.
pub(super) const NAMES: [&str; 2] = ["hooks", "services"];

/// The values of one section, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) source: Source,
    pub(crate) values: BTreeMap<String, (Raw, Source)>,
}

/// Where something stands makes no difference.
impl PartialEq for Section {
    fn eq(&self, other: &Section) -> bool {
        let values = |s: &'_ Section| -> Vec<(String, Raw)> {
            s.values.iter().map(|(key, (raw, _))| (key.clone(), raw.clone())).collect()
        };
        values(self) == values(other)
    }
}

/// All sections called `name`, at most `most` of them.
///
/// # Errors
/// They are none, or too many.
pub(super) fn all<'a>(
    name: &str,
    most: usize,
    (raw, source): &'a (Raw, Source),
) -> Result<&'a [Section], Fault> {
    match raw {
        Raw::Sections(sections) if sections.len() <= most => Ok(sections),
        Raw::Sections(sections) => {
            Err(Fault::at(source, format!("at most {most} {name}, here are {}", sections.len())))
        }
        _ => {
            let text = format!("{name} are sections; write [[{name}]] and the keys of one below");
            Err(Fault::at(source, text))
        }
    }
}

/// Reads the values of one section; what is wrong is added to the faults.
pub(super) struct Of<'a> {
    /// What a section stands for: a hook.
    pub(super) what: &'static str,
    pub(super) section: &'a Section,
    pub(super) faults: &'a mut Vec<Fault>,
}

impl Of<'_> {
    /// Tells of every key that is none of these.
    pub(super) fn know(&mut self, keys: &[&str]) {
        for (key, (_, source)) in &self.section.values {
            if !keys.contains(&key.as_str()) {
                let right = nearest(key, keys.iter().copied()).map_or_else(
                    || format!("known are {}", keys.join(", ")),
                    |key| format!("did you mean \"{key}\"?"),
                );
                let text = format!("unknown key \"{key}\" of a {}; {right}", self.what);
                self.faults.push(Fault::at(source, text));
            }
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.section.values.contains_key(key)
    }

    pub(super) fn value<T: Setting>(&mut self, key: &str, default: Option<T>) -> Option<T> {
        self.checked(key, default, Ok)
    }

    /// The value of `key`, read and checked; `None`: something is wrong, and told.
    pub(super) fn checked<T: Setting, U>(
        &mut self,
        key: &str,
        default: Option<T>,
        check: impl FnOnce(T) -> Result<U, String>,
    ) -> Option<U> {
        let (value, source) = match self.section.values.get(key) {
            Some((raw, source)) => (T::read(raw), source),
            None => (default.ok_or_else(|| "it is missing".to_owned()), &self.section.source),
        };
        let fault = |text| self.faults.push(Fault::at(source, format!("{key} of a {}: {text}", self.what)));
        value.and_then(check).map_err(fault).ok()
    }

    /// Something is wrong with the section as a whole.
    pub(super) fn fault(&mut self, text: &str) {
        self.faults.push(Fault::at(&self.section.source, format!("a {}: {text}", self.what)));
    }
}
