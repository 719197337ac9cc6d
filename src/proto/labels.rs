//! Labels: what an operator says of a node, so that others can choose by it. They travel in its notice.

use serde::{Deserialize, Serialize};

use super::server_id::is_printable;

/// Names and values, by name, each name once: at most 16, together at most 512 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(String, String)>")]
pub struct Labels(Box<[(String, String)]>);

impl Labels {
    /// The most labels of a node.
    pub const MOST: usize = 16;
    /// The most bytes of all names and values together.
    pub const LONGEST: usize = 512;
    /// The most bytes of a name.
    const NAME: usize = 32;
    /// The most bytes of a value.
    const VALUE: usize = 64;

    /// Labels in any order.
    ///
    /// # Errors
    /// What is wrong with them, and what would be right.
    pub fn new(mut labels: Vec<(String, String)>) -> Result<Labels, String> {
        labels.sort();
        Labels::try_from(labels)
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The value of the label called so.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Bytes on the wire.
    pub(crate) fn encoded_len(&self) -> usize {
        1 + self.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>()
    }
}

/// A name that is one of a Prometheus label too.
fn check_name(name: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if begins && name.len() <= Labels::NAME && name.chars().all(fine) {
        return Ok(());
    }
    Err(format!(
        "the label {name:?} is not named right: 1 to {} of a-z, 0-9 and _, beginning with a letter",
        Labels::NAME
    ))
}

fn check_value(name: &str, value: &str) -> Result<(), String> {
    if (1..=Labels::VALUE).contains(&value.len()) && value.chars().all(is_printable) {
        return Ok(());
    }
    Err(format!(
        "the label {name} cannot be {value:?}; 1 to {} bytes of letters, digits and . - _ : / + are right",
        Labels::VALUE
    ))
}

impl TryFrom<Vec<(String, String)>> for Labels {
    type Error = String;

    /// Labels in their order.
    fn try_from(labels: Vec<(String, String)>) -> Result<Labels, String> {
        if labels.len() > Labels::MOST {
            return Err(format!("{} labels are too many; {} are the most", labels.len(), Labels::MOST));
        }
        for (name, value) in &labels {
            check_name(name)?;
            check_value(name, value)?;
        }
        if let Some(pair) = labels.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            return Err(format!("the label {} is there twice, or out of order", pair[1].0));
        }
        let bytes: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > Labels::LONGEST {
            return Err(format!("the labels have {bytes} bytes together; {} are the most", Labels::LONGEST));
        }
        Ok(Labels(labels.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(all: &[(&str, &str)]) -> Result<Labels, String> {
        Labels::new(all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn labels_are_few_short_and_plain() {
        let fine = labels(&[("role", "db"), ("rack", "r-7:b/2")]).unwrap();
        assert_eq!(fine.iter().collect::<Vec<_>>(), [("rack", "r-7:b/2"), ("role", "db")]);
        assert_eq!((fine.get("role"), fine.get("rol")), (Some("db"), None));
        let (name, value) = ("n".repeat(32), "v".repeat(64));
        assert!(labels(&[(&name, &value)]).is_ok());
        for (wrong, told) in [
            (&[("", "x")][..], "not named right"),
            (&[("7up", "x")], "not named right"),
            (&[("Role", "x")], "not named right"),
            (&[("a-b", "x")], "not named right"),
            (&[(&*"n".repeat(33), "x")], "not named right"),
            (&[("a", "")], "cannot be \"\""),
            (&[("a", "x y")], "cannot be"),
            (&[("a", "x\u{1b}")], "cannot be"),
            (&[("a", &*"v".repeat(65))], "cannot be"),
            (&[("a", "x"), ("a", "y")], "twice"),
            (&[("a", "x"); 17], "17 labels are too many"),
        ] {
            let error = labels(wrong).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
        let long =
            |count: u8| (0..count).map(|n| (char::from(b'a' + n).to_string(), value.clone())).collect();
        assert!(Labels::new(long(7)).is_ok());
        assert!(Labels::new(long(8)).unwrap_err().contains("520 bytes together"));
    }

    #[test]
    fn one_form_travels() {
        let bytes = |pairs: &[(&str, &str)]| postcard::to_stdvec(pairs).unwrap();
        let read = |pairs| postcard::from_bytes::<Labels>(&bytes(pairs)).ok();
        let fine = [("rack", "a"), ("role", "db")];
        assert_eq!(read(&fine), labels(&fine).ok());
        assert_eq!(labels(&fine).unwrap().encoded_len(), bytes(&fine).len());
        assert_eq!(read(&[("role", "db"), ("rack", "a")]), None, "out of order");
        assert_eq!(read(&[("a", "x"), ("a", "x")]), None, "twice");
        assert_eq!(postcard::to_stdvec(&Labels::default()).unwrap(), [0], "none is one byte");
    }
}
