//! `lastseen top`: the terminal's own view, which goes on by itself.

mod screen;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event as Input, KeyEventKind};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::{REDRAW, colours};
use crate::client::{self, ClientError};
use crate::{args, exit};
use screen::Screen;

/// A key or news are shown within this time.
const LOOK: Duration = Duration::from_millis(100);
/// A daemon that does not answer for so long is in trouble, and that is said.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// News that may wait to be shown; who brings more waits.
const NEWS: usize = 64;

/// What reaches the screen from outside.
enum News {
    /// `/api/v1/status`, `/peers`, and `/matrix` if that is looked at.
    Picture(Value, Value, Option<Value>),
    /// An event, or a gap among them.
    Event(Value, bool),
    /// The daemon does not answer: why.
    Trouble(String),
    /// A signal asks for the end.
    End,
}

/// Shows the daemon's picture until a key or a signal ends it.
pub(crate) fn run_top(args: &args::Top) -> ExitCode {
    if !io::stdout().is_terminal() {
        exit::complain("top needs a terminal; `lastseen status --watch` goes on without one");
        return ExitCode::from(exit::USAGE);
    }
    let http = args.daemon.http.clone();
    let (status, peers) = match picture(&http) {
        Ok(both) => both,
        // Before the terminal is taken, so that it stays readable.
        Err(error) => return error.report(),
    };
    let (sender, news) = sync_channel(NEWS);
    let wants_matrix = Arc::new(AtomicBool::new(false));
    let mut screen = Screen::new(http.clone(), colours());
    screen.take(News::Picture(status, peers, None));
    end_at_signals(sender.clone());
    let (base, told) = (http.clone(), sender.clone());
    std::thread::spawn(move || follow(&base, &told));
    let wanted = Arc::clone(&wants_matrix);
    std::thread::spawn(move || ask(&http, &wanted, &sender));
    let mut terminal = match ratatui::try_init() {
        Ok(terminal) => terminal,
        Err(e) => return exit::fail(&format!("cannot use this terminal: {e}")),
    };
    // A panic gives the terminal back as well: `try_init` saw to that.
    let ended = live(&mut terminal, &mut screen, &news, &wants_matrix);
    ratatui::restore();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => exit::fail(&format!("cannot use this terminal: {e}")),
    }
}

fn live(
    terminal: &mut DefaultTerminal,
    screen: &mut Screen,
    news: &Receiver<News>,
    wants_matrix: &AtomicBool,
) -> io::Result<()> {
    loop {
        terminal.draw(|frame| screen.draw(frame))?;
        wants_matrix.store(screen.shows_matrix(), Ordering::Relaxed);
        let mut changed = false;
        while !changed {
            if event::poll(LOOK)? {
                changed = true;
                match event::read()? {
                    Input::Key(key) if key.kind == KeyEventKind::Press && !screen.key(key) => return Ok(()),
                    _ => {}
                }
            }
            for news in news.try_iter() {
                if matches!(news, News::End) {
                    return Ok(());
                }
                screen.take(news);
                changed = true;
            }
        }
    }
}

fn picture(http: &str) -> Result<(Value, Value), ClientError> {
    let status = client::get(http, "/api/v1/status", ANSWERS_WITHIN)?;
    Ok((status, client::get(http, "/api/v1/peers", ANSWERS_WITHIN)?))
}

/// Asks again and again, until nobody is interested.
fn ask(http: &str, wants_matrix: &AtomicBool, news: &SyncSender<News>) {
    let whole = || {
        let (status, peers) = picture(http)?;
        let matrix = wants_matrix.load(Ordering::Relaxed);
        let matrix = matrix.then(|| client::get(http, "/api/v1/matrix?edges=all", ANSWERS_WITHIN));
        Ok(News::Picture(status, peers, matrix.transpose()?))
    };
    while news.send(whole().unwrap_or_else(|error: ClientError| News::Trouble(error.text()))).is_ok() {
        std::thread::sleep(REDRAW);
    }
}

/// Follows the events, and goes on where it was when the stream ends.
fn follow(http: &str, news: &SyncSender<News>) {
    let (mut since, mut wanted) = ("0".to_owned(), true);
    while wanted {
        // What is wrong with the daemon, who asks for the picture says.
        let _ = client::events(http, &format!("/api/v1/events?since={since}"), |data, gap| {
            let event: Value = serde_json::from_str(data).unwrap_or_default();
            if let Some(id) = event["id"].as_str() {
                id.clone_into(&mut since);
            }
            wanted = news.send(News::Event(event, gap)).is_ok();
            wanted
        });
        std::thread::sleep(REDRAW);
    }
}

/// SIGTERM and SIGHUP end it in order, so that the terminal is given back.
fn end_at_signals(news: SyncSender<News>) {
    std::thread::spawn(move || -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (mut terminate, mut hang_up) =
                (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
            // It may have ended already.
            let _ = news.send(News::End);
            Ok(())
        })
    });
}
