use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::json;

use super::super::super::tests::three_peers;
use super::*;

fn status(instance: &str) -> Value {
    json!({"server_id": "web-2", "cluster": "prod", "version": "0.1.0", "uptime_seconds": 100_000.0, "secure": true,
        "key": "1f", "self_health": "ok", "is_quorum_available": true, "proven_peers": 3, "total_peers": 4,
        "quorum_needed": 3, "is_degraded": true, "instance": instance})
}

fn event(peer: &str) -> News {
    let event = json!({"time": "T", "type": "status", "observer": "web-2", "peer": peer, "from": "healthy", "to": "down",
        "why": "silent", "id": "ab-1"});
    News::Event(event, false)
}

fn screen() -> Screen {
    let mut screen = Screen::new("http://127.0.0.1:5279".into(), false);
    screen.take(News::Picture(status("ab"), three_peers(), None));
    screen
}

/// The lines of a terminal of this size.
fn drawn(screen: &mut Screen, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    let cells = terminal.backend().buffer().content();
    let line = |row: &[ratatui::buffer::Cell]| {
        row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned()
    };
    cells.chunks(usize::from(width)).map(line).collect()
}

fn press(screen: &mut Screen, keys: &str) -> bool {
    keys.chars().all(|c| screen.key(KeyEvent::from(KeyCode::Char(c))))
}

#[test]
fn the_peers_that_are_not_up_at_80_by_24() {
    let lines = drawn(&mut screen(), 80, 24);
    let expected = "\
web-2 of prod     lastseen 0.1.0   up 27 h 46 min   key 1f   self ok
QUORUM    yes     3 of 4 proven, 3 needed
DEGRADED  yes     1 down, 1 one_way
 peers   matrix   events
PEER       STATUS   VERDICT  FOR   RTT     WHY
web-7      down     down     42 s  0.4 ms  10 heartbeats missed in a row (Down
                                           at 5), last proof of life 42 s ago
web-\u{fffd}[31m  healthy  one_way  42 s  0.4 ms  does not\u{fffd}hear me

1 of 3 peers are up (--all shows them)";
    assert_eq!(lines[..10].join("\n"), expected);
    assert!(lines[10..23].iter().all(String::is_empty), "{lines:#?}");
    assert_eq!(lines[23], "q end   tab next   a all peers   / filter   arrows scroll   ? help");
}

#[test]
fn keys_choose_what_is_shown() {
    let mut screen = screen();
    assert!(press(&mut screen, "a"));
    assert!(drawn(&mut screen, 80, 24).iter().any(|line| line.starts_with("web-1 ")));
    assert!(press(&mut screen, "/web-7"));
    let lines = drawn(&mut screen, 80, 24);
    assert!(!lines.iter().any(|line| line.starts_with("web-1 ")), "{lines:#?}");
    assert!(lines.contains(&"1 peers, 0 up".to_owned()), "{lines:#?}");
    assert_eq!(lines[23], "/web-7_");
    assert!(press(&mut screen, "q"), "it goes to the filter");
    screen.key(KeyEvent::from(KeyCode::Backspace));
    screen.key(KeyEvent::from(KeyCode::Enter));
    assert_eq!(drawn(&mut screen, 80, 24)[23], "/web-7   (Esc ends the filter)");
    screen.key(KeyEvent::from(KeyCode::Esc));
    assert!(drawn(&mut screen, 80, 24)[23].starts_with("q end"));
    assert!(press(&mut screen, "?"));
    assert!(drawn(&mut screen, 80, 24).iter().any(|line| line.starts_with("q, Ctrl-C")));
    assert!(!press(&mut screen, "q"));
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(!screen.key(control_c));
}

#[test]
fn the_matrix_is_asked_for_and_shown() {
    let mut screen = screen();
    assert!(!screen.shows_matrix());
    screen.key(KeyEvent::from(KeyCode::Tab));
    assert!(screen.shows_matrix());
    assert_eq!(drawn(&mut screen, 80, 24)[4], "asked for ...");
    let matrix = json!({"nodes": ["a", "b"], "rows": {
        "a": {"age_seconds": 0.4, "peers": {"b": {"status": "down", "link": "down"}}}, "b": {"age_seconds": null, "peers": {}}}});
    screen.take(News::Picture(status("ab"), three_peers(), Some(matrix)));
    let lines = drawn(&mut screen, 80, 24);
    assert_eq!(
        lines[4..7],
        ["from \\ to  a  b   row age", "a          =  D   0.4 s", "b          ?  =   none"]
    );
    screen.take(News::Picture(status("ab"), three_peers(), None));
    assert_eq!(drawn(&mut screen, 80, 24)[4..], lines[4..], "it stays until there is another one");
}

#[test]
fn events_come_in_at_the_top_and_are_scrolled_through() {
    let mut screen = screen();
    for peer in 0..300 {
        screen.take(event(&format!("p{peer}")));
    }
    screen.take(News::Event(json!({"lost": 7}), true));
    screen.key(KeyEvent::from(KeyCode::BackTab));
    let lines = drawn(&mut screen, 80, 24);
    assert_eq!(lines[4], "... 7 events were lost");
    assert_eq!(lines[5], "T  status     p299              healthy -> down: silent");
    screen.key(KeyEvent::from(KeyCode::Down));
    assert!(drawn(&mut screen, 80, 24)[4].contains("p299"));
    screen.key(KeyEvent::from(KeyCode::End));
    let lines = drawn(&mut screen, 80, 24);
    assert!(lines[22].contains(" p45 "), "of {KEPT} the oldest: {lines:#?}");
    screen.key(KeyEvent::from(KeyCode::PageUp));
    assert!(drawn(&mut screen, 80, 24)[22].contains(" p64 "));
    assert!(press(&mut screen, "/p12"));
    let lines = drawn(&mut screen, 80, 24);
    assert!(
        lines[4].contains(" p129 ") && lines[13].contains(" p120 ") && lines[14].is_empty(),
        "{lines:#?}"
    );
}

#[test]
fn a_daemon_that_goes_and_comes_back_is_told() {
    let mut screen = screen();
    let foot = |screen: &mut Screen| drawn(screen, 80, 24)[23].clone();
    screen.take(News::Trouble("no daemon answers at x\u{1b}[2J".into()));
    assert_eq!(foot(&mut screen), "OLD: no daemon answers at x\u{fffd}[2J");
    screen.take(News::Picture(status("ab"), three_peers(), None));
    assert_eq!(foot(&mut screen), "the daemon at http://127.0.0.1:5279 answers again");
    screen.take(News::Picture(status("cd"), three_peers(), None));
    assert_eq!(foot(&mut screen), "the daemon at http://127.0.0.1:5279 was started anew");
    press(&mut screen, "a");
    assert!(foot(&mut screen).starts_with("q end"));
}

#[test]
fn any_size_will_do() {
    let mut screen = screen();
    screen.colours = true;
    for (width, height) in [(1, 1), (10, 3), (80, 5), (200, 60), (80, 24)] {
        for key in [KeyCode::Tab, KeyCode::End, KeyCode::Char('?'), KeyCode::Char('?')] {
            screen.key(KeyEvent::from(key));
            drawn(&mut screen, width, height);
        }
    }
}

#[test]
fn colours_of_the_other_commands_are_the_terminals() {
    let [line] = &painted("a \x1b[31mred\x1b[0m b")[..] else { panic!("one line") };
    let spans: Vec<(&str, Style)> = line.spans.iter().map(|span| (&*span.content, span.style)).collect();
    assert_eq!(spans, [("a ", Style::new()), ("red", Style::new().fg(Color::Red)), (" b", Style::new())]);
}
