//! `ds4 pull`, `ds4 models` and `download_model.sh`: from a name to a file.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Home, Said, model, said};
use ds4_testkit::host::{Host, Reply};
use serde_json::Value;

/// What the tests ask for, and where it then is.
const ASKED: &str = "hf://me/mine/v4-mini.gguf";
const FILE: &str = "ds4/support/gguf/v4-mini.gguf";

/// The built-in model's bytes.
fn mini() -> Vec<u8> {
    std::fs::read(model()).unwrap()
}

/// A server that has the built-in model under every name.
fn host() -> Host {
    let bytes = mini();
    Host::start(move |request| Reply::file(request, &bytes, "\"v1\""))
}

/// One that gives this many bytes at a time, with pauses.
fn slow_host(piece: usize) -> Host {
    let bytes = mini();
    Host::start(move |request| Reply::file(request, &bytes, "\"v1\"").slow(piece, Duration::from_millis(1)))
}

/// `ds4` for which this host is Hugging Face.
fn asking(home: &Home, host: &Host, args: &[&str]) -> Command {
    here(home.command(args), home, host)
}

/// In this home, with nothing of the environment that changes a download.
fn here(mut command: Command, home: &Home, host: &Host) -> Command {
    for name in
        ["HF_TOKEN", "HF_HOME", "DS4_GGUF_DIR", "http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy", "NO_PROXY"]
    {
        command.env_remove(name);
    }
    command.env("HOME", home.path()).env("HF_ENDPOINT", host.url()).env("DS4_DIR", home.file("ds4"));
    command
}

fn pull(home: &Home, host: &Host, args: &[&str]) -> Said {
    said(asking(home, host, &[&["pull"], args].concat()).output().unwrap())
}

#[test]
fn a_model_is_pulled_once_and_linked() {
    let (home, host) = (Home::new(), host());
    let path = format!("{}\n", home.file(FILE).display());
    assert_eq!(pull(&home, &host, &[ASKED]).answer(), path);
    assert!(std::fs::read(home.file(FILE)).unwrap() == mini());
    let link = home.file("ds4/support/ds4flash.gguf");
    assert_eq!(std::fs::read_link(&link).unwrap().to_str(), Some("gguf/v4-mini.gguf"));
    // Again: no request.
    assert_eq!(pull(&home, &host, &[ASKED]).answer(), path);
    assert_eq!(host.seen().len(), 1);
    // The link is a model.
    assert!(home.ds4(&["-m", link.to_str().unwrap(), "-p", "What is 7 + 8?", "--temp", "0"]).answer().contains("15"));
    // And the one that answers where none is named.
    let ask = |args: &[&str]| {
        said(asking(&home, &host, &[args, &["-p", "What is 7 + 8?", "--temp", "0"]].concat()).output().unwrap())
    };
    let plain = ask(&[]);
    assert!(!plain.err.contains("no model file") && plain.answer().contains("15"));
    std::fs::create_dir(home.file("mini")).unwrap(); // a folder is no model
    let mini = ask(&["-m", "mini"]);
    assert!(!mini.err.contains("no model file"), "it was asked for");
    assert!(mini.answer().contains("15"));
    assert!(ask(&["-m", "v4-mini.gguf"]).answer().contains("15"), "a pulled file by its own name");
    ask(&["-m", "q2"]).fails(2, "ds4: q2 is not here; ds4 pull q2 downloads it");
    pull(&home, &host, &["q2"]).answer();
    assert!(ask(&["-m", "q2"]).answer().contains("15"));
}

#[test]
fn a_system_without_certificates_is_enough() {
    let (home, host) = (Home::new(), host());
    std::fs::write(home.file("none.pem"), "").unwrap();
    let mut pull = asking(&home, &host, &["pull", ASKED]);
    pull.env("SSL_CERT_FILE", home.file("none.pem")).env("SSL_CERT_DIR", home.file("none"));
    assert_eq!(said(pull.output().unwrap()).answer(), format!("{}\n", home.file(FILE).display()));
}

#[test]
fn names_are_asked_for_by_their_file_and_drafting_weights_leave_the_link() {
    // H019, H025, H027
    let (home, host) = (Home::new(), host());
    let q2 = "DeepSeek-V4-Flash-IQ2XXS-w2Q2K-AProjQ8-SExpQ8-OutQ8-chat-v2";
    let q4 = "DeepSeek-V4-Flash-Q4KExperts-F16HC-F16Compressor-F16Indexer-Q8Attn-Q8Shared-Q8Out-chat-v2";
    let aligned =
        "cyberneurova-DeepSeek-V4-Flash-abliterated-IQ2XXS-w2Q2K-AProjQ8-SExpQ8-OutQ8-chat-v2-imatrix-aligned";
    for (name, repository, file) in [
        ("q2", "antirez/deepseek-v4-gguf", q2),
        ("q4", "antirez/deepseek-v4-gguf", q4),
        ("q2-imatrix", "antirez/deepseek-v4-gguf", &format!("{q2}-imatrix")),
        ("q4-imatrix", "antirez/deepseek-v4-gguf", &format!("{q4}-imatrix")),
        ("aligned-imatrix", "audreyt/CyberNeurova-DeepSeek-V4-Flash-abliterated-GGUF", aligned),
        ("mtp", "antirez/deepseek-v4-gguf", "DeepSeek-V4-Flash-MTP-Q4K-Q8_0-F32"),
    ] {
        let path = home.file("ds4/support/gguf").join(format!("{file}.gguf"));
        assert_eq!(pull(&home, &host, &[name]).answer(), format!("{}\n", path.display()));
        assert_eq!(host.seen().last().unwrap().target, format!("/{repository}/resolve/main/{file}.gguf"));
        let linked = std::fs::canonicalize(home.file("ds4/support/ds4flash.gguf")).unwrap();
        assert_eq!(linked == path.canonicalize().unwrap(), name != "mtp", "{name}");
    }
}

#[test]
fn a_file_that_is_there_already_is_only_linked() {
    let (home, host) = (Home::new(), host());
    let link = home.file("ds4/support/ds4flash.gguf");
    assert_eq!(pull(&home, &host, &[&model()]).answer(), format!("{}\n", model()));
    assert_eq!(std::fs::read_link(&link).unwrap().to_str(), Some(&*model()));
    pull(&home, &host, &[link.to_str().unwrap()]).answer();
    assert_eq!(std::fs::read_link(&link).unwrap().to_str(), Some(&*model()));
    std::fs::write(home.file("page.gguf"), "<html>").unwrap();
    let said = pull(&home, &host, &["page.gguf"]);
    assert!(said.code == 1 && said.err.contains("page.gguf: is no model ("), "{said:?}");
    assert_eq!(pull(&home, &host, &["mini"]).answer(), "mini\n");
    assert!(host.seen().is_empty());
}

#[test]
fn without_a_name_memory_decides_and_the_reason_is_said() {
    let (home, host) = (Home::new(), Host::start(|_| Reply::status(404)));
    let said = pull(&home, &host, &[]);
    // Whether this machine is large or small.
    assert!(said.code == 1 && said.err.contains("this machine has "), "{said:?}");
}

#[test]
fn what_cannot_be_pulled_is_refused_in_a_line() {
    let (home, host) = (Home::new(), host());
    let said = pull(&home, &host, &["q3"]);
    assert!(said.err.starts_with("ds4: q3: no model has this name; there are q2-imatrix, q2, "), "{said:?}");
    assert_eq!((said.code, said.err.lines().count()), (2, 1), "{said:?}");
    pull(&home, &host, &["--token", "a b", "mtp"])
        .fails(2, "ds4: --token: a token has letters, digits and signs only, without spaces");
    let mut elsewhere = asking(&home, &host, &["pull", ASKED]);
    let said = common::said(elsewhere.env("HF_ENDPOINT", "mirror").output().unwrap());
    said.fails(2, "ds4: HF_ENDPOINT: mirror: expected an address as https://huggingface.co");
    let mut nowhere = asking(&home, &host, &["pull", ASKED]);
    let said = common::said(nowhere.env_remove("DS4_DIR").env_remove("HOME").output().unwrap());
    said.fails(2, "ds4: neither DS4_DIR nor HOME is set; set DS4_DIR to a folder");
    assert!(host.seen().is_empty());

    let absent = Host::start(|_| Reply::status(404));
    let said = pull(&home, &absent, &[ASKED]);
    said.fails(1, &format!("ds4: {ASKED}: there is no such file (404 Not Found)"));
}

#[test]
fn the_token_of_the_flag_the_variable_and_the_file_is_sent() {
    // H021
    let host = Host::start(|_| Reply::status(404));
    let home = Home::new();
    let cache = home.file(".cache/huggingface");
    std::fs::create_dir_all(&cache).unwrap();
    let sent = |variable: Option<&str>, args: &[&str]| {
        let mut command = asking(&home, &host, &[&["pull", ASKED], args].concat());
        variable.map(|token| command.env("HF_TOKEN", token));
        assert_eq!(common::said(command.output().unwrap()).code, 1);
        host.seen().last().unwrap().header("authorization").map(String::from)
    };
    assert_eq!(sent(None, &[]), None);
    std::fs::write(cache.join("token"), "hf_file\n").unwrap();
    assert_eq!(sent(None, &[]).as_deref(), Some("Bearer hf_file"));
    assert_eq!(sent(Some("hf_variable"), &[]).as_deref(), Some("Bearer hf_variable"));
    assert_eq!(sent(Some("hf_variable"), &["--token", "hf_flag"]).as_deref(), Some("Bearer hf_flag"));
}

#[test]
fn a_proxy_of_the_environment_is_used() {
    let (home, host) = (Home::new(), host());
    let mut command = asking(&home, &host, &["pull", ASKED]);
    command.env("HF_ENDPOINT", "http://models.invalid").env("http_proxy", host.url());
    common::said(command.output().unwrap()).answer();
    assert_eq!(host.seen()[0].target, "http://models.invalid/me/mine/resolve/main/v4-mini.gguf");
}

#[test]
fn a_proxy_of_the_environment_is_used_behind_a_redirect_of_this_machine() {
    let (home, proxy) = (Home::new(), host());
    let mirror = Host::start(|_| Reply::redirect("http://models.invalid/v4-mini.gguf"));
    let mut command = asking(&home, &mirror, &["pull", ASKED]);
    command.env("http_proxy", proxy.url());
    common::said(command.output().unwrap()).answer();
    assert_eq!(proxy.seen()[0].target, "http://models.invalid/v4-mini.gguf");
}

#[test]
fn ctrl_c_keeps_what_came_and_says_how_to_go_on() {
    // H022
    let home = Home::new();
    let bytes = mini();
    let host = Host::start(move |request| match request.number {
        0 => Reply::file(request, &bytes, "\"v1\"").stall(5_000_000),
        _ => Reply::file(request, &bytes, "\"v1\""),
    });
    let part = home.file(&format!("{FILE}.part"));
    let child = asking(&home, &host, &["pull", ASKED]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while std::fs::metadata(&part).map_or(0, |m| m.len()) < 5_000_000 {
        assert!(Instant::now() < end, "nothing comes");
        std::thread::sleep(Duration::from_millis(5));
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let said = said(child.wait_with_output().unwrap());
    let kept =
        format!("ds4: interrupted; 5.0 MB are kept in {}, and the same command goes on from there", part.display());
    said.fails(130, &kept);
    assert_eq!(said.out, "");
    pull(&home, &host, &[ASKED]).answer();
    assert_eq!(host.seen()[1].from(), Some(5_000_000));
    assert!(std::fs::read(home.file(FILE)).unwrap() == mini());
    assert!(!part.exists());
}

#[test]
fn programs_get_events() {
    // H239
    let (home, host) = (Home::new(), slow_host(5_000));
    let mut child =
        asking(&home, &host, &["pull", ASKED, "--json"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let events: Vec<Value> = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert!(child.wait().unwrap().success());
    let (last, progress) = events.split_last().unwrap();
    assert_eq!(last["event"], "done");
    assert_eq!(last["path"], home.file(FILE).to_str().unwrap());
    // 11.8 MB in pieces of 5 kB, a millisecond each at least.
    assert!(progress.len() >= 2, "{events:?}");
    for event in progress {
        assert_eq!(event["event"], "progress");
        let message = event["message"].as_str().unwrap();
        assert!(
            message.starts_with("downloading ") && message.contains('%') && message.chars().count() <= 160,
            "{message}"
        );
        assert_eq!(event["total"], mini().len());
        assert!(event["done"].as_u64().unwrap() <= mini().len() as u64);
    }
    let later = &progress[1];
    assert!(later["rate"].as_u64().unwrap() > 0 && later["eta"].is_u64(), "{later}");

    let absent = Host::start(|_| Reply::status(404));
    let said = pull(&home, &absent, &["hf://me/mine/b.gguf", "--json"]);
    let failed: Value = serde_json::from_str(said.out.trim()).unwrap();
    assert_eq!(failed["event"], "failed");
    assert_eq!(failed["message"], "hf://me/mine/b.gguf: there is no such file (404 Not Found)");
    assert_eq!((said.code, said.err.as_str()), (1, ""));
}

#[test]
fn a_terminal_has_a_line_with_rate_and_time_left() {
    let (home, host) = (Home::new(), slow_host(5_000));
    let mut command = asking(&home, &host, &["pull", ASKED]);
    command.env("TERM", "xterm");
    let mut terminal = rexpect::session::spawn_command(command, Some(60_000)).unwrap();
    terminal.exp_regex(r"ds4: downloading [0-9.]+ MB / 11\.8 MB \([0-9]+%, [0-9.]+ MB/s, [0-9]+s left\)").unwrap();
    terminal.exp_string("v4-mini.gguf").unwrap();
    terminal.exp_eof().unwrap();
    assert!(std::fs::read(home.file(FILE)).unwrap() == mini());
}

/// Kills at random instants, `DS4_PULL_KILLS` of them (20 if it is not set), and always has the right file in the end.
#[test]
fn a_kill_at_any_instant_loses_nothing() {
    let kills: u64 = std::env::var("DS4_PULL_KILLS").map_or(20, |n| n.parse().unwrap());
    // Without a SHA-256 that would find out what is wrong.
    let (home, host, bytes) = (Home::new(), slow_host(100_000), mini());
    let folder = home.file("ds4/support/gguf");
    for kill in 0..kills {
        let mut child =
            asking(&home, &host, &["pull", ASKED]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(kill * 7919 % 151));
        child.kill().unwrap();
        child.wait().unwrap();
        if let Ok(there) = std::fs::read(home.file(FILE)) {
            assert!(there == bytes, "after kill {kill}");
            std::fs::remove_dir_all(&folder).unwrap();
        }
    }
    pull(&home, &host, &[ASKED]).answer();
    assert!(std::fs::read(home.file(FILE)).unwrap() == bytes);
    let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["v4-mini.gguf", "v4-mini.gguf.origin"]);
}

#[test]
fn models_lists_what_there_is_and_what_of_it_is_here() {
    let (home, host) = (Home::new(), host());
    let list =
        |args: &[&str]| common::said(asking(&home, &host, &[&["models"], args].concat()).output().unwrap()).answer();
    let line = |name: &str| list(&[]).lines().find(|line| line[2..].starts_with(&format!("{name} "))).map(String::from);
    assert!(line("mini").unwrap().contains("built in"), "{}", list(&[]));
    assert!(line("q2").unwrap().contains("86.7 GB  -  "), "{}", list(&[]));

    pull(&home, &host, &["q2"]).answer();
    pull(&home, &host, &[ASKED]).answer();
    let part = home.file("ds4/support/gguf/DeepSeek-V4-Flash-MTP-Q4K-Q8_0-F32.gguf");
    std::fs::write(format!("{}.part", part.display()), vec![0; 1_000_000]).unwrap();
    assert!(line("q2").unwrap().contains("12 MB  there  "), "{}", list(&[]));
    assert!(line("mtp").unwrap().contains("3.8 GB  0%  "), "{}", list(&[]));
    assert!(line("v4-mini.gguf").unwrap().starts_with('*'), "{}", list(&[]));

    let document: Value = serde_json::from_str(&list(&["--json"])).unwrap();
    let models = document["models"].as_array().unwrap();
    let find = |name: &str| models.iter().find(|model| model["name"] == name).unwrap();
    assert_eq!(find("q2")["state"], "there");
    assert_eq!(find("q2")["size"], mini().len());
    assert_eq!(find("q4")["state"], "missing");
    assert_eq!((&find("mtp")["state"], &find("mtp")["percent"]), (&"partial".into(), &0.into()));
    assert_eq!(find("mini")["state"], "built-in");
    assert_eq!((&find("v4-mini.gguf")["linked"], &find("q2")["linked"]), (&true.into(), &false.into()));
    assert_eq!(document["folder"], home.file("ds4/support/gguf").to_str().unwrap());
}

/// `download_model.sh` in a folder of its own, with `ds4` beside it.
fn script(home: &Home, host: &Host, args: &[&str]) -> Command {
    let path = home.file("c/download_model.sh");
    if !path.exists() {
        std::fs::create_dir(home.file("c")).unwrap();
        std::fs::copy(ds4_testkit::root().join("download_model.sh"), &path).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ds4"), home.file("c/ds4")).unwrap();
    }
    let mut command = Command::new(path);
    command.args(args).current_dir(home.path());
    here(command, home, host)
}

#[test]
fn the_script_has_its_usage_and_exit_codes() {
    // H020, H027
    let (home, host) = (Home::new(), host());
    let run = |args: &[&str]| said(script(&home, &host, args).output().unwrap());
    for help in ["--help", "-h", "help"] {
        assert!(run(&[help]).answer().starts_with("usage: ./download_model.sh MODEL [--token TOKEN]\n"));
    }
    let none = run(&[]);
    assert!(none.code == 1 && none.err.starts_with("usage: "), "{none:?}");
    run(&["q3"]).fails(1, "download_model.sh: unknown model or option: q3");
    run(&["q2", "--token"]).fails(1, "download_model.sh: --token needs a value");
    assert!(host.seen().is_empty());
    std::fs::remove_file(home.file("c/ds4")).unwrap();
    let lost = said(script(&home, &host, &["q2"]).env("PATH", "/usr/bin:/bin").output().unwrap());
    lost.fails(
        1,
        "download_model.sh: there is no ds4 here, in target/release or in PATH; cargo build --release makes it",
    );
}

#[test]
fn the_script_downloads_beside_itself_and_links_there() {
    // H023, H024, H025, H026
    let (home, host) = (Home::new(), host());
    said(script(&home, &host, &["q2-imatrix", "--token", "hf_flag"]).output().unwrap()).answer();
    let file = "DeepSeek-V4-Flash-IQ2XXS-w2Q2K-AProjQ8-SExpQ8-OutQ8-chat-v2-imatrix.gguf";
    let link = home.file("c/ds4flash.gguf");
    assert_eq!(std::fs::read_link(&link).unwrap().to_str(), Some(&*format!("gguf/{file}")));
    assert!(std::fs::read(home.file("c/gguf").join(file)).unwrap() == mini());
    assert_eq!(host.seen()[0].header("authorization"), Some("Bearer hf_flag"));

    // What is there is not downloaded again; drafting weights leave the link.
    said(script(&home, &host, &["q2-imatrix"]).output().unwrap()).answer();
    assert_eq!(host.seen().len(), 1);
    said(script(&home, &host, &["mtp"]).output().unwrap()).answer();
    assert!(std::fs::read_link(&link).unwrap().ends_with(file));

    // Elsewhere, relative to the script.
    said(script(&home, &host, &["q4"]).env("DS4_GGUF_DIR", "store").output().unwrap()).answer();
    assert!(std::fs::read_link(&link).unwrap().starts_with("store"));
    assert!(link.canonicalize().unwrap().starts_with(home.file("c/store").canonicalize().unwrap()));

    let aria2 = home.file("c/gguf/DeepSeek-V4-Flash-IQ2XXS-w2Q2K-AProjQ8-SExpQ8-OutQ8-chat-v2.gguf.aria2");
    std::fs::write(&aria2, "").unwrap();
    let said = said(script(&home, &host, &["q2"]).output().unwrap());
    assert!(said.code == 1 && said.err.contains("aria2 left an unfinished download here"), "{said:?}");
}
