//! Services, containers, completions and manual pages: what others run ds4 with.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Home, said};

/// A file of `packaging/`.
fn packaging(name: &str) -> String {
    std::fs::read_to_string(ds4_testkit::root().join("packaging").join(name)).unwrap()
}

/// Whether a program is there; a test that needs it is counted as skipped otherwise.
fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    if !there {
        ds4_testkit::skip(&format!("packaging: {program} is not installed"));
    }
    there
}

#[test]
fn systemd_takes_the_unit() {
    if !has("systemd-analyze") {
        return;
    }
    let home = Home::new();
    let unit = packaging("ds4.service");
    assert!(unit.contains("ExecStart=%h/.cargo/bin/ds4 serve\n"));
    std::fs::write(home.file("ds4.service"), unit.replace("%h/.cargo/bin/ds4", env!("CARGO_BIN_EXE_ds4"))).unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["--user", "verify"]).arg(home.file("ds4.service")).env("XDG_RUNTIME_DIR", home.path());
    let said = said(verify.output().unwrap());
    // What it does not understand it only mentions.
    assert!(said.code == 0 && !said.err.contains("ds4.service"), "{said:?}");
}

#[test]
fn the_property_list_says_what_launchd_needs() {
    let text = packaging("ds4.plist");
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(&text, options).unwrap();
    let dict = document.root_element().first_element_child().unwrap();
    let mut children = dict.children().filter(roxmltree::Node::is_element);
    let mut value = std::collections::HashMap::new();
    while let (Some(key), Some(node)) = (children.next(), children.next()) {
        assert!(key.has_tag_name("key"), "keys and values take turns");
        value.insert(key.text().unwrap(), node);
    }
    assert_eq!(value["Label"].text(), Some("ds4.server"));
    assert!(value["RunAtLoad"].has_tag_name("true"));
    let words: Vec<&str> = value["ProgramArguments"]
        .children()
        .filter(roxmltree::Node::is_element)
        .map(|node| node.text().unwrap())
        .collect();
    assert_eq!(words[..2], ["/bin/sh", "-c"]);

    // The command does run ds4 serve, from the folder with the link.
    let home = Home::new();
    std::fs::create_dir_all(home.file(".cargo/bin")).unwrap();
    std::fs::create_dir_all(home.file("Library/Logs")).unwrap();
    std::fs::create_dir_all(home.file(".pi/ds4/support")).unwrap();
    let fake = home.file(".cargo/bin/ds4");
    let becomes = |script: &str| {
        std::fs::write(&fake, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&fake, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut service = Command::new(words[0]);
        service.args(&words[1..]).env("HOME", home.path());
        service
    };
    let ran = said(becomes("echo \"$@\" in \"$(pwd -P)\"; echo logged >&2").output().unwrap()).answer();
    let support = home.file(".pi/ds4/support").canonicalize().unwrap();
    assert_eq!(ran, format!("serve in {}\n", support.display()));
    assert_eq!(std::fs::read_to_string(home.file("Library/Logs/ds4.log")).unwrap(), "logged\n");

    // What would fail again is not tried again; a crash is.
    for (end, seen) in [("exit 0", Some(0)), ("exit 1", Some(1)), ("exit 2", Some(0)), ("kill -9 $$", Some(137))] {
        assert_eq!(becomes(end).output().unwrap().status.code(), seen, "{end}");
    }
    // Who stops it waits until the server has ended.
    let script = "trap 'touch ended; exit 0' TERM; touch begun; while :; do sleep 0.01; done";
    let mut service = becomes(script).spawn().unwrap();
    while !support.join("begun").exists() {
        assert!(service.try_wait().unwrap().is_none());
    }
    Command::new("kill").arg(service.id().to_string()).status().unwrap();
    assert_eq!((service.wait().unwrap().code(), support.join("ended").exists()), (Some(0), true));
}

#[test]
fn the_container_builds_with_this_toolchain_and_serves_with_keys() {
    let text = packaging("Dockerfile");
    let version = env!("CARGO_PKG_RUST_VERSION");
    assert!(text.contains(&format!("FROM rust:{version}-slim-trixie AS build\n")), "rust-version is {version}");
    let command = text.lines().find_map(|line| line.strip_prefix("CMD ")).unwrap();
    let mut words: Vec<String> = serde_json::from_str(command).unwrap();
    words.push("--print-config".into());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let settings = Home::new().ds4(&words).answer();
    assert!(settings.contains("0.0.0.0") && settings.contains("/data/keys"), "{settings}");
}

#[test]
fn bash_completes_commands_and_flags() {
    if !has("bash") {
        return;
    }
    let home = Home::new();
    std::fs::write(home.file("ds4.bash"), home.ds4(&["completions", "bash"]).answer()).unwrap();
    let completed = |words: &[&str]| {
        let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
        let script = format!(
            "source {}; COMP_WORDS=({}); COMP_CWORD={}; _ds4 ds4 '{last}' '{before}'; echo \"${{COMPREPLY[@]}}\"",
            home.file("ds4.bash").display(),
            words.join(" "),
            words.len() - 1
        );
        said(Command::new("bash").args(["-c", &script]).output().unwrap()).answer().trim().to_owned()
    };
    assert_eq!(completed(&["ds4", "pu"]), "pull");
    assert_eq!(completed(&["ds4", "pull", "--to"]), "--token");
    assert_eq!(completed(&["ds4", "kv", "ex"]), "export");
    assert_eq!(completed(&["ds4", "--allow"]), "--allow-oversubscribe");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(home.ds4(&["completions", shell]).answer().contains("allow-oversubscribe"), "{shell}");
    }
    let said = home.ds4(&["completions", "dosh"]);
    assert!(said.code == 2 && said.err.contains("dosh (one of bash, elvish, fish, powershell, zsh)"), "{said:?}");
}

#[test]
fn every_command_has_a_manual_page() {
    let home = Home::new();
    assert!(home.ds4(&["man"]).answer().contains(".TH ds4 1"));
    let dir = home.file("man1");
    home.ds4(&["man", dir.to_str().unwrap()]).answer();
    for (page, flag) in [
        ("ds4", "warm"),
        ("ds4-pull", "token"),
        ("ds4-serve", "port"),
        ("ds4-down", "force"),
        ("ds4-kv-prune", "unused"),
    ] {
        let text = std::fs::read_to_string(dir.join(format!("{page}.1"))).unwrap();
        assert!(text.contains(&format!("\\-\\-{flag}")), "{page}");
    }
    // Examples stay as they are written.
    let page = std::fs::read_to_string(dir.join("ds4-completions.1")).unwrap();
    let (_, examples) = page.split_once(".SH EXAMPLES\n").unwrap();
    assert!(examples.contains("\n.nf\n  bash   ds4 completions bash > "), "{examples}");
    // Whatever the program knows by name is in the tree of which pages and completions are made.
    let named =
        include_str!("../src/main.rs").lines().filter_map(|line| line.trim().strip_prefix("Some(\"")?.split_once('"'));
    let names: Vec<&str> = named.map(|(name, _)| name).collect();
    assert!(names.contains(&"pull"));
    for name in names {
        assert!(dir.join(format!("ds4-{name}.1")).is_file(), "{name} is missing in commands.rs");
    }
    let file = Path::new(&common::model()).to_path_buf();
    let said = home.ds4(&["man", file.to_str().unwrap()]);
    assert!(said.code == 1 && said.err.contains("v4-mini.gguf: cannot write: "), "{said:?}");
}
