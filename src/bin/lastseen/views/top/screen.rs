//! What `top` shows, and what keys do: without terminal, threads and clock.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use serde_json::Value;

use super::super::events::{event_line, gap_text};
use super::super::matrix::matrix_text;
use super::super::peers::{Choice, peers_text};
use super::super::{rows, status};
use super::News;
use crate::client::{plain, plain_text};

/// Events that are kept: as many as the daemon keeps.
const KEPT: usize = 256;
/// The longest filter.
const FILTER: usize = 64;

const HELP: &str = "\
q, Ctrl-C       end
tab, <- and ->  peers, matrix, events
up and down     scroll; page up, page down, home and end too
a               all peers, or those that are not up
/               filter peers and events by a part of their line; Esc ends it
?               this help

For one peer:   lastseen explain PEER
";

/// What is in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tab {
    Peers,
    Matrix,
    Events,
}

const TABS: [(Tab, &str); 3] = [(Tab::Peers, "peers"), (Tab::Matrix, "matrix"), (Tab::Events, "events")];

/// All that is shown.
pub(super) struct Screen {
    http: String,
    colours: bool,
    tab: Tab,
    all: bool,
    help: bool,
    filter: String,
    /// Keys go to the filter.
    typing: bool,
    /// Lines above the first that is shown, and how many there may be at most.
    scroll: usize,
    furthest: usize,
    page: usize,
    status: Value,
    peers: Value,
    matrix: Option<Value>,
    /// The newest first, each as its line.
    events: VecDeque<String>,
    /// Why what is shown is old.
    trouble: Option<String>,
    /// What happened to the daemon, until a key is pressed.
    notice: Option<String>,
}

impl Screen {
    pub(super) fn new(http: String, colours: bool) -> Screen {
        Screen {
            http,
            colours,
            tab: Tab::Peers,
            all: false,
            help: false,
            filter: String::new(),
            typing: false,
            scroll: 0,
            furthest: 0,
            page: 1,
            status: Value::Null,
            peers: Value::Null,
            matrix: None,
            events: VecDeque::new(),
            trouble: None,
            notice: None,
        }
    }

    /// Takes what came from outside.
    pub(super) fn take(&mut self, news: News) {
        match news {
            News::Picture(status, peers, matrix) => {
                let (before, now) = (&self.status["instance"], &status["instance"]);
                if !before.is_null() && before != now {
                    self.notice = Some(format!("the daemon at {} was started anew", self.http));
                } else if self.trouble.is_some() {
                    self.notice = Some(format!("the daemon at {} answers again", self.http));
                }
                (self.status, self.peers, self.trouble) = (status, peers, None);
                self.matrix = matrix.or(self.matrix.take());
            }
            News::Event(event, gap) => {
                let line = if gap { format!("... {}", gap_text(&event)) } else { event_line(&event) };
                self.events.push_front(line.trim_end().to_owned());
                self.events.truncate(KEPT);
            }
            News::Trouble(why) => self.trouble = Some(why),
            News::End => {}
        }
    }

    pub(super) fn shows_matrix(&self) -> bool {
        self.tab == Tab::Matrix
    }

    /// What a key does. False: it ends.
    pub(super) fn key(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        self.notice = None;
        match key.code {
            KeyCode::Char('c') if control => return false,
            KeyCode::Esc => (self.typing, self.help, self.filter) = (false, false, String::new()),
            KeyCode::Enter => self.typing = false,
            KeyCode::Backspace if self.typing => drop(self.filter.pop()),
            KeyCode::Char(c) if self.typing && !control => {
                if self.filter.len() < FILTER {
                    self.filter.push(c);
                }
                self.scroll = 0;
            }
            KeyCode::Char('q') => return false,
            KeyCode::Char('?') => self.help = !self.help,
            KeyCode::Char('/') => (self.typing, self.filter) = (true, String::new()),
            KeyCode::Char('a') => self.all = !self.all,
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(TABS.len() - 1),
            KeyCode::Up => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::Down => self.scroll = self.furthest.min(self.scroll + 1),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(self.page),
            KeyCode::PageDown => self.scroll = self.furthest.min(self.scroll + self.page),
            KeyCode::Home => self.scroll = 0,
            KeyCode::End => self.scroll = self.furthest,
            _ => {}
        }
        true
    }

    fn turn(&mut self, by: usize) {
        let at = TABS.iter().position(|(tab, _)| *tab == self.tab).unwrap_or(0);
        (self.tab, self.scroll, self.help) = (TABS[(at + by) % TABS.len()].0, 0, false);
    }

    /// Draws all of it; what does not fit is scrolled to.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let head = painted(&status::head(&self.status, &self.peers, self.colours));
        let height = u16::try_from(head.len()).unwrap_or(u16::MAX);
        let parts =
            [Constraint::Max(height), Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)];
        let [top, tabs, body, foot] = Layout::vertical(parts).areas(frame.area());
        frame.render_widget(Paragraph::new(head), top);
        frame.render_widget(self.tabs(), tabs);
        self.draw_body(frame, body);
        frame.render_widget(self.foot(), foot);
    }

    fn draw_body(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let lines = painted(&self.body());
        self.page = usize::from(area.height).max(1);
        self.furthest = lines.len().saturating_sub(self.page);
        self.scroll = self.scroll.min(self.furthest);
        let shown: Vec<Line<'_>> = lines.into_iter().skip(self.scroll).take(self.page).collect();
        frame.render_widget(Paragraph::new(shown), area);
    }

    fn body(&self) -> String {
        if self.help {
            return HELP.to_owned();
        }
        match self.tab {
            Tab::Peers => {
                let choice = if self.all { Choice::All } else { Choice::NotUp };
                peers_text(&self.chosen(), choice, self.colours)
            }
            Tab::Matrix => match &self.matrix {
                Some(matrix) => matrix_text(matrix, self.colours),
                None => "asked for ...".to_owned(),
            },
            Tab::Events => {
                let chosen = self.events.iter().filter(|line| line.contains(&self.filter));
                chosen.fold(String::new(), |text, line| text + line + "\n")
            }
        }
    }

    /// The peers of which something that is shown has the filter in it.
    fn chosen(&self) -> Value {
        if self.filter.is_empty() {
            return self.peers.clone();
        }
        let is_chosen = |peer: &&Value| {
            ["server_id", "status", "verdict", "why"]
                .iter()
                .any(|key| plain(&peer[*key]).contains(&self.filter))
        };
        let chosen: Vec<&Value> = rows(&self.peers).filter(is_chosen).collect();
        serde_json::json!({ "total": chosen.len(), "peers": chosen })
    }

    fn tabs(&self) -> Line<'static> {
        let name = |(tab, name): (Tab, &str)| {
            let style =
                if tab == self.tab { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
            [Span::styled(format!(" {name} "), style), Span::raw(" ")]
        };
        TABS.into_iter().flat_map(name).collect()
    }

    /// What is wrong, else what the keys are.
    fn foot(&self) -> Line<'static> {
        let paint = |colour| if self.colours { Style::new().fg(colour) } else { Style::new() };
        if let Some(why) = &self.trouble {
            return Line::styled(format!("OLD: {}", plain_text(why)), paint(Color::Red));
        }
        if let Some(notice) = &self.notice {
            return Line::styled(notice.clone(), paint(Color::Yellow));
        }
        if self.typing || !self.filter.is_empty() {
            let cursor = if self.typing { "_" } else { "   (Esc ends the filter)" };
            return Line::raw(format!("/{}{cursor}", self.filter));
        }
        Line::raw("q end   tab next   a all peers   / filter   arrows scroll   ? help")
    }
}

/// Text with the colours of SGR as the other commands print it, in lines.
fn painted(text: &str) -> Vec<Line<'static>> {
    let line = |line: &str| {
        let mut parts = line.split("\x1b[");
        let first = Span::raw(parts.next().unwrap_or_default().to_owned());
        let rest = parts.map(|part| {
            let (code, text) = part.split_once('m').unwrap_or(("", part));
            Span::styled(text.to_owned(), style(code))
        });
        std::iter::once(first).chain(rest).collect()
    };
    text.lines().map(line).collect()
}

fn style(code: &str) -> Style {
    match code {
        "1" => Style::new().add_modifier(Modifier::BOLD),
        "31" => Style::new().fg(Color::Red),
        "32" => Style::new().fg(Color::Green),
        "33" => Style::new().fg(Color::Yellow),
        "90" => Style::new().fg(Color::DarkGray),
        _ => Style::new(),
    }
}

#[cfg(test)]
mod tests;
