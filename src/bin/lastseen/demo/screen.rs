//! What the demo shows: lines that stay, and on a terminal a table below them that is drawn anew.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use lastseen::proto::PeerStatus;

use super::ask::Said;
use super::board::Picture;
use super::fleet::Fleet;

/// Up to so many nodes the table has a cell for every pair.
const PAIRS: usize = 16;
/// Above that, so many nodes that are not fine are listed.
const FAULTS: usize = 12;

pub(super) struct Screen {
    live: bool,
    color: bool,
    /// Lines of the table that stand on the screen.
    drawn: usize,
    last: String,
}

impl Screen {
    pub(super) fn new() -> Screen {
        let live = io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Screen { live, color: live && !no_color, drawn: 0, last: String::new() }
    }

    /// Prints a line that stays.
    pub(super) fn say(&mut self, line: &str) {
        let mut text = self.erase();
        let _ = writeln!(text, "{line}");
        show(&text);
    }

    /// Draws the table, if this is a terminal and something has changed.
    pub(super) fn draw(&mut self, picture: &Picture, fleet: &Fleet) {
        if !self.live {
            return;
        }
        let table = self.table(picture, fleet);
        if table == self.last && self.drawn > 0 {
            return;
        }
        let mut text = self.erase();
        text.push_str(&table);
        show(&text);
        self.drawn = table.lines().count();
        self.last = table;
    }

    /// What removes the table from the screen.
    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }

    fn table(&self, picture: &Picture, fleet: &Fleet) -> String {
        if fleet.len() <= PAIRS { self.pairs(picture, fleet) } else { self.faults(picture, fleet) }
    }

    /// Who says what about whom.
    fn pairs(&self, picture: &Picture, fleet: &Fleet) -> String {
        let mut text = String::from("\nfrom \\ to");
        for subject in 0..fleet.len() {
            let _ = write!(text, "{:>4}", subject + 1);
        }
        text.push('\n');
        for (observer, row) in picture.said.iter().enumerate() {
            let _ = write!(text, "{:<9}", fleet.id(observer));
            for (subject, said) in row.iter().enumerate() {
                text.push_str("   ");
                self.cell(&mut text, observer == subject, said.as_ref());
            }
            if !picture.answers[observer] {
                text.push_str("   no answer over HTTP");
            }
            text.push('\n');
        }
        text.push_str("up .   not heard yet ?   suspected s   down D   itself =\n");
        text
    }

    fn cell(&self, text: &mut String, own: bool, said: Option<&Said>) {
        let (mark, color) = match said {
            _ if own => ('=', ""),
            None => ('?', ""),
            Some(said) => match said.status {
                PeerStatus::Healthy if said.verdict == "unknown" => ('?', ""),
                PeerStatus::Healthy => ('.', "\x1b[32m"),
                PeerStatus::Suspected => ('s', "\x1b[33m"),
                PeerStatus::Down => ('D', "\x1b[31m"),
            },
        };
        if self.color && !color.is_empty() {
            let _ = write!(text, "{color}{mark}\x1b[0m");
        } else {
            text.push(mark);
        }
    }

    /// The nodes about which not all others say the same good thing.
    fn faults(&self, picture: &Picture, fleet: &Fleet) -> String {
        let mut text = String::from("\nsubject    healthy  suspected  down  (by the others' word)\n");
        let mut fine = 0;
        let mut listed = 0;
        for subject in 0..fleet.len() {
            let mut counts = [0; PeerStatus::ALL.len()];
            for said in picture.rows(subject).filter_map(|(_, said)| said) {
                counts[said.status as usize] += 1;
            }
            let [healthy, suspected, down] = counts;
            if suspected + down == 0 {
                fine += 1;
            } else if listed < FAULTS {
                listed += 1;
                let _ = writeln!(text, "{:<9} {healthy:>8} {suspected:>10} {down:>5}", fleet.id(subject));
            }
        }
        let _ = writeln!(text, "{fine} of {} without a bad word", fleet.len());
        text
    }
}

/// A reader that has gone away changes nothing for the nodes: the demo goes on to its end.
fn show(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
