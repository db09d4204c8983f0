//! Leases and states that others wrote, damaged or left.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant, SystemTime};

use ds4_supervise::doctor::{self, Recovery};
use ds4_supervise::lease::{self, Held};
use ds4_supervise::{
    Down, Error, FileLock, LifecycleLock, MANAGED_BY, Model, Nameless, State, StateDir, Stop, Timings, Wanted, down,
    process, read_json, status, up, write_json,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

fn place() -> (TempDir, StateDir) {
    let folder = tempfile::tempdir().unwrap();
    let dir = StateDir::at(folder.path()).unwrap();
    dir.create().unwrap();
    (folder, dir)
}

fn sleeper() -> Child {
    let child = Command::new("sleep").arg("600").spawn().unwrap();
    // It is empty for a moment after exec.
    wait("a command line", || !process::command_line(child.id()).unwrap().is_empty());
    child
}

/// Waits until something holds; a test that would wait for ever fails.
fn wait(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}: in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn leases(dir: &StateDir) -> usize {
    status(dir, &Timings::default()).unwrap().leases.len()
}

#[test]
fn a_lease_has_the_documented_fields_and_counts_while_its_process_lives() {
    // H221
    let (_folder, dir) = place();
    let process = sleeper();
    let pid = process.id();
    lease::take(&dir, pid, "/somewhere").unwrap();
    let found: Value = read_json(&dir.lease(pid)).there().unwrap();
    let fields: Vec<&str> = found.as_object().unwrap().keys().map(String::as_str).collect();
    for field in ["managedBy", "usesDs4", "pid", "processStart", "cwd", "startedAt", "updatedAt", "updatedAtIso"] {
        assert!(fields.contains(&field), "{fields:?}");
    }
    assert_eq!(
        (&found["managedBy"], &found["usesDs4"], &found["pid"]),
        (&json!(MANAGED_BY), &json!(true), &json!(pid))
    );
    assert_eq!(leases(&dir), 1);
    end(process);
    assert_eq!(leases(&dir), 0);
    assert!(dir.lease(pid).exists(), "looking changes nothing");
    lease::prune(&dir);
    assert!(!dir.lease(pid).exists());
    let why = lease::take(&dir, pid, "/").unwrap_err().to_string();
    assert_eq!(why, format!("there is no process {pid}, so nothing would end its lease"));
}

#[test]
fn a_lease_of_another_start_another_writer_or_another_time_does_not_count() {
    let process = sleeper();
    let pid = process.id();
    let start = process::start_of(pid).unwrap();
    let count = |change: &dyn Fn(&mut Value)| {
        let (_folder, dir) = place();
        lease::take(&dir, pid, "/").unwrap();
        let mut found: Value = read_json(&dir.lease(pid)).there().unwrap();
        change(&mut found);
        write_json(&dir.lease(pid), &found).unwrap();
        leases(&dir)
    };
    assert_eq!(count(&|lease| lease["unknown"] = json!({"x": [1]})), 1);
    assert_eq!(count(&|lease| lease["processStart"] = "Thu Jan  1 00:00:00 1970".into()), 1, "the clock was set");
    assert_eq!(count(&|lease| lease["processStartExact"] = "another boot/1".into()), 0, "the number was given again");
    assert_eq!(count(&|lease| drop(lease.as_object_mut().unwrap().remove("processStartExact"))), 1, "others' leases");
    assert_eq!(
        count(&|lease| {
            lease.as_object_mut().unwrap().remove("processStartExact");
            lease["processStart"] = "Thu Jan  1 00:00:00 1970".into();
        }),
        0
    );
    assert_eq!(count(&|lease| lease["managedBy"] = "somebody".into()), 0);
    assert_eq!(count(&|lease| lease["usesDs4"] = false.into()), 0);
    assert_eq!(count(&|lease| lease["pid"] = json!(-1)), 0);
    assert_eq!(count(&|lease| lease["pid"] = json!(0)), 0);

    let (_folder, dir) = place();
    lease::take(&dir, pid, "/").unwrap();
    let confirm = |at| std::fs::File::options().write(true).open(dir.lease(pid)).unwrap().set_modified(at).unwrap();
    confirm(SystemTime::now() - Duration::from_secs(46));
    assert_eq!(leases(&dir), 0);
    lease::prune(&dir);
    assert!(dir.lease(pid).exists(), "its process may have slept with the machine");
    confirm(SystemTime::now() + Duration::from_secs(3600));
    assert_eq!(leases(&dir), 1, "the clock was set");
    assert_eq!(start, process::start_of(pid).unwrap());
    end(process);
}

#[test]
fn a_lease_is_held_until_it_is_released_or_its_process_ends() {
    let timings = Timings { heartbeat: Duration::from_millis(100), ..Timings::default() };
    for release in [true, false] {
        let (_folder, dir) = place();
        let process = sleeper();
        let pid = process.id();
        let held = std::thread::scope(|scope| {
            let holder = scope.spawn(|| lease::hold(&dir, pid, "/", &timings, &Stop::default()).unwrap());
            let confirmed = || std::fs::metadata(dir.lease(pid)).and_then(|about| about.modified());
            wait("a lease", || confirmed().is_ok());
            let first = confirmed().unwrap();
            wait("another confirmation", || confirmed().unwrap() != first);
            if release {
                assert!(lease::release(&dir, pid).unwrap());
                let held = holder.join().unwrap();
                end(process);
                held
            } else {
                end(process);
                holder.join().unwrap()
            }
        });
        assert_eq!(held, if release { Held::Released } else { Held::Ended });
        assert!(!dir.lease(pid).exists() && !lease::release(&dir, pid).unwrap());
    }
}

#[test]
fn a_lock_is_its_holders_until_that_has_ended() {
    let (_folder, dir) = place();
    assert_eq!(FileLock::holder(&dir.server_lock()).unwrap(), None);
    let lock = FileLock::take(&dir.server_lock()).unwrap().unwrap();
    let pid = std::process::id();
    assert_eq!(std::fs::read_to_string(dir.server_lock()).unwrap(), format!("{pid}\n"));
    drop(lock);
    assert_eq!(FileLock::holder(&dir.server_lock()).unwrap(), None);
}

#[test]
fn a_state_that_makes_no_sense_is_stale_and_says_why() {
    let huge = format!("{{\"pid\": {}}}", "9".repeat(2 << 20));
    let texts = [
        ("{\"pid\": 12", "EOF"),
        ("{\"pid\": NaN}", "expected value"),
        ("{\"pid\": -1}", "invalid value"),
        ("{\"pid\": \"12\"}", "invalid type"),
        ("{\"args\": [1]}", "invalid type"),
        ("[]", "gone"),
        ("{}", "process 0 is gone"),
        ("{\"managedBy\": \"pi-sd4-provider\", \"pid\": 1, \"processStart\": \"never\"}", "process 1 is no server"),
        ("{\"managedBy\": \"pi-sd4-provider\", \"pid\": 4294967295}", "is gone"),
        ("{\"managedBy\": \"pi-sd4-provider\", \"pid\": 1, \"baseUrl\": \"http://example.org:1\"}", "is no server"),
        (huge.as_str(), "larger than"),
    ];
    for (text, reason) in texts {
        let (_folder, dir) = place();
        std::fs::write(dir.server(), text).unwrap();
        let found = status(&dir, &Timings::default()).unwrap();
        let shown = &text[..text.len().min(60)];
        assert_eq!((found.state, found.pid), (State::Stale, None), "{shown}");
        let why = found.stale.unwrap();
        assert!(why.contains("server.json: ") && why.contains(reason), "{shown}: {why}");
        assert!(!doctor::inspect(&dir).unwrap().is_empty());
        assert_eq!(down(&dir, false, &Timings::default(), &Stop::default(), &mut |_| ()).unwrap(), Down::NothingRan);
        assert!(!dir.server().exists());
    }
}

proptest! {
    /// Nothing in these files ends, signals or adopts anything by mistake.
    #[test]
    fn damaged_files_are_stale_or_fine(
        position in 0_usize..400, byte: u8, cut in 0_usize..400, insert: bool, leased: bool
    ) {
        let (_folder, dir) = place();
        let start = process::start_of(std::process::id()).unwrap();
        lease::take(&dir, std::process::id(), "/").unwrap();
        let state = json!({
            "managedBy": MANAGED_BY, "pid": std::process::id(), "processStartExact": start.exact, "baseUrl": "http://127.0.0.1:1",
            "args": ["serve"], "startedAt": 1,
        });
        write_json(&dir.server(), &state).unwrap();
        let path = if leased { dir.lease(std::process::id()) } else { dir.server() };
        let mut bytes = std::fs::read(&path).unwrap();
        let at = position.min(bytes.len() - 1);
        if insert { bytes.insert(at, byte) } else { bytes[at] = byte }
        bytes.truncate(bytes.len() - cut.min(bytes.len()) / 4);
        std::fs::write(&path, bytes).unwrap();
        let found = status(&dir, &Timings::default()).unwrap();
        prop_assert!(found.leases.len() <= 1);
        // Nobody answers there, and nobody else is taken for it.
        prop_assert!(matches!(found.state, State::Stale | State::Starting), "{:?}", found.state);
        prop_assert!(found.pid.is_none_or(|pid| pid == std::process::id()));
        lease::prune(&dir);
        doctor::inspect(&dir).unwrap();
    }
}

#[test]
fn recovery_has_three_steps() {
    // H236
    let (_folder, dir) = place();
    assert_eq!(doctor::inspect(&dir).unwrap(), ["no server.json (already clean)"]);
    assert_eq!(doctor::recover(&dir).unwrap(), Recovery::AlreadyClean);

    let process = sleeper();
    let start = process::start_of(process.id()).unwrap();
    write_json(
        &dir.server(),
        &json!({"managedBy": MANAGED_BY, "pid": process.id(), "processStart": start.shown, "binary": "/bin/x"}),
    )
    .unwrap();
    lease::take(&dir, std::process::id(), "/").unwrap();
    let lines = doctor::inspect(&dir).unwrap();
    assert_eq!(
        lines[..3],
        [format!("managedBy: {MANAGED_BY}"), format!("pid: {}", process.id()), "binary: /bin/x".into()]
    );
    assert_eq!(lines[3], "process: alive, sleep 600");
    assert_eq!(doctor::recover(&dir).unwrap(), Recovery::StillAlive(process.id()));
    assert!(dir.server().exists() && dir.lease(std::process::id()).exists());

    let pid = process.id();
    end(process);
    assert_eq!(doctor::inspect(&dir).unwrap()[3], "process: gone");
    let lock = LifecycleLock::try_take(&dir, &mut Nameless::default()).unwrap().unwrap();
    assert!(
        matches!(doctor::recover(&dir).unwrap(), Recovery::LockHeld(owner) if owner.starts_with("its owner is process "))
    );
    drop(lock);
    assert_eq!(doctor::recover(&dir).unwrap(), Recovery::Cleaned(Some(pid), 1));
    assert!(!dir.server().exists() && !dir.lease(std::process::id()).exists() && !dir.lock().exists());

    // Who was to stay is gone; a lock without an owner, too.
    std::fs::write(dir.keep(), "").unwrap();
    std::fs::create_dir(dir.lock()).unwrap();
    assert_eq!(doctor::recover(&dir).unwrap(), Recovery::Cleaned(None, 0));
    assert!(!dir.keep().exists() && !dir.lock().exists());
}

#[test]
fn a_clock_that_is_set_ends_no_holder() {
    let timings = Timings { heartbeat: Duration::from_millis(50), ..Timings::default() };
    let (_folder, dir) = place();
    let (process, stop) = (sleeper(), Stop::default());
    let pid = process.id();
    lease::take(&dir, pid, "/").unwrap();
    // As it looks to a holder that read it before the clock was set.
    let mut found: Value = read_json(&dir.lease(pid)).there().unwrap();
    found["processStart"] = "Thu Jan  1 00:00:00 1970".into();
    write_json(&dir.lease(pid), &found).unwrap();
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| lease::hold(&dir, pid, "/", &timings, &stop));
        let confirmed = || std::fs::metadata(dir.lease(pid)).and_then(|about| about.modified()).unwrap();
        for _ in 0..3 {
            let last = confirmed();
            wait("a confirmation", || confirmed() != last);
        }
        stop.flag().store(15, std::sync::atomic::Ordering::SeqCst);
        assert!(matches!(holder.join().unwrap(), Err(Error::Interrupted(15))));
    });
    end(process);
}

/// A service that lists models, until the test ends.
fn service(models: &'static str) -> u16 {
    answering(move |path| match path {
        "/v1/models" if !models.is_empty() => ("200 OK", models),
        _ => ("404 Not Found", "{}"),
    })
}

/// One that wants a key for all but its health.
fn guarded(health: &'static str) -> u16 {
    answering(move |path| match path {
        "/health" | "/ready" => ("200 OK", health),
        _ => ("401 Unauthorized", "{}"),
    })
}

fn answering(answer: impl Fn(&str) -> (&'static str, &'static str) + Send + 'static) -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let reply = |mut stream: TcpStream| {
            let mut request = [0; 1000];
            let n = stream.read(&mut request).unwrap_or(0);
            let (status, body) = answer(String::from_utf8_lossy(&request[..n]).split(' ').nth(1).unwrap_or_default());
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        };
        socket.incoming().flatten().for_each(reply);
    });
    port
}

fn wanted(port: u16, model_asked: bool) -> Wanted {
    Wanted { model: Some(Model::Builtin), model_asked, port: Some(port), for_pid: None, flags: Vec::new() }
}

#[test]
fn a_server_that_somebody_else_started_is_used_and_never_ended() {
    // H225
    let port = service(r#"{"data": [{"id": "deepseek-v4-flash"}]}"#);
    let (_folder, dir) = place();
    let go = |asked| up(&dir, &wanted(port, asked), &Timings::default(), &Stop::default(), &mut |_| ());
    let ready = go(false).unwrap().unwrap();
    assert_eq!((ready.url, ready.adopted), (format!("http://127.0.0.1:{port}"), true));
    let found = status(&dir, &Timings::default()).unwrap();
    assert_eq!(found.state, if ready.pid.is_some() { State::Running } else { State::Stopped });
    assert_eq!(ready.pid.unwrap_or(std::process::id()), std::process::id());
    assert!(go(false).unwrap().unwrap().adopted, "again");
    let why = go(true).unwrap_err().to_string();
    assert!(why.contains("that ds4 did not start") && why.contains("choose another --port"), "{why}");
    for force in [false, true] {
        go(false).unwrap();
        let left = down(&dir, force, &Timings::default(), &Stop::default(), &mut |_| ()).unwrap();
        // This test is no ds4-server by its command line, so not even force ends it.
        assert_eq!(left, ready.pid.map_or(Down::NothingRan, Down::LeftRunning));
        assert!(!dir.server().exists() && !dir.keep().exists());
    }
}

#[test]
fn a_server_that_wants_a_key_is_one_all_the_same() {
    let health = r#"{"status": "ok", "model": "deepseek-v4-flash", "context_length": 1000, "running_limit": 1}"#;
    for (answer, is_one) in [(health, true), ("{}", false)] {
        let port = guarded(answer);
        let (_folder, dir) = place();
        let found = up(&dir, &wanted(port, false), &Timings::default(), &Stop::default(), &mut |_| ());
        assert_eq!(found.is_ok_and(|ready| ready.is_some_and(|ready| ready.adopted)), is_one, "{answer}");
    }
}

#[test]
fn without_a_model_nothing_is_started() {
    let (_folder, dir) = place();
    let nothing = Wanted { model: None, ..wanted(0, false) };
    let found = up(&dir, &nothing, &Timings::default(), &Stop::default(), &mut |_| ()).unwrap();
    assert!(found.is_none() && !dir.keep().exists() && !dir.lock().exists() && !dir.log().exists());
}

#[test]
fn a_port_that_something_else_has_is_named() {
    let port = service("");
    let (_folder, dir) = place();
    let why = up(&dir, &wanted(port, false), &Timings::default(), &Stop::default(), &mut |_| ()).unwrap_err();
    let text = why.to_string();
    assert!(matches!(why, Error::Failed(_)));
    assert!(text.starts_with(&format!("port {port} is taken by something that is no ds4-server")), "{text}");
    assert!(!dir.keep().exists() && !dir.server().exists() && !dir.lock().exists(), "nothing is left");
}
