//! `ds4 lab convert`: what it says, what becomes of it when it is killed, and that the result answers.

mod common;

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use common::{Home, said};
use ds4_testkit::checkpoint::{Checkpoint, Sizes};
use rexpect::session::spawn_command;

/// A home with a checkpoint in `v4`.
fn home(sizes: &Sizes) -> Home {
    let home = Home::new();
    fs::create_dir(home.file("v4")).unwrap();
    Checkpoint::new(sizes).write_sharded(&home.file("v4"), 2);
    home
}

/// A checkpoint whose drafting block takes over a hundred megabytes in F32.
fn large() -> Home {
    home(&Sizes { hidden: 512, expert_ff: 512, experts: 32, vocab: 16, ratios: vec![0], seed: 1 })
}

/// Converts the drafting block to `out`, which needs no tokenizer.
fn arguments(out: &str) -> [&str; 8] {
    ["lab", "convert", "v4", "--mtp", "--type", "f32", "--out", out]
}

#[test]
fn killed_at_any_moment_it_continues_to_the_same_bytes() {
    let home = large();
    let said = home.ds4(&arguments("whole.gguf"));
    assert!(said.code == 0 && said.err.starts_with("ds4: converting 0.0/"), "{said:?}");
    let whole = fs::read(home.file("whole.gguf")).unwrap();

    let (mut kills, mut wait) = (0, Duration::from_millis(20));
    while kills < 100 {
        let mut child = home.command(&arguments("killed.gguf")).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(wait);
        child.kill().unwrap(); // SIGKILL
        if child.wait().unwrap().success() || home.file("killed.gguf").exists() {
            break;
        }
        kills += 1;
        // Another moment each time; longer ones, so that it ends on a slow machine too.
        wait = wait * 9 / 8 + Duration::from_millis(3);
    }
    assert!(kills > 0 && kills < 100, "{kills}");
    let _ = home.ds4(&arguments("killed.gguf")); // if it was killed between the last two steps
    assert!(fs::read(home.file("killed.gguf")).unwrap() == whole, "after {kills} kills");
}

#[test]
fn what_a_kill_leaves_is_continued_from_the_journal() {
    let home = large();
    assert_eq!(home.ds4(&arguments("whole.gguf")).code, 0);
    let journal = home.file("x.gguf.part.json");
    let mut child = home.command(&arguments("x.gguf")).stderr(Stdio::null()).spawn().unwrap();
    // Until it has counted some pieces.
    while !fs::read_to_string(&journal).is_ok_and(|json| !json.contains("\"done\":0,")) && !home.file("x.gguf").exists()
    {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let finished = home.file("x.gguf").exists(); // it was faster than this test
    if !finished {
        let said = home.ds4(&arguments("x.gguf"));
        assert!(said.code == 0 && said.err.contains("ds4: continuing from x.gguf.part"), "{said:?}");
    }
    assert!(fs::read(home.file("x.gguf")).unwrap() == fs::read(home.file("whole.gguf")).unwrap());
    assert!(finished || !home.file("x.gguf.part").exists() && !journal.exists());
}

#[test]
fn ctrl_c_keeps_the_work_and_says_so() {
    let home = large();
    let mut command = home.command(&arguments("x.gguf"));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !home.file("x.gguf.part").exists() && !home.file("x.gguf").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = child.id().to_string();
    let kill = format!("kill -INT {pid}"); // the shell's own: not every system has a program of this name
    assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    let said = said(child.wait_with_output().unwrap());
    if said.code != 0 {
        let last = said.err.lines().last().unwrap_or_default();
        let kept = "MB; the same command continues from x.gguf.part";
        assert!(said.code == 130 && last.starts_with("ds4: interrupted after ") && last.ends_with(kept), "{said:?}");
        assert_eq!(home.ds4(&arguments("x.gguf")).code, 0);
    }
    assert!(home.file("x.gguf").exists());
}

#[test]
fn a_terminal_gets_a_bar_and_only_the_result_stays() {
    let home = large();
    let mut terminal = spawn_command(home.command(&arguments("x.gguf")), Some(60_000)).unwrap();
    terminal.exp_string("ds4: converting ").unwrap();
    terminal.exp_string("left").unwrap();
    terminal.exp_string("x.gguf: ").unwrap();
    terminal.exp_eof().unwrap();
}

#[test]
fn an_official_checkpoint_becomes_a_model_that_answers() {
    let Some(tok) = ds4_testkit::oracle("tok") else { return };
    let home = home(&Sizes { hidden: 64, vocab: 129_280, ..Sizes::default() });
    fs::copy(tok.join("tokenizer.json"), home.file("v4/tokenizer.json")).unwrap();
    for format in ["f32", "q8_0"] {
        let said = home.ds4(&["lab", "convert", "v4", "--out", "v4.gguf", "--type", format, "--overwrite"]).answer();
        assert!(said.starts_with("v4.gguf: ") && said.ends_with(" MB\n"), "{said}");
        let said = home.ds4(&["-m", "v4.gguf", "-p", "Hello", "-n", "4", "--temp", "0", "--ctx", "512"]);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(
            home.ds4(&["lab", "inspect", "v4.gguf", "--check"]).answer().contains("every scale and value is finite")
        );
    }
}

#[test]
fn help_teaches_and_formats_to_come_are_named() {
    let home = Home::new();
    let help = home.ds4(&["lab", "convert", "--help"]).answer();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" "); // as if on one line
    for word in ["F8_E4M3", "model.safetensors.index.json", "the same command continues", "--experts q8_0"] {
        assert!(help.contains(word), "{word} in {help}");
    }
    let said = home.ds4(&["lab", "convert", "v4", "--out", "x", "--experts", "q4-k"]);
    said.fails(2, "ds4: invalid value for --experts: q4-k (Q4_K cannot be written yet; f32, f16, bf16 or q8_0)");
    let said = home.ds4(&["lab", "convert", "v4", "--out", "x", "--small", "q8_0"]);
    said.fails(2, "ds4: invalid value for --small: q8_0 (f32, f16 or bf16)");
    let said = home.ds4(&["lab", "convert", "v4", "--mtp", "--out", "x"]);
    said.fails(1, "ds4: v4/config.json: No such file or directory (os error 2)");
}
