//! Shares as people write them: `20%`, or `0.2`.

use super::raw::{Raw, Setting, text};

/// A share, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Share(pub(crate) f64);

impl Setting for Share {
    fn read(raw: &Raw) -> Result<Self, String> {
        if let Raw::Integer(n) = raw {
            return Err(format!("{n} is not a share; write \"{n}%\""));
        }
        let text = text(raw, "a share in quotes, like \"20%\"")?;
        let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |n| (n, 100.0));
        match number.trim().parse::<f64>() {
            Ok(value) if (0.0..=scale).contains(&value) => Ok(Share(value / scale)),
            Ok(value) if scale == 1.0 && value <= 100.0 => {
                Err(format!("\"{text}\" is not a share; write \"{value}%\""))
            }
            _ => Err(format!("\"{text}\" is not a share; write 0% to 100%, like \"20%\"")),
        }
    }

    fn show(&self) -> String {
        // Rounded, since 0.29 · 100 is a little less than 29 in binary; but not where that is another share.
        let percent = (self.0 * 1e8).round() / 1e6;
        if percent / 100.0 == self.0 { format!("\"{percent}%\"") } else { format!("\"{}\"", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_shown() {
        for (written, shown) in [
            ("20%", "\"20%\""),
            ("0.29", "\"29%\""),
            ("12.5 %", "\"12.5%\""),
            ("1", "\"100%\""),
            ("0.000000001", "\"0.000000001\""),
        ] {
            let share = Share::read(&Raw::Text(written.into())).unwrap();
            assert_eq!(share.show(), shown, "{written}");
            assert_eq!(Share::read(&Raw::Untyped(shown.trim_matches('"').into())), Ok(share), "{written}");
        }
    }

    #[test]
    fn what_is_no_share_is_told_what_would_be_right() {
        for (raw, told) in [
            (Raw::Integer(20), "20 is not a share; write \"20%\""),
            (Raw::Text("20".into()), "\"20\" is not a share; write \"20%\""),
            (Raw::Text("120%".into()), "\"120%\" is not a share; write 0% to 100%"),
            (Raw::Text("-1%".into()), "write 0% to 100%"),
            (Raw::Text("many".into()), "write 0% to 100%"),
            (Raw::Flag(true), "true is not a string; write a share in quotes, like \"20%\""),
        ] {
            let why = Share::read(&raw).unwrap_err();
            assert!(why.contains(told), "{raw}: {why}");
        }
    }
}
