//! The ids of servers, and what text a node lets in.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A server's id: 1 to 64 bytes of printable UTF-8, without white space, markup (`< > & " '`) or invisible
/// characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "&str", into = "String")]
pub struct ServerId(Arc<str>);

impl ServerId {
    /// The most bytes of an id.
    pub const MAX_LEN: usize = 64;

    /// An id.
    ///
    /// # Errors
    /// See [`ServerId::check`].
    pub fn new(text: &str) -> Result<ServerId, String> {
        ServerId::check(text)?;
        Ok(ServerId(text.into()))
    }

    /// Whether `text` can be an id (or a cluster's name).
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn check(text: &str) -> Result<(), String> {
        if text.is_empty() || text.len() > Self::MAX_LEN {
            return Err(format!("it has {} bytes; 1 to {} are right", text.len(), Self::MAX_LEN));
        }
        match text.chars().find(|c| !is_printable(*c)) {
            Some(c) => Err(format!(
                "the character {} is not allowed; letters, digits and . - _ : / + are right",
                c.escape_unicode()
            )),
            None => Ok(()),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Neither control nor space nor markup nor invisible nor of the private use areas: what a terminal, a log and a
/// page can show as it is.
pub(super) fn is_printable(c: char) -> bool {
    let hidden = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{e000}'..='\u{f8ff}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{ffff}' | '\u{1bca0}'..='\u{1bcaf}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{10ffff}');
    !c.is_control() && !c.is_whitespace() && !hidden && !"<>&\"'`\\".contains(c)
}

impl TryFrom<&str> for ServerId {
    type Error = String;
    fn try_from(text: &str) -> Result<ServerId, String> {
        ServerId::new(text)
    }
}

impl From<ServerId> for String {
    fn from(id: ServerId) -> String {
        (*id.0).to_owned()
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
