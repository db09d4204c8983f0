//! Profiles for coding agents: shown, written beside what is there, and used.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use common::server::Server;
use common::{Home, said};

/// A client that says what it was given.
fn fake(home: &Home, name: &str) {
    let path = home.file("bin").join(name);
    fs::create_dir_all(home.file("bin")).unwrap();
    let script = "#!/bin/sh\nprintf '%s|' \"$0\" \"$@\"\nprintf '%s|' \"$CODEX_HOME\" \"${ANTHROPIC_API_KEY-none}\"\n\
                  test ! -e \"$DS4_DIR/clients/$$.json\" || printf 'lease|'\n";
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// `ds4` with the fake clients, and a state directory of its own.
fn ds4(home: &Home, args: &[&str]) -> Command {
    let mut command = home.command(args);
    let path = format!("{}:{}", home.file("bin").display(), std::env::var("PATH").unwrap());
    command.env("PATH", path).env("DS4_DIR", home.file("state")).env_remove("DS4_API_KEY");
    command
}

#[test]
fn every_client_is_told_the_servers_address_model_and_context() {
    // H243 to H246
    let server = Server::start(&["--ctx", "5000"]);
    let (home, url) = (&server.home, format!("http://127.0.0.1:{}", server.port));
    for client in ["codex", "claude", "opencode", "pi", "openclaw", "hermes"] {
        let text = said(ds4(home, &["connect", client, "--url", &url]).output().unwrap()).answer();
        assert!(text.contains(&url) && text.contains("v4-mini"), "{client}: {text}");
        assert!(text.contains("5000"), "{client}: {text}");
    }
    assert!(!home.file("state").exists(), "showing writes nothing");
}

#[test]
fn a_profile_is_written_once_and_what_was_there_is_kept() {
    let home = Home::new();
    let write = |context: &str| {
        let url = "http://127.0.0.1:1";
        said(ds4(&home, &["connect", "codex", "--write", "--url", url, "--context", context]).output().unwrap())
    };
    let first = write("65536");
    assert!(first.err.contains("+model_context_window = 65536\n"), "{first:?}");
    assert!(first.answer().contains("CODEX_HOME="));
    let path = home.file("state/profiles/codex/config.toml");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(write("65536").err, "", "nothing changes");
    let changed = write("1000");
    assert!(changed.err.contains("\n-model_context_window = 65536\n"), "{changed:?}");
    assert!(changed.err.contains("\n+model_context_window = 1000\n"), "{changed:?}");
    let kept = fs::read_to_string(home.file("state/profiles/codex/config.toml.backup.1")).unwrap();
    assert!(kept.contains("65536") && fs::read_to_string(&path).unwrap().contains("= 1000\n"));
}

#[test]
fn a_server_of_this_machine_is_asked_without_the_proxy() {
    let server = Server::start(&[]);
    let url = format!("http://localhost:{}", server.port);
    let mut command = ds4(&server.home, &["connect", "pi", "--url", &url]);
    for variable in ["ALL_PROXY", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY"] {
        command.env(variable, "http://127.0.0.1:1"); // nobody listens there
    }
    assert!(said(command.output().unwrap()).answer().contains(&url));
}

#[test]
fn what_codex_writes_into_its_profile_outlives_the_next_start() {
    let home = Home::new();
    fake(&home, "codex");
    let start = |context: &str| {
        let args = ["connect", "codex", "--url", "http://127.0.0.1:1", "--context", context, "--", "hello"];
        said(ds4(&home, &args).output().unwrap()).answer()
    };
    start("1000");
    let path = home.file("state/profiles/codex/config.toml");
    let theirs = "# mine\n".to_owned()
        + &fs::read_to_string(&path).unwrap()
        + "\n[projects.\"/src\"]\ntrust_level = \"trusted\"\n";
    fs::write(&path, &theirs).unwrap();
    start("1000");
    assert_eq!(fs::read_to_string(&path).unwrap(), theirs);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no copy without a change");
    start("2000");
    let changed = theirs.replace("window = 1000", "window = 2000").replace("limit = 800", "limit = 1600");
    assert_eq!(fs::read_to_string(&path).unwrap(), changed);
    fs::write(&path, "model = # broken\n").unwrap();
    let args = ["connect", "codex", "--url", "http://127.0.0.1:1", "--context", "1", "--", "hello"];
    let said = said(ds4(&home, &args).output().unwrap());
    assert!(said.code == 1 && said.err.contains("config.toml: not TOML: "), "{said:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "model = # broken\n");
}

#[test]
fn a_client_runs_with_its_profile_and_nothing_that_leads_it_elsewhere() {
    let server = Server::start(&[]);
    let (home, url) = (&server.home, format!("http://127.0.0.1:{}", server.port));
    ["codex", "claude"].iter().for_each(|name| fake(home, name));
    let dir = home.file("profile").display().to_string();
    let run = |client: &str, rest: &[&str]| {
        let args = [&["connect", client, "--url", &url, "--dir", &dir, "--"], rest].concat();
        said(ds4(home, &args).env("ANTHROPIC_API_KEY", "another's").output().unwrap()).answer()
    };
    let bin = home.file("bin").display().to_string();
    assert_eq!(run("codex", &["exec", "--json", "a b"]), format!("{bin}/codex|exec|--json|a b|{dir}|another's|"));
    assert_eq!(run("claude", &["-p", "hi"]), format!("{bin}/claude|--settings|{dir}/settings.json|-p|hi||none|"));
    let settings = fs::read_to_string(home.file("profile/settings.json")).unwrap();
    assert!(settings.contains(&format!("\"ANTHROPIC_BASE_URL\": \"{url}\"")), "{settings}");
}

#[test]
fn codex_ds4_runs_codex_which_needs_the_server() {
    let home = Home::new();
    fake(&home, "codex");
    // A free port; the wrapper itself would take 8000.
    let me = std::process::id().to_string();
    let up = said(
        ds4(&home, &["up", "--port", "0", "--model", "mini", "--for-pid", &me, "--", "-t", "1"]).output().unwrap(),
    );
    let url = up.answer();
    let mut wrapper = ds4(&home, &[]);
    let (path, state) =
        (wrapper.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_owned(), home.file("state"));
    wrapper = Command::new(env!("CARGO_BIN_EXE_codex-ds4"));
    wrapper.arg("hello").env("PATH", path).env("DS4_DIR", &state).env("HOME", home.path());
    let profile = state.join("profiles/codex");
    assert!(
        said(wrapper.output().unwrap()).answer().ends_with(&format!("/codex|hello|{}|none|lease|", profile.display()))
    );
    assert!(fs::read_to_string(profile.join("config.toml")).unwrap().contains(url.trim()));
    let down = said(ds4(&home, &["down"]).output().unwrap());
    assert!(down.out.starts_with("stopped ds4-server"), "{down:?}");
}

#[test]
fn what_cannot_be_is_said_with_the_way_out() {
    let home = Home::new();
    let run = |args: &[&str]| said(ds4(&home, args).output().unwrap());
    let none = run(&["connect", "pi", "--url", "http://127.0.0.1:1"]);
    assert!(
        none.err.contains("no ds4 server answers at http://127.0.0.1:1") && none.err.contains("ds4 up"),
        "{none:?}"
    );
    assert_eq!(run(&["connect", "emacs"]).code, 2);
    assert_eq!(run(&["connect", "hermes", "--write"]).code, 2);
    assert_eq!(run(&["connect", "pi", "--url", "ftp://x", "--context", "5"]).code, 2);
    assert_eq!(run(&["connect", "pi", "--dir", "", "--context", "5"]).code, 2);
    let mut homeless = ds4(&home, &["connect", "pi"]);
    let homeless = said(homeless.env_remove("HOME").env_remove("DS4_DIR").output().unwrap());
    homeless.fails(2, "ds4: neither DS4_DIR nor HOME is set; set DS4_DIR to a folder");
    let missing = run(&["connect", "pi", "--url", "http://127.0.0.1:1", "--context", "5", "--", "x"]);
    assert_eq!(missing.err, "ds4: cannot run pi: it is in no folder of PATH; is it installed?\n");
    assert!(!home.file("state").exists(), "nothing was started or written for it");
}
