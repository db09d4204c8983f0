//! One instance at a time.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use common::Home;

/// A `ds4` that waits for input with the lock in its hands.
fn holder(home: &Home) -> Child {
    let mut child =
        home.command(&[]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // The memory plan comes after the lock.
    let stderr = BufReader::new(child.stderr.take().unwrap());
    assert!(stderr.lines().map_while(Result::ok).any(|l| l.contains("memory:")));
    child
}

#[test]
fn a_second_instance_is_refused_until_the_first_is_gone() {
    // H016, H017
    let home = Home::new();
    let mut first = holder(&home);
    let line = format!("ds4: another ds4 process is already running (pid {}); refusing to start", first.id());
    let said = home.ds4(&["-p", "Hi"]);
    said.fails(2, &line);
    assert!(
        said.err.contains(&format!("ds4: process {} is ", first.id())) && said.err.contains("ds4 down"),
        "{said:?}"
    );
    assert_eq!(std::fs::read_to_string(home.file("lock")).unwrap(), format!("{}\n", first.id()));

    let elsewhere =
        common::said(home.command(&["-p", "Hi"]).env("DS4_LOCK_FILE", home.file("other")).output().unwrap());
    assert_eq!(elsewhere.code, 0, "another lock file is another instance");

    first.kill().unwrap(); // SIGKILL
    first.wait().unwrap();
    assert_eq!(home.ds4(&["-p", "Hi"]).code, 0);
}

#[test]
fn what_loads_no_weights_needs_no_lock() {
    // H018
    let home = Home::new();
    let mut first = holder(&home);
    assert_eq!(home.ds4(&["--help"]).code, 0);
    assert_eq!(home.ds4(&["--dump-tokens", "-p", "Hi"]).code, 0);
    assert_eq!(home.ds4(&["--inspect"]).code, 0);
    drop(first.stdin.take());
    assert!(first.wait().unwrap().success(), "the end of input ends a conversation");
}

#[test]
fn a_lock_that_cannot_be_made_is_named() {
    let home = Home::new();
    let said = common::said(home.command(&["-p", "Hi"]).env("DS4_LOCK_FILE", "/nowhere/lock").output().unwrap());
    let line = "ds4: /nowhere/lock: cannot open the instance lock: No such file or directory (os error 2)";
    said.fails(1, line);
}

#[test]
fn a_link_is_no_lock_and_what_it_leads_to_is_not_emptied() {
    let home = Home::new();
    std::fs::write(home.file("precious"), "text").unwrap();
    std::os::unix::fs::symlink(home.file("precious"), home.file("lock")).unwrap();
    let said = home.ds4(&["-p", "Hi"]);
    assert!(said.code == 1 && said.err.contains("because it is a link; remove it"), "{said:?}");
    assert_eq!(std::fs::read_to_string(home.file("precious")).unwrap(), "text");
}
