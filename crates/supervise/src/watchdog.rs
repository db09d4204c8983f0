//! Ends a server that nobody needs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use crate::lease::{self, Lease};
use crate::{LifecycleLock, Nameless, Presence, StateDir, Timings};

/// Looks again and again whether anybody needs the server of this process.
#[derive(Debug)]
pub struct Watchdog {
    dir: StateDir,
    timings: Timings,
    looked: Instant,
    /// How long it has been looking: neither a clock that is set, nor a machine or a process that slept, makes this longer,
    /// since all who confirm leases slept as well.
    awake: Duration,
    leased: bool,
    seen: HashMap<PathBuf, Sighting>,
    nameless: Nameless,
}

/// When a lease was last confirmed, as its file says, how old that was at first sight, and when that sight was.
#[derive(Debug)]
struct Sighting {
    confirmed: SystemTime,
    age: Duration,
    at: Duration,
}

impl Watchdog {
    /// Of the server that starts now.
    pub fn new(dir: &StateDir, timings: Timings) -> Self {
        let (looked, awake) = (Instant::now(), Duration::ZERO);
        let (seen, nameless) = (HashMap::new(), Nameless::default());
        Self { dir: dir.clone(), timings, looked, awake, leased: false, seen, nameless }
    }

    /// Watches until nobody needs the server: no lease, not kept, no client connected (`clients` says how many). Then it is
    /// marked as stopping and `end` is called, which is to let it end; if it has not after the grace, the process ends here.
    ///
    /// The decision is taken under the lifecycle lock: whoever adopts the server does so before it, and is seen, or after it,
    /// and sees that the server ends.
    pub fn watch(mut self, presence: &Presence, clients: impl Fn() -> usize, end: impl FnOnce()) {
        let mut waits = false;
        loop {
            std::thread::sleep(self.timings.watchdog_poll);
            self.pass();
            presence.renew();
            self.sweep();
            if self.is_leased_or_kept() {
                waits = false;
                continue;
            }
            if clients() > 0 {
                if !std::mem::replace(&mut waits, true) {
                    crate::log::say("no active ds4 leases, but ds4-server still has clients; waiting");
                }
                continue;
            }
            let lock = match LifecycleLock::try_take(&self.dir, &mut self.nameless) {
                Ok(None) => continue, // somebody changes something
                Ok(lock) => lock,
                Err(_) => None, // the folder is gone, and with it all who could change anything
            };
            if self.is_leased_or_kept() || clients() > 0 {
                continue;
            }
            crate::log::say("no active ds4 leases; stopping ds4-server");
            presence.stopping();
            drop(lock);
            break;
        }
        end();
        std::thread::sleep(self.timings.shutdown_grace);
        crate::log::say("ds4-server did not end in time; killing it");
        presence.end();
        std::process::exit(1);
    }

    /// Counts the time since the last look, as far as it was awake.
    fn pass(&mut self) {
        self.awake += self.looked.elapsed().min(2 * self.timings.watchdog_poll);
        self.looked = Instant::now();
    }

    fn is_leased_or_kept(&mut self) -> bool {
        let leased = self.valid_leases() > 0;
        self.leased |= leased;
        leased || self.dir.keep().exists() || !self.leased && self.awake < self.timings.first_lease
    }

    /// How many leases count.
    fn valid_leases(&mut self) -> usize {
        let leases = lease::all(&self.dir);
        self.seen.retain(|path, _| leases.iter().any(|lease| lease.path == *path));
        let ttl = self.timings.lease_ttl;
        leases.iter().filter(|lease| lease.lives() && self.age(lease).0 <= ttl).count()
    }

    /// Removes leases whose process is gone, and those that nobody confirmed while this one watched. One that was old at
    /// first sight stays until then: its holder may have slept with the machine. Under the lifecycle lock, since whoever
    /// writes a lease has it.
    fn sweep(&mut self) {
        let ttl = self.timings.lease_ttl;
        let leases = lease::all(&self.dir);
        if leases.iter().all(|lease| self.keeps(lease, ttl)) {
            return;
        }
        let Ok(Some(_lock)) = LifecycleLock::try_take(&self.dir, &mut self.nameless) else { return };
        for lease in lease::all(&self.dir) {
            if !self.keeps(&lease, ttl) {
                // Whoever released it was faster.
                let _ = std::fs::remove_file(&lease.path);
            }
        }
    }

    fn keeps(&mut self, lease: &Lease, ttl: Duration) -> bool {
        lease.lives() && self.age(lease).1 <= ttl
    }

    /// How long ago a lease was confirmed: by the clock at first sight and then by the time awake; and by the latter alone.
    fn age(&mut self, lease: &Lease) -> (Duration, Duration) {
        let (confirmed, at) = (lease.confirmed, self.awake);
        if let Some(sighting) = self.seen.get(&lease.path).filter(|sighting| sighting.confirmed == confirmed) {
            let watched = at - sighting.at;
            return (sighting.age + watched, watched);
        }
        // A new confirmation is fresh, whatever the clock says by now.
        let is_new = !self.seen.contains_key(&lease.path);
        let age = if is_new { confirmed.elapsed().unwrap_or_default() } else { Duration::ZERO };
        self.seen.insert(lease.path.clone(), Sighting { confirmed, age, at });
        (age, Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn watchdog() -> (tempfile::TempDir, Watchdog) {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::at(folder.path()).unwrap();
        lease::take(&dir, std::process::id(), "/").unwrap();
        (folder, Watchdog::new(&dir, Timings::default()))
    }

    fn confirm(watchdog: &Watchdog, at: SystemTime) {
        let path = watchdog.dir.lease(std::process::id());
        File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    }

    #[test]
    fn a_lease_that_is_not_confirmed_gets_old_while_somebody_watches() {
        let (_folder, mut watchdog) = watchdog();
        assert_eq!(watchdog.valid_leases(), 1);
        watchdog.awake += Duration::from_secs(44);
        assert_eq!(watchdog.valid_leases(), 1);
        confirm(&watchdog, SystemTime::now() + Duration::from_millis(10));
        watchdog.awake += Duration::from_secs(44);
        assert_eq!(watchdog.valid_leases(), 1, "it was confirmed in between");
        watchdog.awake += Duration::from_secs(46);
        assert_eq!(watchdog.valid_leases(), 0);
        watchdog.sweep();
        assert!(!watchdog.dir.lease(std::process::id()).exists());
    }

    #[test]
    fn one_that_is_old_at_first_sight_counts_once_it_is_confirmed() {
        let (_folder, mut watchdog) = watchdog();
        confirm(&watchdog, SystemTime::now() - Duration::from_secs(46));
        assert_eq!(watchdog.valid_leases(), 0);
        watchdog.sweep();
        // Its holder slept with the machine.
        confirm(&watchdog, SystemTime::now() - Duration::from_secs(40));
        assert_eq!(watchdog.valid_leases(), 1);
    }

    #[test]
    fn only_who_has_the_lifecycle_lock_removes_leases() {
        let (_folder, mut watchdog) = watchdog();
        let path = watchdog.dir.lease(std::process::id());
        std::fs::write(&path, "no lease").unwrap();
        let lock = LifecycleLock::try_take(&watchdog.dir, &mut Nameless::default()).unwrap().unwrap();
        watchdog.sweep();
        assert!(path.exists());
        drop(lock);
        watchdog.sweep();
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_without_an_owner_holds_up_nobody_for_ever() {
        let (_folder, mut watchdog) = watchdog();
        std::fs::create_dir(watchdog.dir.lock()).unwrap();
        let start = Instant::now();
        while LifecycleLock::try_take(&watchdog.dir, &mut watchdog.nameless).unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    #[test]
    fn neither_sleep_nor_a_clock_that_is_set_makes_a_lease_old() {
        let (_folder, mut watchdog) = watchdog();
        assert_eq!(watchdog.valid_leases(), 1);
        // As if the clock had gone an hour ahead since, or back.
        for at in [SystemTime::now() - Duration::from_secs(3600), SystemTime::now() + Duration::from_secs(3600)] {
            confirm(&watchdog, at);
            assert_eq!(watchdog.valid_leases(), 1);
        }
        // As if nothing of this machine had run for an hour.
        let Some(hour_ago) = Instant::now().checked_sub(Duration::from_secs(3600)) else { return };
        watchdog.looked = hour_ago;
        watchdog.pass();
        assert_eq!(watchdog.valid_leases(), 1);
        assert!(watchdog.awake <= 2 * watchdog.timings.watchdog_poll);
    }

    #[test]
    fn without_a_lease_it_waits_for_the_first_one_a_while() {
        let (_folder, mut watchdog) = watchdog();
        lease::release(&watchdog.dir, std::process::id()).unwrap();
        assert!(watchdog.is_leased_or_kept());
        watchdog.awake += Duration::from_secs(61);
        assert!(!watchdog.is_leased_or_kept());
        std::fs::write(watchdog.dir.keep(), "").unwrap();
        assert!(watchdog.is_leased_or_kept());
    }
}
