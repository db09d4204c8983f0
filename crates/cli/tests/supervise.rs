//! The one server: started, found, needed, stopped, lost and found again.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::server::Server;
use common::supervised::{Place, Sleeper, connect, get, is_alive, signal};
use common::{model, said};
use serde_json::{Value, json};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn up_starts_one_server_and_finds_it_again_and_down_stops_it() {
    // H220, H238
    let place = Place::new();
    assert_eq!(place.state(), "stopped");
    let url = place.up(&[]);
    assert_eq!((get(&url, "/ready"), place.state().as_str()), (200, "running"));
    let pid = place.pid();
    assert_eq!(place.up(&[]), url);
    let status = place.status();
    assert_eq!((&status["pid"], &status["url"], &status["kept"]), (&json!(pid), &json!(url), &json!(true)));
    assert_eq!((&status["model"], &status["context"], &status["leases"]), (&json!("mini"), &json!(2000), &json!([])));
    assert_eq!(status["log"], place.file("log").display().to_string());

    let text = std::fs::read_to_string(place.file("server.json")).unwrap();
    let state: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&state["managedBy"], &state["pid"], &state["baseUrl"]),
        (&json!("pi-sd4-provider"), &json!(pid), &json!(url))
    );
    for field in ["cwd", "binary", "args", "startedAt", "startedAtIso", "kvDir"] {
        assert!(!state[field].is_null(), "{field} in {text}");
    }
    assert!(text.starts_with("{\n  \"managedBy\"") && text.ends_with("}\n"));
    let private = [("server.json", 0o600), ("log", 0o600), ("server.lock", 0o600), ("clients", 0o700), ("", 0o700)];
    assert!(private.iter().all(|(name, bits)| mode(&place.file(name)) == *bits));

    assert_eq!(place.ds4(&["down"]).answer(), format!("stopped ds4-server (pid {pid})\n"));
    assert!(!is_alive(pid) && !place.file("server.json").exists() && !place.file("keep").exists());
    assert_eq!(place.ds4(&["down"]).answer(), "no ds4-server runs\n");
    let said = place.ds4(&["status"]);
    assert_eq!((said.code, said.out.lines().next()), (3, Some("stopped")));
}

#[test]
fn the_server_ends_after_the_last_lease_and_not_before() {
    // H221, H222
    let place = Place::new();
    let (first, mut second) = (Sleeper::new(), Sleeper::new());
    let url = place.up(&["--for-pid", &first.pid()]);
    assert_eq!(place.up(&["--for-pid", &second.pid()]), url);
    let pid = place.pid();
    assert_eq!(place.status()["leases"].as_array().unwrap().len(), 2);
    std::thread::sleep(Duration::from_secs(5)); // twice what a lease lasts: somebody confirms them
    assert_eq!((place.state().as_str(), place.pid()), ("running", pid));

    place.ds4(&["lease", "--pid", &first.pid(), "--release"]).answer();
    place.ds4(&["lease", "--pid", &first.pid(), "--release"]).answer();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(place.status()["leases"][0]["pid"].to_string(), second.pid());
    assert!(is_alive(pid), "one is left");

    second.kill();
    place.wait_for_end(pid);
    assert!(!place.file("server.json").exists());
    assert!(place.log().contains("ds4-watchdog: no active ds4 leases; stopping ds4-server"), "{}", place.log());
    // Their holders have ended, too.
    place.wait("the end of the holders", || std::fs::read_dir(place.file("clients")).unwrap().count() == 0);
}

#[test]
fn a_server_without_a_first_lease_does_not_stay_and_one_that_is_kept_does() {
    let place = Place::new();
    let dir = place.dir().display().to_string();
    let mut lost = place.command(&["serve", "--state-dir", &dir, "--port", "0"]).stderr(Stdio::null()).spawn().unwrap();
    assert!(lost.wait().unwrap().success(), "nobody ever needed it");
    assert!(!place.file("server.json").exists());
    place.up(&[]);
    let pid = place.pid();
    std::thread::sleep(Duration::from_secs(4));
    assert!(is_alive(pid), "ds4 up without a process keeps it");
}

#[test]
fn connected_clients_keep_the_server() {
    // H223
    let place = Place::new();
    let process = Sleeper::new();
    let url = place.up(&["--for-pid", &process.pid()]);
    let pid = place.pid();
    let mut client = connect(&url);
    client.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(client.read(&mut [0; 100]).unwrap() > 0);
    place.ds4(&["lease", "--pid", &process.pid(), "--release"]).answer();
    let line = "no active ds4 leases, but ds4-server still has clients; waiting";
    place.wait("the watchdog", || place.log().contains(line));
    std::thread::sleep(Duration::from_secs(3));
    assert!(is_alive(pid));
    drop(client);
    place.wait_for_end(pid);
    assert_eq!(place.log().matches(line).count(), 1);
}

#[test]
fn a_server_that_was_killed_is_replaced() {
    let place = Place::new();
    place.up(&[]);
    let pid = place.pid();
    signal("KILL", pid);
    place.wait("its end", || place.state() == "stale");
    place.up(&[]);
    assert_ne!(place.pid(), pid);
    assert!(
        place.log().contains(&format!("stale state: {}: process {pid} is gone", place.file("server.json").display()))
    );
}

#[test]
fn another_model_replaces_the_server() {
    // H226
    let place = Place::new();
    place.up(&["--model", "mini"]);
    let first = place.pid();
    let said = place.ds4(&["up", "--port", "0", "--model", &model(), "--", "-t", "1", "-c", "2000"]);
    assert!(said.err.contains(&format!("switching ds4-server to {}", model())), "{said:?}");
    assert_eq!(said.code, 0);
    assert!(!is_alive(first));
    let second = place.pid();
    assert_eq!(place.status()["model"], "v4-mini");
    place.up(&["--model", &model()]);
    place.up(&[]);
    assert_eq!(place.pid(), second, "whatever runs is right for who asks for nothing");
}

#[test]
fn a_link_that_moved_is_another_model() {
    let place = Place::new();
    let link = place.file("support/ds4flash.gguf");
    std::fs::create_dir_all(place.file("support")).unwrap();
    let files = ["one.gguf", "two.gguf"].map(|name| place.home.file(name));
    for file in &files {
        std::fs::copy(model(), file).unwrap();
    }
    std::os::unix::fs::symlink(&files[0], &link).unwrap();
    place.up(&[]);
    let (first, two) = (place.pid(), files[1].display().to_string());
    assert_eq!(place.status()["model"], "one");
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&files[1], &link).unwrap();
    place.up(&[]);
    place.up(&["--model", &files[0].display().to_string()]);
    assert_eq!(place.pid(), first, "it is what runs, whatever the link says by now");
    place.up(&["--model", &two]);
    assert_eq!((place.pid() == first, place.status()["model"].as_str().unwrap()), (false, "two"));
    let second = place.pid();
    place.up(&["--model", &link.display().to_string()]);
    assert_eq!(place.pid(), second, "the link's model");

    // A link to nowhere is no reason for a toy to answer.
    place.ds4(&["down"]).answer();
    std::fs::remove_file(&files[1]).unwrap();
    for args in [["up", "--port", "0"].as_slice(), &["-p", "Hello"]] {
        let said = place.ds4(args);
        assert!(said.err.contains(&format!("ds4flash.gguf points to {two}: ")), "{said:?}");
        assert_eq!(said.code, 1);
    }
}

#[test]
fn a_model_that_is_none_replaces_nothing_and_another_one_gets_the_port() {
    let place = Place::new();
    let url = place.up(&[]);
    let pid = place.pid();
    let wrong = place.home.file("wrong.gguf");
    std::fs::write(&wrong, "GGUF?").unwrap();
    let said = place.ds4(&["up", "--model", &wrong.display().to_string()]);
    assert!(said.err.contains("wrong.gguf: ") && said.code == 1, "{said:?}");
    assert_eq!((place.pid(), place.state().as_str()), (pid, "running"));
    let said = place.ds4(&["up", "--model", &model(), "--", "-t", "1", "-c", "2000"]);
    assert_eq!((said.code, said.out.trim()), (0, url.as_str()), "{said:?}");
    assert_ne!(place.pid(), pid);
}

#[test]
fn settings_of_servers_count_for_up_too() {
    let place = Place::new();
    let config = place.home.file("server.toml");
    std::fs::write(&config, format!("model = {:?}\nthreads = 1\nctx = 2000\nport = 0\n", model())).unwrap();
    let mut up = place.command(&["up"]);
    said(up.env("DS4_CONFIG", &config).output().unwrap()).answer();
    assert_eq!((&place.status()["model"], &place.status()["context"]), (&json!("v4-mini"), &json!(2000)));
    let mut up = place.command(&["up", "--", "-c", "3000"]);
    let said = said(up.env("DS4_CONFIG", &config).output().unwrap());
    assert!(said.err.contains("a ds4-server runs already, with its own flags"), "{said:?}");
}

#[test]
fn who_kept_a_server_keeps_it_when_another_one_fails_and_not_beyond_its_end() {
    let place = Place::new();
    place.up(&[]);
    let pid = place.pid();
    signal("STOP", pid); // it does not answer
    assert_eq!(place.ds4(&["up", "--timeout", "1"]).code, 1);
    signal("CONT", pid);
    assert!(place.file("keep").exists());
    signal("KILL", pid);
    place.wait_for_end(pid);
    let mut process = Sleeper::new();
    place.up(&["--for-pid", &process.pid()]);
    let pid = place.pid();
    assert_eq!(place.status()["kept"], false, "that was the one before");
    process.kill();
    place.wait_for_end(pid);
}

#[test]
fn a_server_says_again_what_it_is_when_its_file_is_removed() {
    let place = Place::new();
    let url = place.up(&[]);
    let pid = place.pid();
    std::fs::remove_file(place.file("server.json")).unwrap();
    assert_eq!(place.up(&[]), url);
    assert_eq!(place.pid(), pid);
    std::fs::write(place.file("server.json"), "{").unwrap();
    place.wait("the server's word", || place.state() == "running");
}

#[test]
fn keys_are_shown_to_nobody() {
    let place = Place::new();
    place.ds4(&["up", "--port", "0", "--", "-t", "1", "-c", "2000", "--api-key", "sesame"]).answer();
    let shown =
        [place.ds4(&["doctor"]).answer(), place.log(), std::fs::read_to_string(place.file("server.json")).unwrap()];
    assert!(shown.iter().all(|text| text.contains("--api-key") && !text.contains("sesame")), "{shown:?}");
}

#[test]
fn whoever_does_not_read_on_is_no_reason_to_panic() {
    let place = Place::new();
    for args in [&["status"][..], &["doctor"], &["connect", "codex", "--context", "1000"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let said = said(place.command(args).stdout(writer).output().unwrap());
        assert_eq!((said.code, said.err.as_str()), (141, ""), "{args:?}");
        let full = std::fs::File::options().write(true).open("/dev/full");
        let Ok(full) = full else { continue };
        let said = common::said(place.command(args).stdout(full).output().unwrap());
        assert!(said.code == 1 && said.err.starts_with("ds4: cannot write: "), "{args:?}: {said:?}");
    }
}

#[test]
fn a_server_that_is_stopping_is_waited_for() {
    // H227
    let place = Place::new();
    let url = place.up(&[]);
    let first = place.pid();
    let mut client = connect(&url);
    client.write_all(b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{").unwrap();
    get(&url, "/ready"); // the other one has been accepted by now
    signal("TERM", first);
    place.wait("stopping", || place.state() == "stopping");
    let said = place.ds4(&["up", "--port", "0", "--", "-t", "1", "-c", "2000"]);
    assert!(said.err.contains("waiting for previous ds4-server shutdown"), "{said:?}");
    assert_eq!(said.code, 0);
    assert!(!is_alive(first), "it had its time");
    assert_eq!(place.state(), "running");
}

#[test]
fn a_server_of_which_it_was_only_said_that_it_ends_is_asked_to() {
    let place = Place::new();
    place.up(&[]);
    let first = place.pid();
    // What a `down` leaves that is killed between word and deed.
    let mut state: Value = serde_json::from_slice(&std::fs::read(place.file("server.json")).unwrap()).unwrap();
    state["stopping"] = true.into();
    std::fs::write(place.file("said.json"), state.to_string()).unwrap();
    // At once, as everybody writes it: a half file would be mended by the server.
    std::fs::rename(place.file("said.json"), place.file("server.json")).unwrap();
    assert_eq!(place.state(), "stopping");
    place.up(&[]);
    assert!(!is_alive(first) && place.pid() != first);
    assert!(place.log().contains("shutting down after the running requests") && !place.log().contains("killing"));
}

#[test]
fn a_server_whose_lock_file_was_removed_is_found_all_the_same() {
    let place = Place::new();
    place.up(&[]);
    let pid = place.pid();
    std::fs::remove_file(place.file("server.lock")).unwrap();
    place.up(&[]);
    assert_eq!(place.pid(), pid);
    assert_eq!(place.ds4(&["down"]).answer(), format!("stopped ds4-server (pid {pid})\n"));
}

#[test]
fn a_second_server_is_refused_whoever_starts_it() {
    let place = Place::new();
    place.up(&[]);
    let pid = place.pid();
    let dir = place.dir().display().to_string();
    let second =
        place.command(&["serve", "--state-dir", &dir, "--port", "0"]).env("DS4_LOCK_FILE", place.file("x")).output();
    let line = format!("ds4: another ds4 server already runs for {dir} (pid {pid}); ds4 down stops it");
    said(second.unwrap()).fails(2, &line);
    assert_eq!(place.pid(), pid, "its state is as it was");
}

#[test]
fn a_server_that_does_not_start_says_why() {
    // H228
    let place = Place::new();
    let log = place.file("log").display().to_string();
    place
        .ds4(&["up", "--", "--ctx", "nothing"])
        .fails(2, "ds4: invalid value for --ctx: nothing (a whole number from 1 to 2147483647)");
    let said = place.ds4(&["up", "--port", "0", "--", "--trace", "/nowhere/trace"]);
    assert!(said.err.contains(&format!("ds4: ds4-server exited before becoming ready; see {log}\n")), "{said:?}");
    assert!(said.err.contains("/nowhere/trace"), "{said:?}");
    assert_eq!(said.code, 1);
    assert!(!place.file("keep").exists() && !place.file("lock").exists());

    let with = |name: &str, value: &str| {
        common::said(place.command(&["up", "--port", "0"]).env(name, value).output().unwrap())
    };
    with("DS4_READY_TIMEOUT_MS", "soon")
        .fails(2, "ds4: DS4_READY_TIMEOUT_MS: \"soon\" is no number from 1 to 86400000");
    with("DS4_SERVER_BINARY", "/nowhere").fails(2, "ds4: DS4_SERVER_BINARY: /nowhere is no executable file");
    assert_eq!(with("DS4_SERVER_BINARY", "/bin/false").code, 1);
    let nowhere = with("DS4_MODEL", "/nowhere.gguf");
    assert!(nowhere.err.contains("DS4_MODEL /nowhere.gguf: no such file; models with a name are "), "{nowhere:?}");
    assert_eq!(nowhere.code, 2);
    place.ds4(&["up", "--", "--port", "1"]).fails(2, "ds4: --port after --: give it to ds4 up itself, before the --");
    place.ds4(&["up", "--for-pid", "0"]).fails(2, "ds4: invalid value for --for-pid: 0 (the number of a process)");

    // One that never becomes a server does not stay.
    let script = place.home.file("ds4-server");
    std::fs::write(&script, format!("#!/bin/sh\necho $$ > {}/pid\nexec sleep 600\n", place.home.path().display()))
        .unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o700)).unwrap();
    let mut up = place.command(&["up", "--port", "0", "--timeout", "1"]);
    let said = common::said(up.env("DS4_SERVER_BINARY", &script).output().unwrap());
    assert!(said.err.contains("Timed out waiting for ds4-server at its port after 1 s; see "), "{said:?}");
    let pid = std::fs::read_to_string(place.home.file("pid")).unwrap().trim().parse().unwrap();
    place.wait("its end", || !is_alive(pid));
    assert!(!place.file("keep").exists());
}

#[test]
fn a_signal_ends_up_and_gives_back_what_it_had() {
    let place = Place::new();
    let script = place.home.file("ds4-server");
    std::fs::write(&script, "#!/bin/sh\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o700)).unwrap();
    for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let mut up = place.command(&["up", "--port", "0"]).env("DS4_SERVER_BINARY", &script).spawn().unwrap();
        place.wait("the lock", || place.file("lock/owner.json").exists());
        signal(name, up.id());
        assert_eq!(up.wait().unwrap().code(), Some(code));
        assert!(!place.file("lock").exists() && !place.file("keep").exists(), "{name}");
    }
}

#[test]
fn a_server_started_by_hand_is_used_and_left_running() {
    // H225
    let mut server = Server::start(&["-c", "2000"]);
    let (place, port) = (Place::new(), server.port.to_string());
    let said = place.ds4(&["up", "--port", &port]);
    assert_eq!((said.code, said.out.trim()), (0, format!("http://127.0.0.1:{port}").as_str()), "{said:?}");
    assert_eq!(place.state(), "running");
    let said = place.ds4(&["up", "--port", &port, "--model", "mini"]);
    assert!(said.err.contains("a ds4-server that ds4 did not start"), "{said:?}");
    let line = format!("ds4-server (pid {}) was not started by ds4 and goes on; --force ends it\n", server.pid());
    assert_eq!(place.ds4(&["down"]).answer(), line);
    assert_eq!(server.get("/ready").status, 200);
    place.ds4(&["up", "--port", &port]).answer();
    assert_eq!(place.ds4(&["down", "--force"]).answer(), format!("stopped ds4-server (pid {})\n", server.pid()));
    assert!(!server.exit().success());
}

#[test]
fn programs_get_events() {
    let place = Place::new();
    let events = |args: &[&str]| -> Vec<Value> {
        let said = place.ds4(args);
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let found = events(&["up", "--json", "--port", "0", "--", "-t", "1", "-c", "2000"]);
    assert_eq!(found[0]["event"], "progress");
    assert!(found.contains(&json!({"event": "progress", "message": "starting ds4-server (mini)"})), "{found:?}");
    let ready = found.last().unwrap();
    let status = place.status();
    assert_eq!((&ready["event"], &ready["url"], &ready["pid"]), (&json!("ready"), &status["url"], &status["pid"]));
    assert_eq!((&ready["model"], &ready["context"], &ready["adopted"]), (&json!("mini"), &json!(2000), &json!(false)));
    assert_eq!(events(&["up", "--json"]).last().unwrap()["adopted"], true);
    place.ds4(&["down"]).answer();
    let found = events(&["up", "--json", "--port", "0", "--", "--trace", "/nowhere/trace"]);
    let failed = found.last().unwrap();
    assert_eq!(failed["event"], "failed");
    assert!(failed["message"].as_str().unwrap().starts_with("ds4-server exited before becoming ready; see "));
}

#[test]
fn doctor_looks_cleans_and_refuses() {
    // H236
    let place = Place::new();
    let looked = place.ds4(&["doctor"]).answer();
    assert!(looked.contains("\nno server.json (already clean)\n") && looked.contains("\nmemory: "), "{looked}");
    assert!(looked.contains("q2-imatrix (87 GB, wants 96 GB): "), "{looked}");
    assert!(place.ds4(&["doctor", "--fix"]).answer().contains("lifecycle already clean\n"));
    place.up(&[]);
    let pid = place.pid();
    let looked = place.ds4(&["doctor"]).answer();
    assert!(looked.contains(&format!("managedBy: pi-sd4-provider\npid: {pid}\nbinary: ")), "{looked}");
    assert!(looked.contains("\nprocess: alive, ds4-server serve --state-dir "), "{looked}");
    place.ds4(&["doctor", "--fix"]).fails(2, &format!("ds4: refuse: pid {pid} still alive."));
    signal("KILL", pid);
    place.wait("its end", || place.state() == "stale");
    std::fs::create_dir(place.file("lock")).unwrap();
    let owner = json!({"managedBy": "pi-sd4-provider", "pid": std::process::id()});
    std::fs::write(place.file("lock/owner.json"), owner.to_string()).unwrap();
    let said = place.ds4(&["doctor", "--fix"]);
    assert!(said.err.contains(&format!("the lifecycle lock is held; its owner is process {} (", std::process::id())));
    assert_eq!(said.code, 1);
    std::fs::remove_dir_all(place.file("lock")).unwrap();
    let fixed = place.ds4(&["doctor", "--fix"]).answer();
    assert!(fixed.contains(&format!("removed the state of process {pid} and 0 leases\n")), "{fixed}");
    assert_eq!(place.state(), "stopped");
}

#[test]
fn the_log_is_shown_and_followed() {
    let place = Place::new();
    let said = place.ds4(&["logs"]);
    assert_eq!((said.code, said.err), (0, format!("No ds4 log yet: {}\n", place.file("log").display())));
    place.up(&[]);
    assert!(place.ds4(&["logs"]).answer().contains("listening at http://"));
    assert_eq!(place.ds4(&["logs", "-n", "1"]).answer().lines().count(), 1);
    let mut follower = place.command(&["logs", "-f", "-n", "1"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map_while(Result::ok);
    lines.next().unwrap();
    place.ds4(&["down"]).answer();
    assert!(lines.any(|line| line.contains("stopping ds4-server")));
    signal("INT", follower.id());
    assert_eq!(follower.wait().unwrap().code(), Some(130));
}
