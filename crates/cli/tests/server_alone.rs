//! The server speaks to nobody but its clients (H248): in a network that has only itself, every connection is one of ours.

mod common;

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use common::server::{Server, ask};

/// Says to this test that it runs inside.
const INSIDE: &str = "DS4_TEST_ALONE";
const NAME: &str = "no_connection_leaves_the_server";

/// The counters of this network namespace, such as `Tcp ActiveOpens`.
fn counters() -> HashMap<String, u64> {
    let text = fs::read_to_string("/proc/net/snmp").unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let pairs = lines.chunks(2).filter(|pair| pair.len() == 2).flat_map(|pair| {
        let (protocol, names) = pair[0].split_once(": ").unwrap();
        let values = pair[1].split(' ').skip(1);
        names
            .split(' ')
            .zip(values)
            .map(move |(name, value)| (format!("{protocol} {name}"), value.parse().unwrap_or(0)))
    });
    pairs.collect()
}

#[test]
fn no_connection_leaves_the_server() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let program = std::env::current_exe().unwrap();
    let mut alone = Command::new("unshare");
    alone.args(["--user", "--map-root-user", "--net", "sh", "-c", "ip link set lo up || exit 77; exec \"$0\" \"$@\""]);
    let output = alone.arg(program).args(["--exact", NAME, "--nocapture"]).env(INSIDE, "1").output();
    let said =
        output.as_ref().map(|o| String::from_utf8_lossy(&o.stdout).into_owned() + &String::from_utf8_lossy(&o.stderr));
    match (&output, said) {
        (Ok(output), Ok(said)) if said.contains("running 1 test") => assert!(output.status.success(), "{said}"),
        _ => ds4_testkit::skip("server_alone: needs unshare and ip, and leave to make namespaces"),
    }
}

/// In a namespace whose only interface is the loopback and which has no routes.
fn inside() {
    let mut ours = 0;
    {
        let server = Server::start(&["--kv-disk-dir", "kv"]);
        for _ in 0..3 {
            server.chat(ask("What is 7 + 8?"));
            ours += 1;
        }
        for path in ["/health", "/v1/models", "/metrics"] {
            assert_eq!(server.get(path).status, 200);
            ours += 1;
        }
    }
    let counters = counters();
    assert_eq!(counters["Tcp ActiveOpens"], ours, "connections, of which we made {ours}");
    assert_eq!(counters["Udp OutDatagrams"], 0, "names that were asked for");
    assert_eq!(counters["Ip OutNoRoutes"], 0, "packets that found no way out");
}
