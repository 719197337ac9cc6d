//! Durations as people write them: `500ms`, `1s`, `10m`, `1h30m`.

use std::time::Duration;

/// Unit, its other spellings (only to say what would be right), and its length in nanoseconds.
const UNITS: [(&str, &[&str], u64); 6] = [
    ("us", &["µs", "usec", "microsecond", "microseconds"], 1_000),
    ("ms", &["msec", "msecs", "milli", "millis", "millisecond", "milliseconds"], 1_000_000),
    ("s", &["sec", "secs", "second", "seconds"], 1_000_000_000),
    ("m", &["min", "mins", "minute", "minutes"], 60_000_000_000),
    ("h", &["hr", "hrs", "hour", "hours"], 3_600_000_000_000),
    ("d", &["day", "days"], 86_400_000_000_000),
];

const LONGEST: f64 = 366.0 * 86_400_000_000_000.0;

/// Parses `text`: numbers each with a unit, without spaces, at most a year.
///
/// # Errors
/// What is wrong and what would be right.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    if let Some(d) = read(text, false) {
        return Ok(d);
    }
    Err(match read(text, true) {
        Some(d) => format!("\"{text}\" is not a duration; write \"{}\"", show(d)),
        None => format!(
            "\"{text}\" is not a duration; write a number and a unit, like \"500ms\", \"1s\", \"10m\" or \"1h\""
        ),
    })
}

/// Reads a duration; when `lenient`, spaces, capitals, long names of units and a number without a unit pass too.
fn read(text: &str, lenient: bool) -> Option<Duration> {
    let lower = text.to_lowercase();
    let mut rest = if lenient { lower.trim() } else { text };
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        if lenient {
            rest = rest.trim_start();
        }
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        total += number * unit(&rest[..letters], lenient)? as f64;
        rest = &rest[letters..];
        if lenient {
            rest = rest.trim_start();
        }
    }
    // Whole microseconds, as the core counts; f64 holds a year of them exactly.
    (total <= LONGEST).then(|| Duration::from_micros((total / 1e3).round() as u64))
}

fn unit(name: &str, lenient: bool) -> Option<u64> {
    if lenient && name.is_empty() {
        return Some(1_000_000_000);
    }
    UNITS.iter().find(|(u, others, _)| *u == name || (lenient && others.contains(&name))).map(|u| u.2)
}

/// The shortest text that [`parse`] reads as `d`.
pub(crate) fn show(d: Duration) -> String {
    let nanos = u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    if nanos == 0 {
        return "0s".to_owned();
    }
    let (name, _, length) = UNITS.iter().rev().find(|u| nanos % u.2 == 0).unwrap_or(&UNITS[0]);
    format!("{}{name}", nanos / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_shows() {
        for text in ["1us", "500ms", "1s", "90s", "10m", "1h", "1d"] {
            assert_eq!(show(parse(text).unwrap()), text);
        }
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("0.5s"), Ok(Duration::from_millis(500)));
        assert_eq!(show(Duration::ZERO), "0s");
    }

    #[test]
    fn names_what_would_be_right() {
        for (wrong, right) in
            [("1 sec", "1s"), ("10", "10s"), ("5 Minutes", "5m"), ("250 ms", "250ms"), (" 1s", "1s")]
        {
            assert_eq!(parse(wrong), Err(format!("\"{wrong}\" is not a duration; write \"{right}\"")));
        }
        for wrong in ["", "s", "-1s", "1s s", "soon", "1.2.3s", "99999d", "1e3s", "NaNs"] {
            assert!(parse(wrong).unwrap_err().contains("like \"500ms\", \"1s\""), "{wrong}");
        }
    }
}
