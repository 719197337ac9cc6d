//! Values as they were written, each with its source, and the types they are read as.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lastseen::proto::Observers;

use super::duration;
use super::section::Section;

/// Where a value comes from; the later ones win.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The table of settings.
    Default,
    /// A line of the configuration file.
    File {
        /// The file as it was named.
        path: String,
        /// Its line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File { path, line } => write!(f, "{path}:{line}"),
            Source::Environment(name) => f.write_str(name),
            Source::Flag(name) => f.write_str(name),
        }
    }
}

/// Something wrong with the settings, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where, if it is about one place.
    pub(crate) source: Option<Source>,
    /// What, and what would be right.
    pub(crate) text: String,
}

impl Fault {
    /// A fault of one value.
    pub(crate) fn at(source: &Source, text: impl Into<String>) -> Fault {
        Fault { source: Some(source.clone()), text: text.into() }
    }

    /// A fault of the whole.
    pub(crate) fn general(text: impl Into<String>) -> Fault {
        Fault { source: None, text: text.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{source}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// A value before it is read as its type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Raw {
    /// A string of the file.
    Text(String),
    /// A whole number of the file.
    Integer(i64),
    /// True or false.
    Flag(bool),
    /// A list of strings.
    List(Vec<String>),
    /// What stands below each section of one name: `[[hooks]]`.
    Sections(Vec<Section>),
    /// A table of strings.
    Table(Vec<(String, String)>),
    /// A value of the environment or of a flag: text that stands for any of the above.
    Untyped(String),
    /// What no setting is: its name.
    Other(&'static str),
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Raw::Text(text) | Raw::Untyped(text) => write!(f, "{text:?}"),
            Raw::Integer(n) => write!(f, "{n}"),
            Raw::Flag(b) => write!(f, "{b}"),
            Raw::List(items) => write!(f, "{items:?}"),
            Raw::Sections(_) => f.write_str("a list of tables"),
            Raw::Table(_) => f.write_str("a table"),
            Raw::Other(name) => f.write_str(name),
        }
    }
}

/// A type of settings.
pub(crate) trait Setting: Sized {
    /// Reads the value.
    ///
    /// # Errors
    /// What is wrong with it and what would be right.
    fn read(raw: &Raw) -> Result<Self, String>;
    /// The value as TOML.
    fn show(&self) -> String;
}

pub(super) fn text<'a>(raw: &'a Raw, example: &str) -> Result<&'a str, String> {
    match raw {
        Raw::Text(text) | Raw::Untyped(text) => Ok(text),
        other => Err(format!("{other} is not a string; write {example}")),
    }
}

fn list(raw: &Raw) -> Result<Vec<String>, String> {
    match raw {
        Raw::List(items) => Ok(items.clone()),
        Raw::Untyped(text) => {
            Ok(text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect())
        }
        Raw::Text(text) => Err(format!("{text:?} is not a list; write [{text:?}]")),
        other => Err(format!("{other} is not a list of strings; write [\"…\", \"…\"]")),
    }
}

/// A string of TOML that is one of JSON too.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl Setting for String {
    fn read(raw: &Raw) -> Result<Self, String> {
        text(raw, "it in quotes").map(str::to_owned)
    }
    fn show(&self) -> String {
        quoted(self)
    }
}

impl Setting for bool {
    fn read(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Flag(b) => Ok(*b),
            Raw::Untyped(t) if t == "true" => Ok(true),
            Raw::Untyped(t) if t == "false" => Ok(false),
            other => Err(format!("{other} is neither true nor false")),
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

fn whole<T: TryFrom<i64> + std::str::FromStr>(raw: &Raw) -> Result<T, String> {
    let number = match raw {
        Raw::Integer(n) => T::try_from(*n).ok(),
        Raw::Untyped(t) => t.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| format!("{raw} is not a whole number, like 5"))
}

impl Setting for u64 {
    fn read(raw: &Raw) -> Result<Self, String> {
        whole(raw)
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for u32 {
    fn read(raw: &Raw) -> Result<Self, String> {
        whole(raw)
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for Observers {
    fn read(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Text(t) | Raw::Untyped(t) if ["auto", "all"].contains(&t.as_str()) => t.parse(),
            _ => u32::read(raw).map(Observers::Number).map_err(|_| {
                format!("{raw} is neither \"auto\" nor \"all\" nor an even number from 4 to 64, like 16")
            }),
        }
    }
    fn show(&self) -> String {
        match self {
            Observers::Number(number) => number.to_string(),
            word => format!("\"{word}\""),
        }
    }
}

impl Setting for Duration {
    fn read(raw: &Raw) -> Result<Self, String> {
        if let Raw::Integer(n) = raw {
            return Err(format!(
                "{n} is not a duration; write it as a string with a unit, like \"{n}s\" or \"{n}ms\""
            ));
        }
        duration::parse(text(raw, "a number and a unit in quotes, like \"1s\"")?)
    }
    fn show(&self) -> String {
        format!("{:?}", duration::show(*self))
    }
}

impl Setting for SocketAddr {
    fn read(raw: &Raw) -> Result<Self, String> {
        let text = text(raw, "\"[::]:5278\"")?;
        text.parse().map_err(|_| {
            let right = match text.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
                Ok(ip) => SocketAddr::new(ip, 5278).to_string(),
                Err(_) => "0.0.0.0:5278\", \"[::]:5278".to_owned(),
            };
            format!("\"{text}\" is not an IP address with a port; write \"{right}\"")
        })
    }
    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

/// A setting that may be empty: `""`.
impl<T: Setting> Setting for Option<T> {
    fn read(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Text(t) | Raw::Untyped(t) if t.is_empty() => Ok(None),
            raw => T::read(raw).map(Some),
        }
    }
    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "\"\"".to_owned(), T::show)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn read(raw: &Raw) -> Result<Self, String> {
        list(raw)?.into_iter().map(|t| T::read(&Raw::Text(t))).collect()
    }
    fn show(&self) -> String {
        let items: Vec<String> = self.iter().map(Setting::show).collect();
        format!("[{}]", items.join(", "))
    }
}

impl Setting for PathBuf {
    fn read(raw: &Raw) -> Result<Self, String> {
        match text(raw, "a path in quotes")? {
            "" => Err("a path must not be empty".to_owned()),
            path => Ok(PathBuf::from(path)),
        }
    }
    fn show(&self) -> String {
        quoted(&self.display().to_string())
    }
}

/// Enums of settings whose values are words.
macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? })+) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// The word in the file.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }

        impl Setting for $name {
            fn read(raw: &Raw) -> Result<Self, String> {
                let words = [$($word),+];
                match text(raw, "one of the words in quotes")? {
                    $($word => Ok($name::$variant),)+
                    other => Err(match super::nearest(other, words) {
                        Some(word) => format!("\"{other}\" is none of {}; did you mean \"{word}\"?", words.join(", ")),
                        None => format!("\"{other}\" is none of {}", words.join(", ")),
                    }),
                }
            }
            fn show(&self) -> String {
                format!("\"{}\"", self.as_str())
            }
        }
    )+ };
}

choices! {
    /// How log lines look.
    LogFormat {
        /// For people.
        Text = "text",
        /// One object a line.
        Json = "json",
    }
    /// The least grave log lines that are written.
    Level {
        /// Errors only.
        Error = "error",
        /// And warnings.
        Warn = "warn",
        /// And what an operator reads.
        Info = "info",
        /// And what a developer reads.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
    /// Whose transitions are logged.
    Transitions {
        /// Of the peers that this node exchanges heartbeats with.
        Observed = "observed",
        /// Of all peers.
        All = "all",
        /// Of none.
        None = "none",
    }
    /// How much `/metrics` tells when the request does not say.
    Detail {
        /// The node's own families.
        Summary = "summary",
        /// And one set of series per observed peer.
        Peers = "peers",
        /// And what every node sees of every other one.
        Matrix = "matrix",
    }
}
