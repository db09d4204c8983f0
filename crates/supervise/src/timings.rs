//! How long everything takes.

use std::time::Duration;

use crate::Error;

/// All waits and limits of time. The defaults are those that the files' other readers go by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timings {
    /// Between two signs of life of a lease.
    pub heartbeat: Duration,
    /// A lease without a sign of life for longer is none.
    pub lease_ttl: Duration,
    /// Between two looks of the watchdog.
    pub watchdog_poll: Duration,
    /// How long a server waits for the first lease.
    pub first_lease: Duration,
    /// How long running requests may go on once the server is asked to end.
    pub shutdown_grace: Duration,
    /// How long a killed process may take to be gone.
    pub kill_wait: Duration,
    /// How long a command waits while another changes something.
    pub lock_timeout: Duration,
    /// How long a server may take until it answers.
    pub ready_timeout: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            heartbeat: seconds(10),
            lease_ttl: seconds(45),
            watchdog_poll: seconds(2),
            first_lease: seconds(60),
            shutdown_grace: seconds(60),
            kill_wait: seconds(5),
            lock_timeout: seconds(30),
            ready_timeout: seconds(600),
        }
    }
}

impl Timings {
    /// The defaults, with what the environment says: `DS4_LEASE_TTL_S` (from which heartbeat and the wait for the first lease
    /// follow), `DS4_WATCHDOG_POLL_S`, `DS4_SHUTDOWN_GRACE_S`, `DS4_READY_TIMEOUT_MS`.
    pub fn from_environment() -> Result<Self, Error> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let mut timings = Self::default();
        let seconds = |name: &str| read(name, variable(name), 1.0, 0.05);
        if let Some(ttl) = seconds("DS4_LEASE_TTL_S")? {
            (timings.lease_ttl, timings.heartbeat, timings.first_lease) = (ttl, ttl * 10 / 45, ttl * 60 / 45);
        }
        timings.watchdog_poll = seconds("DS4_WATCHDOG_POLL_S")?.unwrap_or(timings.watchdog_poll);
        timings.shutdown_grace = seconds("DS4_SHUTDOWN_GRACE_S")?.unwrap_or(timings.shutdown_grace);
        let name = "DS4_READY_TIMEOUT_MS";
        timings.ready_timeout = read(name, variable(name), 1e-3, 1.0)?.unwrap_or(timings.ready_timeout);
        Ok(timings)
    }
}

/// A time from a variable, in units of so many seconds; none where it is not set.
fn read(name: &str, text: Option<String>, unit: f64, least: f64) -> Result<Option<Duration>, Error> {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(None) };
    let most = 86_400.0 / unit;
    match text.trim().parse::<f64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(Some(Duration::from_secs_f64(number * unit))),
        _ => Err(Error::Usage(format!("{name}: {text:?} is no number from {least} to {most}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_changes_times_and_nonsense_is_named() {
        let with = |name: &'static str, text: &'static str| {
            Timings::from_variables(|asked| (asked == name).then(|| text.to_owned()))
        };
        assert_eq!(with("DS4_READY_TIMEOUT_MS", "").unwrap(), Timings::default());
        assert_eq!(with("DS4_READY_TIMEOUT_MS", "1500").unwrap().ready_timeout, Duration::from_millis(1500));
        let fast = with("DS4_LEASE_TTL_S", "4.5").unwrap();
        assert_eq!((fast.heartbeat, fast.first_lease), (Duration::from_secs(1), Duration::from_secs(6)));
        for text in ["NaN", "inf", "-1", "0", "soon", "1e300"] {
            let why = with("DS4_READY_TIMEOUT_MS", text).unwrap_err();
            assert_eq!(why.to_string(), format!("DS4_READY_TIMEOUT_MS: {text:?} is no number from 1 to 86400000"));
            assert!(matches!(why, Error::Usage(_)));
        }
    }
}
