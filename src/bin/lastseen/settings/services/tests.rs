use super::super::{defaults, file};
use super::*;

/// The services of a file, or all that is wrong.
fn services(text: &str) -> Result<Vec<Offered>, String> {
    let mut sources = defaults();
    let mut faults = file::parse(text, |line| Source::File { path: "f".into(), line }, &mut sources);
    let all = read(&sources["services"]).map_err(|wrong| faults.extend(wrong)).unwrap_or_default();
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    if told.is_empty() { Ok(all) } else { Err(told.join("\n")) }
}

const WEB: &str = "[[services]]\nname = \"web\"\naddress = \"10.0.0.7:80\"\n";

#[test]
fn a_service_and_its_defaults() {
    let db = "[[services]]\nname = \"db\"\naddress = \"db.example:1\"\nweight = 255\nversion = 9\npayload = \"ä\"\n";
    let both = services(&format!("{WEB}check_tcp = \"[::1]:80\"\n{db}")).unwrap();
    let probe = Probe::Tcp(Local { name: "[::1]:80".into(), addresses: vec!["[::1]:80".parse().unwrap()] });
    let (interval, timeout) = (Duration::from_secs(10), Duration::from_secs(2));
    let web = Offered {
        service: Service::new("web", "10.0.0.7:80").unwrap(),
        check: Some(Check { probe, interval, timeout, fall: 2, rise: 1 }),
    };
    assert_eq!(both[0], web);
    let Service { weight, version, payload, .. } = &both[1].service;
    assert_eq!((*weight, *version, &**payload, &both[1].check), (255, 9, "ä".as_bytes(), &None));
    let told = "web: 10.0.0.7:80, checked by tcp [::1]:80 every 10s";
    assert_eq!([show(&both[0]), show(&both[1])], [told.to_owned(), "db: db.example:1".to_owned()]);
    assert_eq!(services("").unwrap(), []);
}

#[test]
fn checks_ask_this_machine_and_no_resolver() {
    let probe = |line: &str| services(&format!("{WEB}{line}")).unwrap().remove(0).check.unwrap().probe;
    let http = |line: &str| match probe(line) {
        Probe::Http(to, path) => (to.name, to.addresses, path),
        other => panic!("{other}"),
    };
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let both = vec![at("127.0.0.1:80"), at("[::1]:80")];
    assert_eq!(http("check_http = \"http://localhost\""), ("localhost".into(), both, "/".into()));
    assert_eq!(
        http("check_http = \"http://127.0.0.1:8080/health?full#part\""),
        ("127.0.0.1:8080".into(), vec![at("127.0.0.1:8080")], "/health?full".into())
    );
    assert_eq!(http("check_http = \"http://[::1]?x\"").2, "/?x");
    assert!(matches!(probe("check_tcp = \"localhost:1\""), Probe::Tcp(to) if to.addresses.len() == 2));
    assert_eq!(probe("check_command = [\"/bin/ok\", \"a b\"]").to_string(), "/bin/ok");
}

#[test]
fn the_default_file_documents_what_there_is() {
    let shown = |key: &str| HELP.contains(&format!("# {key} = "));
    assert!(KEYS.iter().all(|key| shown(key)), "{HELP}");
    let values: String = HELP
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| {
            *line == "[[services]]" || KEYS.iter().any(|key| line.starts_with(&format!("{key} = ")))
        })
        .filter(|line| !line.starts_with("check_http") && !line.starts_with("check_command"))
        .map(|line| format!("{line}\n"))
        .collect();
    let told = services(&values).unwrap();
    assert_eq!(
        told,
        services(&format!("{WEB}check_tcp = \"127.0.0.1:8080\"")).unwrap(),
        "the values are the defaults"
    );
}

#[test]
fn faults_name_line_culprit_and_what_is_right() {
    let long = format!("payload = \"{}\"\n", "x".repeat(1024));
    for (more, told) in [
        ("nmae = \"x\"", "f:4: unknown key \"nmae\" of a service; did you mean \"name\"?"),
        ("check_intervall = \"1s\"", "did you mean \"check_interval\"?"),
        ("weight = 0", "f:4: weight of a service: 0 is out of range; right is 1 to 255"),
        ("weight = 256", "256 is out of range"),
        ("version = -1", "-1 is not a whole number"),
        ("payload = 1", "1 is not a string"),
        ("check_rise = 2", "f:1: a service: check_rise without a check; add one of check_tcp"),
        (
            "check_tcp = \"127.0.0.1:1\"\ncheck_http = \"http://127.0.0.1\"",
            "f:1: a service: check_tcp and check_http exclude each other",
        ),
        ("check_tcp = \"db.example:1\"", "no names are looked up, write \"127.0.0.1:8080\""),
        ("check_tcp = \"127.0.0.1\"", "f:4: check_tcp of a service: \"127.0.0.1\" is no address with a port"),
        ("check_tcp = \"127.0.0.1:0\"", "is no address with a port"),
        ("check_http = \"http://a/b\"", "write \"http://127.0.0.1:8080/health\""),
        ("check_http = \"http://a@127.0.0.1/\"", "is no address of this machine"),
        ("check_http = \"http://127.0.0.1/a b\"", "is no address of this machine"),
        (
            "check_http = \"https://127.0.0.1/\"",
            "check_command = [\"/usr/bin/curl\", \"-sf\", \"https://127.0.0.1/\"]",
        ),
        ("check_command = [\"curl\"]", "\"curl\" is no absolute path"),
        (
            "check_tcp = \"127.0.0.1:1\"\ncheck_interval = \"1ms\"",
            "1ms\" is out of range; right is \"100ms\" to 1h",
        ),
        (
            "check_tcp = \"127.0.0.1:1\"\ncheck_timeout = \"0s\"",
            "check_timeout of a service: \"0s\" is out of range",
        ),
        ("check_tcp = \"127.0.0.1:1\"\ncheck_fall = 0", "0 is out of range; right is 1 to 100"),
        (&format!("\n{WEB}"), "f:5: the service web is there twice; it stands at f:1 too"),
        (&long, "f:1: the services have 10"),
    ] {
        let faults = services(&format!("{WEB}{more}")).unwrap_err();
        assert!(faults.contains(told), "{more}\n{faults}");
    }
    for (text, told) in [
        ("[[services]]\naddress = \"a:1\"", "f:1: name of a service: it is missing"),
        ("[[services]]\nname = \"a b\"\naddress = \"a:1\"", "\"a b\" is no name of a service"),
        ("[[services]]\nname = \"a\"", "f:1: address of a service: it is missing"),
        ("[[services]]\nname = \"a\"\naddress = \"a\"", "\"a\" is no address of a service; HOST:PORT"),
        ("[services]\nname = \"a\"", "f:1: services are sections; write [[services]]"),
        ("[[service]]\nname = \"a\"", "f:1: unknown section [[service]]; did you mean [[services]]?"),
    ] {
        let faults = services(text).unwrap_err();
        assert!(faults.contains(told), "{text}\n{faults}");
    }
}

#[test]
fn a_program_that_is_not_there_is_told() {
    let all = services(&format!("{WEB}check_command = [\"/no/such\"]")).unwrap();
    let faults = check_programs(&all, &Source::Default).unwrap_err();
    let told = "the check of the service web: /no/such cannot be run: No such file";
    assert!(faults[0].to_string().contains(told), "{}", faults[0]);
}
