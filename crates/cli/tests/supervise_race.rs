//! Many who start, need and stop the server at once, and are killed at any instant: there is never a second server, and in
//! the end there is none. `DS4_SOAK_SECONDS` says for how long, `DS4_UP_KILLS` how often `ds4 up` is killed.

mod common;

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::supervised::{Place, Sleeper, get, is_alive, signal};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

/// Numbers without a pattern.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// The processes that listen at a port as the server of this place: what a client could reach.
#[cfg(target_os = "linux")]
fn serving(place: &Place) -> BTreeSet<u32> {
    let dir = place.dir().display().to_string();
    let pids =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let ours = pids.filter(|pid: &u32| {
        let line = ds4_supervise::process::command_line(*pid).unwrap_or_default();
        line.contains("serve") && line.contains(&dir)
    });
    ours.filter(|pid| listens(*pid)).collect()
}

#[cfg(target_os = "linux")]
fn listens(pid: u32) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let listening: BTreeSet<String> = table
        .lines()
        .filter(|line| line.split_whitespace().nth(3) == Some("0A"))
        .filter_map(|line| Some(format!("socket:[{}]", line.split_whitespace().nth(9)?)))
        .collect();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut open = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    open.any(|target| listening.contains(&target.display().to_string()))
}

/// Elsewhere the kernel's lock is asked, which one process has at most.
#[cfg(not(target_os = "linux"))]
fn serving(place: &Place) -> BTreeSet<u32> {
    ds4_supervise::FileLock::holder(&place.file("server.lock")).unwrap().into_iter().collect()
}

/// Ends a command after so long, if it has not ended by then. Whether it was killed.
fn kill_after(mut child: Child, time: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < time {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    true
}

#[test]
fn up_can_be_killed_at_any_instant() {
    let place = Place::new();
    let mut dice = Dice(setting("DS4_RACE_SEED", 7));
    let process = Sleeper::new();
    for round in 0..setting("DS4_UP_KILLS", 20) {
        let args = ["up", "--port", "0", "--for-pid", &process.pid(), "--", "-t", "1", "-c", "2000"];
        let mut command = place.command(&args);
        command.env("DS4_LOCK_FILE", place.home.file(&round.to_string()));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        kill_after(child, Duration::from_micros(dice.roll(120_000)));
        assert!(serving(&place).len() <= 1, "round {round}: {:?}", serving(&place));
        // Whatever it left, the next one finds its way.
        let url = place.up(&["--for-pid", &process.pid()]);
        assert_eq!(get(&url, "/ready"), 200);
        assert_eq!(serving(&place).len(), 1);
        if dice.roll(2) == 0 {
            place.ds4(&["down"]).answer();
        } else {
            let pid = place.pid();
            signal("KILL", pid);
            place.wait_for_end(pid);
        }
    }
    drop(process);
    place.wait("the end of all", || serving(&place).is_empty());
}

#[test]
fn of_eight_servers_at_once_one_stays() {
    let place = Place::new();
    std::fs::create_dir(place.dir()).unwrap();
    std::fs::write(place.file("keep"), "").unwrap();
    let dir = place.dir().display().to_string();
    let start = |n: u32| {
        let mut command = place.command(&["serve", "--state-dir", &dir, "--port", "0", "-t", "1", "-c", "2000"]);
        command.env("DS4_LOCK_FILE", place.home.file(&n.to_string())).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let mut servers: Vec<Child> = (0..8).map(start).collect();
    place.wait("the first", || place.state() == "running");
    let first = place.pid();
    for server in servers.iter_mut().filter(|server| server.id() != first) {
        let start = Instant::now();
        while server.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(60), "a second server");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(server.wait().unwrap().code(), Some(2));
    }
    assert_eq!((serving(&place), place.pid()), (BTreeSet::from([first]), first));
    place.ds4(&["down"]).answer();
    servers.iter_mut().for_each(|server| drop(server.wait()));
}

#[test]
fn ten_who_race_have_one_server() {
    let place = Place::new();
    let end = Instant::now() + Duration::from_secs(setting("DS4_SOAK_SECONDS", 15));
    let (done, ups, kills) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (place, done, ups, kills) = (&place, &done, &ups, &kills);
        let racers: Vec<_> = (0..10)
            .map(|n| {
                scope.spawn(move || {
                    let mut dice = Dice(setting("DS4_RACE_SEED", 7) + 1000 * n);
                    while Instant::now() < end {
                        race(place, &mut dice, ups, kills);
                    }
                })
            })
            .collect();
        scope.spawn(move || {
            while !done.load(Relaxed) {
                let found = serving(place);
                assert!(found.len() <= 1, "{found:?} serve at once; the log says:\n{}", place.log());
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let raced: Vec<_> = racers.into_iter().map(|racer| racer.join()).collect();
        done.store(true, Relaxed);
        assert!(raced.iter().all(Result::is_ok));
    });
    assert!(ups.load(Relaxed) > 0 && kills.load(Relaxed) > 0);
    println!("{} servers were found ready, {} commands were killed", ups.load(Relaxed), kills.load(Relaxed));

    // After all that it works as on the first day, for one who needs it, and ends with that.
    let mut process = Sleeper::new();
    place.ds4(&["down"]);
    let url = place.up(&["--for-pid", &process.pid()]);
    let pid = place.pid();
    std::thread::sleep(Duration::from_secs(4));
    assert!(is_alive(pid) && get(&url, "/ready") == 200);
    process.kill();
    place.wait_for_end(pid);
    place.wait("the end of all", || serving(&place).is_empty());
    let left: Vec<_> = std::fs::read_dir(place.dir()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| ["lock", "server.json"].iter().any(|gone| name == *gone)), "{left:?}");
}

/// One thing that one of them does.
fn race(place: &Place, dice: &mut Dice, ups: &AtomicU64, kills: &AtomicU64) {
    let mut process = Sleeper::new();
    let pid = process.pid();
    let up = ["up", "--port", "0", "--for-pid", &pid, "--timeout", "60", "--", "-t", "1", "-c", "2000"];
    let kept = ["up", "--port", "0", "--timeout", "60", "--", "-t", "1", "-c", "2000"];
    let args: &[&str] = match dice.roll(8) {
        0 => &["down"],
        1 => &["down", "--force"],
        2 => &kept,
        3 => &["doctor", "--fix"],
        _ => &up,
    };
    let mut command = place.command(args);
    // The lock of all instances of a machine is not what is tested here.
    command.env("DS4_LOCK_FILE", place.home.file(&pid));
    if dice.roll(2) == 0 {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        kills.fetch_add(u64::from(kill_after(child, Duration::from_micros(dice.roll(400_000)))), Relaxed);
    } else if args[0] == "up" {
        let said = common::said(command.output().unwrap());
        // The one that it started may be killed meanwhile, or asked to end by another.
        assert!(said.code == 0 || said.err.contains("exited before becoming ready"), "{said:?}");
        ups.fetch_add(u64::from(said.code == 0), Relaxed);
    } else {
        command.output().unwrap();
    }
    match dice.roll(6) {
        0 => drop(place.ds4(&["lease", "--pid", &pid, "--release"])),
        1 => serving(place).into_iter().for_each(|server| signal("KILL", server)),
        2 => std::thread::sleep(Duration::from_millis(dice.roll(1000))),
        _ => {}
    }
    process.kill();
}
