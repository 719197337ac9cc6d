//! What an operator installs: the Debian package and the unit in it. Nothing is installed here, and no service manager
//! is started.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::confined::tool;
use crate::keys::make_key;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PROGRAM: &str = env!("CARGO_BIN_EXE_lastseen");
const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/systemd/lastseen.service");
/// Of 10, as `systemd-analyze security` counts: an ordinary service has 9.6.
const MOST_EXPOSED: f64 = 1.5;

/// All that a program says, on both ways; whether it succeeds is of no interest.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}; this test needs it"));
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The package of this program, unpacked.
struct Package {
    directory: TempDir,
    file: String,
}

impl Package {
    fn build() -> Package {
        let directory = tempfile::tempdir().unwrap();
        tool(&format!("{ROOT}/deploy/package-files.sh"), &[PROGRAM], "");
        let file = directory.path().join("lastseen.deb").to_str().unwrap().to_owned();
        let manifest = format!("{ROOT}/Cargo.toml");
        // The program is there: that of the tests, without its debug symbols.
        let how = ["--no-build", "--profile", "dev", "--strip", "--fast", "--locked", "--output", &file];
        tool("cargo", &[&["deb", "--manifest-path", &manifest], &how[..]].concat(), "");
        tool("dpkg-deb", &["--extract", &file, directory.path().join("root").to_str().unwrap()], "");
        Package { directory, file }
    }

    fn path(&self, path: &str) -> String {
        self.directory.path().join("root").join(path).to_str().unwrap().to_owned()
    }
}

#[test]
#[ignore = "needs cargo-deb, lintian, mandoc"]
fn the_package_is_whole_and_runs_from_where_it_is_unpacked() {
    let package = Package::build();
    let control = tool("dpkg-deb", &["--info", &package.file], "");
    for line in ["Package: lastseen", "Section: net", "Depends: libc6", "Architecture: "] {
        assert!(control.contains(line), "{line} in {control}");
    }
    let conffiles = tool("dpkg-deb", &["--info", &package.file, "conffiles"], "");
    assert_eq!(conffiles.trim(), "/etc/lastseen/lastseen.toml");
    // Nothing is started before it is configured.
    let installed = tool("dpkg-deb", &["--info", &package.file, "postinst"], "");
    let restarts = installed.contains("deb-systemd-invoke try-restart");
    assert!(
        restarts && !installed.contains("invoke start") && !installed.contains("action=start"),
        "{installed}"
    );

    let version = tool(&package.path("usr/bin/lastseen"), &["--version"], "");
    assert_eq!(version, concat!("lastseen ", env!("CARGO_PKG_VERSION"), "\n"));
    for (path, what) in [
        ("usr/share/bash-completion/completions/lastseen", "_lastseen()"),
        ("usr/share/zsh/vendor-completions/_lastseen", "#compdef lastseen"),
        ("usr/share/fish/vendor_completions.d/lastseen.fish", "complete -c lastseen"),
    ] {
        assert!(fs::read_to_string(package.path(path)).unwrap().contains(what), "{path}");
    }
    let unit = fs::read_to_string(package.path("usr/lib/systemd/system/lastseen.service")).unwrap();
    assert_eq!(unit, fs::read_to_string(UNIT).unwrap());

    let complaints = said("lintian", &["--fail-on", "error", &package.file]);
    assert!(!complaints.lines().any(|line| line.starts_with("E:")), "{complaints}");
    println!("{} bytes\n{complaints}", fs::metadata(&package.file).unwrap().len());
}

#[test]
#[ignore = "needs mandoc and man"]
fn the_manual_is_well_formed() {
    let directory = tempfile::tempdir().unwrap();
    tool(PROGRAM, &["man", directory.path().to_str().unwrap()], "");
    let pages: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(pages.len() > 15, "{pages:?}");
    for page in &pages {
        let page = page.to_str().unwrap();
        let complaints = said("mandoc", &["-T", "lint", "-W", "error", page]);
        assert_eq!(complaints, "", "{page}");
        let shown = said("man", &["--warnings", "--local-file", page]);
        assert!(shown.contains("NAME") && !shown.contains("warning:"), "{page}: {shown}");
    }
}

/// The unit as systemd reads it, with the program where it is.
fn unit(directory: &Path) -> String {
    let unit = fs::read_to_string(UNIT).unwrap().replace("/usr/bin/lastseen", PROGRAM);
    let path = directory.join("lastseen.service");
    fs::write(&path, unit).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
#[ignore = "needs systemd-analyze"]
fn the_unit_is_clean_and_confined() {
    let directory = tempfile::tempdir().unwrap();
    let unit = unit(directory.path());
    // It succeeds with keys that it does not know: what counts is that it says nothing.
    assert_eq!(said("systemd-analyze", &["verify", "--man=no", &unit]), "");
    let told = tool("systemd-analyze", &["security", "--offline=true", "--no-pager", &unit], "");
    let overall = told.lines().find(|line| line.contains("Overall exposure level")).expect("a result");
    let exposure: f64 = overall.split(' ').find_map(|word| word.parse().ok()).unwrap();
    assert!(exposure <= MOST_EXPOSED, "{told}");
    println!("exposure {exposure}");
}

#[test]
fn what_the_package_configures_is_accepted_once_it_is_filled_in() {
    let directory = tempfile::tempdir().unwrap();
    let (key, file) = (directory.path().join("cluster.key"), directory.path().join("lastseen.toml"));
    make_key(&key, 7);
    let text = include_str!("../../deploy/debian/lastseen.toml");
    let copy = "/run/credentials/lastseen.service/cluster.key";
    assert!(include_str!("../../deploy/systemd/lastseen.service").contains(copy), "both name one place");
    let filled = text.replace("\n#static", "\nstatic").replace("\n#key", "\nkey");
    assert_eq!(filled.len() + 2, text.len());
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["config", "check"]).arg(&file).env_clear().stdin(Stdio::null()).output().unwrap()
    };
    let output = check(&filled.replace(copy, key.to_str().unwrap()));
    assert!(output.status.success(), "{output:?}");
    let output = check(text);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && complaint.contains("no cluster key"), "{output:?}");
}
