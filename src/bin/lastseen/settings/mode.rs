//! Who may open a file.

use super::raw::{Raw, Setting, text};

/// Permission bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode(pub(crate) u32);

impl Setting for Mode {
    fn read(raw: &Raw) -> Result<Self, String> {
        let text = text(raw, "octal digits in quotes, like \"0660\"")?;
        let is_octal = text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        let bits = u32::from_str_radix(text, 8).ok().filter(|bits| is_octal && *bits <= 0o777);
        bits.map(Mode).ok_or_else(|| format!("{text:?} is no mode; write it in octal, like \"0660\""))
    }
    fn show(&self) -> String {
        format!("\"{:04o}\"", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal() {
        for (text, bits) in [("0660", 0o660), ("600", 0o600), ("0777", 0o777)] {
            assert_eq!(Mode::read(&Raw::Text(text.into())), Ok(Mode(bits)));
        }
        assert_eq!(Mode(0o60).show(), "\"0060\"");
        for text in ["", "0o660", "+660", "0680", "1777", "rw-rw----"] {
            assert!(Mode::read(&Raw::Text(text.into())).is_err(), "{text}");
        }
        assert!(Mode::read(&Raw::Integer(660)).is_err(), "that is decimal");
    }
}
