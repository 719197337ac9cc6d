use std::fs::{self, Permissions};

use super::super::{defaults, file};
use super::*;

/// The hooks of a file, or all that is wrong.
fn hooks(text: &str) -> Result<Vec<Hook>, String> {
    let mut sources = defaults();
    let mut faults = file::parse(text, |line| Source::File { path: "f".into(), line }, &mut sources);
    let hooks = read(&sources["hooks"]).map_err(|wrong| faults.extend(wrong)).unwrap_or_default();
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    if told.is_empty() { Ok(hooks) } else { Err(told.join("\n")) }
}

#[test]
fn a_hook_and_its_defaults() {
    let text = "[[hooks]]\non = [\"down\", \"quorum_lost\"]\ncommand = [\"/usr/bin/page\", \"a b\"]\n\
                [[hooks]]\nname = \"chat\"\non = [\"healthy\"]\nurl = \"http://[::1]:9/x\"\ntimeout = \"1s\"\nat_most = 1\n\
                only_with_quorum = true\nneeds = \"guard\"\nhold_on_mass_loss = false\ndamping = \"0s\"\n";
    let both = hooks(text).unwrap();
    let first = Hook {
        name: "page".into(),
        on: vec![Word::Status(lastseen::proto::PeerStatus::Down), Word::Quorum(false)],
        action: Action::Command(vec!["/usr/bin/page".into(), "a b".into()]),
        timeout: Duration::from_secs(10),
        at_most: 4,
        only_with_quorum: false,
        needs: Needs::Nothing,
        hold_on_mass_loss: true,
        damping: Duration::from_secs(300),
    };
    assert_eq!(both[0], first);
    assert_eq!((both[1].name.as_str(), both[1].at_most, both[1].only_with_quorum), ("chat", 1, true));
    assert_eq!(both[1].needs, Needs::Guard);
    let takeover =
        "[[hooks]]\non = [\"refused\", \"down\", \"left\"]\ncommand = [\"/a\"]\nneeds = \"takeover\"";
    assert_eq!(hooks(takeover).unwrap()[0].needs, Needs::Takeover);
    assert_eq!(both[1].action, Action::Post("http://[::1]:9/x".into()));
    assert_eq!(show(&both[0]), "page: down, quorum_lost");
    assert_eq!(hooks("").unwrap(), []);
}

#[test]
fn the_default_file_documents_what_there_is() {
    let example: String =
        HELP.lines().filter_map(|line| line.strip_prefix("# ")).fold(String::new(), |all, line| {
            let is_key = |key: &&str| line.strip_prefix(*key).is_some_and(|rest| rest.starts_with(" = "));
            if line == "[[hooks]]" || (KEYS.iter().any(is_key) && !line.starts_with("url")) {
                return all + line + "\n";
            }
            all
        });
    let page = "[[hooks]]\non = [\"down\"]\ncommand = [\"/usr/local/bin/page\"]";
    let (told, bare) = (hooks(&example).unwrap(), hooks(page).unwrap());
    assert_eq!(
        Hook { action: bare[0].action.clone(), ..told[0].clone() },
        bare[0],
        "the values are the defaults"
    );
    assert!(KEYS.iter().all(|key| HELP.contains(&format!("# {key} = "))));
}

#[test]
fn faults_name_line_culprit_and_what_is_right() {
    let page = "[[hooks]]\non = [\"down\"]\ncommand = [\"/bin/true\"]\n";
    for (text, told) in [
        ("[[hooks]]\ncommand = [\"/bin/true\"]", "f:1: on of a hook: it is missing"),
        ("\n[[hooks]]\non = []\ncommand = [\"/a\"]", "f:3: on of a hook: [] waits for nothing"),
        (
            "[[hooks]]\non = [\"dwon\"]\ncommand = [\"/a\"]",
            "f:2: on of a hook: there is no \"dwon\"; did you mean \"down\"?",
        ),
        ("[[hooks]]\non = [\"quorum_los\"]\ncommand = [\"/a\"]", "did you mean \"quorum_lost\"?"),
        (
            "[[hooks]]\non = [\"qqqqqqqqqq\"]\ncommand = [\"/a\"]",
            "is none of down, suspected, healthy, isolated, left",
        ),
        (
            "[[hooks]]\non = \"down\"\ncommand = [\"/a\"]",
            "f:2: on of a hook: \"down\" is not a list; write [\"down\"]",
        ),
        ("[[hooks]]\non = [\"down\"]", "f:1: a hook: command or url is missing"),
        (&format!("{page}url = \"http://a\""), "f:1: a hook: command and url exclude each other"),
        (
            &format!("{page}tiemout = \"1s\""),
            "f:4: unknown key \"tiemout\" of a hook; did you mean \"timeout\"?",
        ),
        (&format!("{page}timeout = \"0s\""), "f:4: timeout of a hook: right is more than 0s and at most 1h"),
        (&format!("{page}at_most = 0"), "f:4: at_most of a hook: 0 is out of range; right is 1 to 64"),
        ("[[hooks]]\non = [\"down\"]\ncommand = \"/bin/true\"", "is not a list; write [\"/bin/true\"]"),
        (
            "[[hooks]]\non = [\"down\"]\ncommand = [\"page\"]",
            "f:3: command of a hook: \"page\" is no absolute path",
        ),
        ("[[hooks]]\non = [\"down\"]\ncommand = [\"/a\\u0000\"]", "has a zero byte"),
        ("[[hooks]]\non = [\"down\"]\nurl = \"https://a/b\"", "write command = [\"/usr/bin/curl\", \"-sf\""),
        ("[[hooks]]\non = [\"down\"]\nurl = \"http://me:pw@a\"", "credentials do not belong"),
        ("[[hooks]]\non = [\"down\"]\nurl = \"http:///x\"", "\"http:///x\" is no address"),
        (
            "[[hooks]]\non = [\"quorum_lost\"]\nonly_with_quorum = true\ncommand = [\"/a\"]",
            "quorum_lost never comes",
        ),
        (
            "[[hooks]]\non = [\"down\", \"healthy\"]\nneeds = \"takeover\"\ncommand = [\"/a\"]",
            "f:3: needs of a hook: there is nothing to take over at \"healthy\"",
        ),
        (
            "[[hooks]]\non = [\"restart\"]\nneeds = \"takeover\"\ncommand = [\"/a\"]",
            "nothing to take over at \"restart\"",
        ),
        (
            "[[hooks]]\non = [\"down\"]\nneeds = \"quorum\"\ncommand = [\"/a\"]",
            "neither \"guard\" nor \"takeover\"",
        ),
        ("hooks = 1", "f:1: hooks are sections; write [[hooks]]"),
        ("[hooks]\non = [\"down\"]", "f:1: hooks are sections; write [[hooks]]"),
        ("[[hoks]]\non = [\"down\"]", "f:1: unknown section [[hoks]]; did you mean [[hooks]]?"),
    ] {
        let faults = hooks(text).unwrap_err();
        assert!(faults.contains(told), "{text}\n{faults}");
    }
}

#[test]
fn where_a_hook_stands_makes_no_difference() {
    let raw = |text: &str| {
        let mut sources = defaults();
        assert_eq!(file::parse(text, |line| Source::File { path: "f".into(), line }, &mut sources), []);
        sources["hooks"].0.clone()
    };
    assert_eq!(raw("[[hooks]]\non = [\"down\"]"), raw("\n\n[[hooks]]\n\non = [\"down\"]"));
    assert_ne!(raw("[[hooks]]\non = [\"down\"]"), raw("[[hooks]]\non = [\"left\"]"));
}

#[test]
fn a_program_must_be_there_and_nobody_elses_to_change() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("page");
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let told = || check_program(&program).err().unwrap_or_default();
    assert!(told().starts_with("cannot be run: No such file"), "{}", told());
    fs::write(&program, "#!/bin/sh\n").unwrap();
    mode(&program, 0o644);
    assert!(told().contains("chmod +x"), "{}", told());
    mode(&program, 0o755);
    assert_eq!(told(), "");
    mode(&program, 0o757);
    assert!(told().contains("can be changed by others; `chmod o-w"), "{}", told());
    mode(&program, 0o755);
    mode(dir.path(), 0o777);
    assert!(told().contains("can be replaced by others"), "{}", told());
    mode(dir.path(), 0o1777);
    assert_eq!(told(), "");
    assert_eq!(check_program(dir.path()).unwrap_err(), "is no regular file");
}
