//! Drains: a node says that it will be away, and until when that raises no alarm.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::server_id::is_printable;
use super::verdict::Age;

/// A node that drains may go away until then without an alarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// In seconds since 1970, by the wall clocks of all: where they differ, it ends sooner or later.
    pub until: u64,
    /// Why.
    pub reason: Reason,
}

impl Drain {
    /// Nobody counts a drain for longer than this since he heard of it: what is forged, or a mistake, ends.
    pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
}

/// Why a node drains: at most 120 bytes of one printable line; empty: not told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "&str")]
pub struct Reason(Box<str>);

impl Reason {
    /// The most bytes.
    pub const LONGEST: usize = 120;

    /// A reason.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn new(text: &str) -> Result<Reason, String> {
        if text.len() > Reason::LONGEST {
            return Err(format!("the reason has {} bytes; {} are the most", text.len(), Reason::LONGEST));
        }
        match text.chars().find(|c| !is_printable(*c) && !matches!(c, ' ' | '\'')) {
            Some(c) => Err(format!(
                "the reason must not have the character {}; it is one plain line",
                c.escape_debug()
            )),
            None => Ok(Reason(text.into())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for Reason {
    type Error = String;
    fn try_from(text: &str) -> Result<Reason, String> {
        Reason::new(text)
    }
}

/// A drain that goes on, at one moment: `12 min left: kernel upgrade`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draining {
    /// For how long.
    pub left: Duration,
    /// What was said.
    pub drain: Drain,
}

impl fmt::Display for Draining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} left", Age(self.left))?;
        match self.drain.reason.as_str() {
            "" => Ok(()),
            reason => write!(f, ": {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_one_plain_line() {
        for right in ["", "kernel upgrade", "it's Bob's, see OPS-7", &"x".repeat(120)] {
            assert_eq!(Reason::new(right).map(|r| r.as_str().to_owned()), Ok(right.to_owned()));
        }
        for wrong in ["a\nb", "\u{1b}[31m", "<b>", "a\u{202e}b", &"x".repeat(121)] {
            assert!(Reason::new(wrong).is_err(), "{wrong:?}");
        }
        let drain = |text: &str| postcard::to_stdvec(&(7u64, text)).unwrap();
        assert!(postcard::from_bytes::<Drain>(&drain("fine")).is_ok());
        assert!(postcard::from_bytes::<Drain>(&drain("not\tfine")).is_err());
    }

    #[test]
    fn what_is_left_and_why() {
        let text = |left, reason| {
            let drain = Drain { until: 0, reason: Reason::new(reason).unwrap() };
            Draining { left: Duration::from_secs(left), drain }.to_string()
        };
        assert_eq!(text(720, "kernel upgrade"), "12 min left: kernel upgrade");
        assert_eq!(text(40, ""), "40 s left");
    }
}
