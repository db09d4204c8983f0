//! The lifecycle lock, among many and beside programs that know only its folder.

use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant, SystemTime};

use ds4_supervise::{
    Found, LifecycleLock, MANAGED_BY, Nameless, Owner, StateDir, Stop, process, read_json, write_json,
};
use serde_json::json;
use tempfile::TempDir;

fn place() -> (TempDir, StateDir) {
    let folder = tempfile::tempdir().unwrap();
    let dir = StateDir::at(folder.path()).unwrap();
    dir.create().unwrap();
    (folder, dir)
}

fn sleeper() -> Child {
    Command::new("sleep").arg("600").spawn().unwrap()
}

/// A lock as another program makes it.
fn plant(dir: &StateDir, pid: u32, exact: Option<&str>, shown: &str) {
    std::fs::create_dir(dir.lock()).unwrap();
    let mut owner = json!({"managedBy": MANAGED_BY, "pid": pid, "processStart": shown, "createdAt": 1, "more": [1]});
    if let Some(exact) = exact {
        owner["processStartExact"] = exact.into();
    }
    write_json(&dir.lock().join("owner.json"), &owner).unwrap();
}

fn take(dir: &StateDir) -> LifecycleLock {
    LifecycleLock::take(dir, Instant::now() + Duration::from_secs(60), &Stop::default()).unwrap()
}

#[test]
fn the_folder_is_there_while_the_lock_is_held_and_says_who_holds_it() {
    let (_folder, dir) = place();
    let lock = take(&dir);
    let Found::There(owner) = read_json::<Owner>(&dir.lock().join("owner.json")) else { panic!() };
    assert_eq!((owner.managed_by.as_str(), owner.pid), (MANAGED_BY, std::process::id()));
    assert!(LifecycleLock::try_take(&dir, &mut Nameless::default()).unwrap().is_none());
    let why = LifecycleLock::take(&dir, Instant::now(), &Stop::default()).unwrap_err().to_string();
    assert!(why.starts_with("Timed out waiting for ds4 lifecycle lock at ") && why.contains("its owner is process "));
    drop(lock);
    assert!(!dir.lock().exists());
    assert!(LifecycleLock::try_take(&dir, &mut Nameless::default()).unwrap().is_some());
}

#[test]
fn a_living_owner_keeps_a_lock_however_old_it_is_and_a_dead_one_loses_it() {
    // H224
    let (_folder, dir) = place();
    let mut owner = sleeper();
    let start = process::start_of(owner.id()).unwrap();
    plant(&dir, owner.id(), None, &start.shown);
    let old = SystemTime::now() - Duration::from_secs(86_400);
    std::fs::File::open(dir.lock()).unwrap().set_modified(old).unwrap();
    for _ in 0..5 {
        assert!(LifecycleLock::try_take(&dir, &mut Nameless::default()).unwrap().is_none());
    }
    owner.kill().unwrap();
    owner.wait().unwrap();
    drop(take(&dir));
}

#[test]
fn an_owner_is_known_by_its_start_and_not_by_its_number_or_the_clock() {
    let mut owner = sleeper();
    let start = process::start_of(owner.id()).unwrap();
    let taken = |exact, shown| {
        let (_folder, dir) = place();
        plant(&dir, owner.id(), exact, shown);
        (0..2).any(|_| LifecycleLock::try_take(&dir, &mut Nameless::default()).unwrap().is_some())
    };
    assert!(!taken(Some(start.exact.as_str()), "Thu Jan  1 00:00:00 1970"), "the clock was set since");
    assert!(taken(Some("another boot/1"), start.shown.as_str()), "the number was given again");
    assert!(taken(None, "Thu Jan  1 00:00:00 1970"), "the same, as others write it");
    owner.kill().unwrap();
    owner.wait().unwrap();
}

#[test]
fn of_many_who_recover_a_dead_owners_lock_one_has_it_at_a_time() {
    let (_folder, dir) = place();
    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    plant(&dir, dead.id(), None, "Thu Jan  1 00:00:00 1970");
    let (inside, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (dir, inside, taken, dead) = (&dir, &inside, &taken, dead.id());
            scope.spawn(move || {
                for round in 0..6 {
                    let lock = take(dir);
                    assert_eq!(inside.fetch_add(1, SeqCst), 0);
                    let path = dir.lock().join("owner.json");
                    assert!(matches!(read_json::<Owner>(&path), Found::There(o) if o.pid == std::process::id()));
                    if (thread + round) % 2 == 0 {
                        // What one leaves that is killed here.
                        write_json(&path, &json!({"managedBy": MANAGED_BY, "pid": dead})).unwrap();
                    }
                    taken.fetch_add(1, SeqCst);
                    inside.fetch_sub(1, SeqCst);
                    drop(lock);
                }
            });
        }
    });
    assert_eq!(taken.into_inner(), 48);
}

#[test]
fn a_folder_whose_owner_cannot_be_read_is_left_alone_for_a_while_and_then_taken() {
    let huge = "9".repeat(2 << 20);
    let texts = ["", "{\"pid\": 1", "{\"managedBy\": 1, \"pid\": \"x\"}", "{\"pid\": NaN}", "[[[", huge.as_str()];
    std::thread::scope(|scope| {
        for text in texts {
            scope.spawn(move || {
                let (_folder, dir) = place();
                std::fs::create_dir(dir.lock()).unwrap();
                std::fs::write(dir.lock().join("owner.json"), text).unwrap();
                let start = Instant::now();
                assert!(
                    LifecycleLock::try_take(&dir, &mut Nameless::default()).unwrap().is_none(),
                    "its maker may be about to write it"
                );
                drop(take(&dir));
                assert!(start.elapsed() >= Duration::from_secs(5));
                assert!(!dir.lock().exists());
            });
        }
    });
}

#[test]
fn a_signal_ends_the_wait() {
    let (_folder, dir) = place();
    let _held = take(&dir);
    let stop = Stop::default();
    stop.flag().store(15, SeqCst);
    let why = LifecycleLock::take(&dir, Instant::now() + Duration::from_secs(60), &stop).unwrap_err();
    assert!(matches!(why, ds4_supervise::Error::Interrupted(15)));
}
