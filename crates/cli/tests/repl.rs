//! Conversations: piped, and in a terminal.

mod common;

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use common::{Home, Said};
use rexpect::process::{Signal, WaitStatus};
use rexpect::session::{PtySession, spawn_command};

/// Types lines into a conversation that has no terminal.
fn talk(home: &Home, args: &[&str], lines: impl AsRef<[u8]>) -> Said {
    let mut child =
        home.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_ref()).unwrap();
    common::said(child.wait_with_output().unwrap())
}

#[test]
fn a_conversation_remembers_and_pays_only_for_what_is_new() {
    // H044: the second answer needs the first turn's text.
    let home = Home::new();
    let args = ["--nothink", "--temp", "0", "-sys", "The secret number is 4071."];
    let said = talk(&home, &args, "Hello\nWhat is the secret number?\n7+8\n");
    assert_eq!(said.code, 0);
    assert_eq!(said.out, "Hello! How can I help you today?\nThe number is 4071.\n15\n");
}

#[test]
fn commands_do_what_help_says() {
    // H045
    let home = Home::new();
    std::fs::write(home.file("turn.txt"), "7+8").unwrap();
    let lines = "/help\n/nothink\n/read turn.txt\n/think\n7+8\n/think-max\n/frob\n/ctx x\n/ctx 500\n/nothink\nHello\n\
                 /read nowhere\n/read\n/quit\nnever read\n";
    let said = talk(&home, &["--temp", "0"], lines);
    assert_eq!(said.code, 0);
    let (help, rest) = said.out.split_once("Ctrl-C              stop the answer under way\n").unwrap();
    assert!(help.contains("/read FILE"));
    assert_eq!(rest, "15\n7 + 8 = 15\n15\nHello! How can I help you today?\n");
    for line in [
        "ds4: unknown command: /frob; /help lists them",
        "ds4: invalid value for /ctx: x (a whole number from 1 to 2147483647)",
        "ds4: nowhere: No such file or directory (os error 2)",
        "ds4: missing value for /read; /help says which",
    ] {
        assert!(said.err.lines().any(|l| l == line), "{line}: {}", said.err);
    }
    assert!(said.err.contains("Think Max needs --ctx >= 393216, the context is 32768"));
    assert!(said.err.contains("ds4: context 500, memory:"));
}

#[test]
fn a_turn_that_does_not_fit_is_taken_back() {
    let home = Home::new();
    let long = "river ".repeat(200);
    let said = talk(&home, &["--nothink", "--temp", "0", "-c", "100"], format!("{long}\n7+8\n"));
    assert!(said.err.contains("the context holds 100"), "{}", said.err);
    assert_eq!((said.code, said.out.as_str()), (0, "15\n"));
}

#[test]
fn a_context_that_does_not_fit_leaves_the_conversation_as_it_was() {
    let home = Home::new();
    let args = ["--nothink", "--temp", "0", "-sys", "The secret number is 4071."];
    let said = talk(&home, &args, "Hello\n/ctx 2147483647\nWhat is the secret number?\n");
    assert!(said.err.contains("ds4: the model needs "), "{}", said.err);
    assert_eq!((said.code, said.out.as_str()), (0, "Hello! How can I help you today?\nThe number is 4071.\n"));
}

#[test]
fn a_full_context_names_the_ways_on_and_new_is_one() {
    let home = Home::new();
    let long = "river ".repeat(60);
    let said = talk(&home, &["--nothink", "--temp", "0", "-c", "100"], format!("{long}\n{long}\n/new\n7+8\n"));
    assert!(said.err.contains("the context holds 100; /new starts again, /ctx N with more room\n"), "{}", said.err);
    assert_eq!((said.code, said.out.as_str()), (0, "15\n"));
}

#[test]
fn bytes_that_are_no_text_cost_their_line_only() {
    let said = talk(&Home::new(), &["--nothink", "--temp", "0"], b"7+\xff8\n7+8\n");
    assert!(said.err.contains("ds4: the line is dropped: it is not valid UTF-8\n"), "{}", said.err);
    assert_eq!((said.code, said.out.as_str()), (0, "15\n"));

    let home = Home::new();
    let mut ds4 = terminal(&home, &["--nothink", "--temp", "0"]);
    ds4.exp_string("ds4> ").unwrap();
    ds4.process().get_file_handle().unwrap().write_all(b"\xff").unwrap();
    ds4.exp_string("not valid UTF-8").unwrap();
    ds4.exp_string("ds4> ").unwrap();
    ds4.send_line("7+8").unwrap();
    ds4.exp_string("15\r\n").unwrap();
}

/// A conversation in a pseudo-terminal.
fn terminal(home: &Home, args: &[&str]) -> PtySession {
    let mut command = home.command(args);
    command.env("TERM", "xterm");
    spawn_command(command, Some(60_000)).expect("a pseudo-terminal")
}

#[test]
fn a_terminal_has_a_prompt_dim_reasoning_and_history() {
    // H034, H047
    let home = Home::new();
    let mut ds4 = terminal(&home, &["--temp", "0"]);
    ds4.exp_string("ds4> ").unwrap();
    ds4.send_line("7+8").unwrap();
    ds4.exp_string("processing").unwrap();
    ds4.exp_string("\x1b[90m7 + 8 = 15\x1b[0m").unwrap();
    ds4.exp_string("15\r\n").unwrap();
    ds4.exp_string("ds4> ").unwrap();
    ds4.send_control('d').unwrap();
    ds4.exp_eof().unwrap();
    assert!(std::fs::read_to_string(home.file(".ds4_history")).unwrap().contains("7+8"));

    let mut again = terminal(&home, &["--temp", "0", "--nothink"]);
    again.exp_string("ds4> ").unwrap();
    again.send("\x1b[A").unwrap(); // arrow up
    again.flush().unwrap();
    again.exp_string("7+8").unwrap();
    again.send_line("").unwrap();
    again.exp_string("15\r\n").unwrap();
    again.send_line("/quit").unwrap();
    again.exp_eof().unwrap();
}

#[test]
fn ctrl_c_stops_the_answer_and_not_the_program() {
    // H046
    let home = Home::new();
    // Hot enough never to end by itself.
    let mut ds4 = terminal(&home, &["--nothink", "--temp", "100", "--min-p", "0", "--seed", "5"]);
    ds4.exp_string("ds4> ").unwrap();
    ds4.send_line("Hello").unwrap();
    ds4.exp_string("processing").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    ds4.send_control('c').unwrap();
    ds4.exp_string("ds4: interrupted").unwrap();
    ds4.exp_string("ds4> ").unwrap();
    ds4.send_control('c').unwrap();
    ds4.exp_string("/quit or Ctrl-D leaves").unwrap();
    ds4.send_line("/exit").unwrap();
    ds4.exp_eof().unwrap();
}

#[test]
fn ctrl_c_while_a_prompt_is_prepared_keeps_the_program() {
    let home = Home::new();
    std::fs::write(home.file("big.txt"), "The river goes to the sea. ".repeat(200_000)).unwrap();
    let mut ds4 = terminal(&home, &["--nothink", "--temp", "0"]);
    ds4.exp_string("ds4> ").unwrap();
    ds4.send_line("/read big.txt").unwrap();
    ds4.exp_string("\x1b[?2004l").unwrap(); // the line is read
    std::thread::sleep(Duration::from_millis(100));
    ds4.send_control('c').unwrap();
    ds4.exp_string("the context holds 32768").unwrap();
    ds4.exp_string("ds4> ").unwrap();
    ds4.send_line("7+8").unwrap();
    ds4.exp_string("15\r\n").unwrap();
}

#[test]
fn a_signal_at_the_prompt_leaves_the_terminal_as_it_was() {
    use rustix::termios::{LocalModes, tcgetattr};
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let home = Home::new();
        let ds4 = &mut terminal(&home, &["--nothink"]);
        let modes = |ds4: &PtySession| tcgetattr(ds4.process().get_file_handle().unwrap()).unwrap().local_modes;
        ds4.exp_string("ds4> ").unwrap();
        assert!(!modes(ds4).contains(LocalModes::ICANON), "a line is edited");
        ds4.process_mut().signal(signal).unwrap();
        ds4.exp_string("\x1b[?2004l").unwrap();
        let end = ds4.process().wait().unwrap();
        assert!(matches!(end, WaitStatus::Exited(_, c) if c == code), "{end:?}");
        assert!(modes(ds4).contains(LocalModes::ICANON | LocalModes::ISIG), "{signal:?}");
    }
}

#[test]
fn two_conversations_keep_each_others_history() {
    let home = Home::new();
    let mut both = ["lock", "another lock"].map(|lock| {
        let mut command = home.command(&["--nothink", "--temp", "0"]);
        command.env("TERM", "xterm").env("DS4_LOCK_FILE", home.file(lock));
        let mut ds4 = spawn_command(command, Some(60_000)).expect("a pseudo-terminal");
        ds4.exp_string("ds4> ").unwrap();
        ds4
    });
    for (which, line) in [(0, "/help"), (1, "/nothink"), (0, "/think")] {
        let ds4 = &mut both[which];
        ds4.send_line(line).unwrap();
        ds4.exp_string("\x1b[?2004l").unwrap();
        ds4.exp_string("ds4> ").unwrap();
    }
    let history = std::fs::read_to_string(home.file(".ds4_history")).unwrap();
    for line in ["/help", "/nothink", "/think"] {
        assert!(history.lines().any(|l| l == line), "{line}: {history}");
    }
}

#[test]
fn a_dumb_terminal_gets_no_colours_and_no_cursor() {
    let home = Home::new();
    for (name, value) in [("TERM", "dumb"), ("NO_COLOR", "1")] {
        let mut command = home.command(&["--temp", "0", "-p", "7+8"]);
        command.env("TERM", "xterm").env(name, value);
        let said = spawn_command(command, Some(60_000)).expect("a pseudo-terminal").exp_eof().unwrap();
        assert!(said.contains("15\r\n") && !said.contains("\x1b[36m") && !said.contains("\x1b[90m"), "{said:?}");
        assert_eq!(said.contains('\x1b'), name == "NO_COLOR", "{said:?}");
    }
}

#[test]
fn ctrl_c_ends_a_single_answer_with_130() {
    let home = Home::new();
    let mut command = home.command(&["--nothink", "--temp", "100", "--min-p", "0", "--seed", "5", "-p", "Hello"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let said = common::said(child.wait_with_output().unwrap());
    assert_eq!(said.code, 130, "{}", said.err);
    assert!(said.err.contains("ds4: interrupted") && said.err.contains("t/s"), "{}", said.err);
}
