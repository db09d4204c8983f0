//! Files that are not models, seen from the command line.

mod common;

use common::{Home, model};

#[test]
fn what_is_not_a_model_is_refused_in_a_line() {
    // H009
    let home = Home::new();
    let original = std::fs::read(model()).unwrap();
    let broken = |name: &str, bytes: &[u8]| {
        std::fs::write(home.file(name), bytes).unwrap();
        let said = home.ds4(&["-m", name, "-p", "Hi"]);
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
        let line = said.err.lines().last().unwrap().to_string();
        assert!(line.starts_with(&format!("ds4: {name}: ")), "{line}");
        line
    };
    assert!(broken("empty.gguf", b"").contains("empty"));
    assert!(broken("text.gguf", b"hello, I am a text file of some length").contains("GGUF"));
    assert!(broken("half.gguf", &original[..original.len() / 2]).contains("truncated"));

    let mut other = original.clone();
    let at = other.windows(9).position(|w| w == b"deepseek4").unwrap();
    other[at..at + 9].copy_from_slice(b"minimaxm2");
    assert!(broken("other.gguf", &other).contains("architecture is \"minimaxm2\""));

    let mut q6 = original.clone();
    let name = b"blk.0.attn_kv.weight";
    let at = q6.windows(name.len()).position(|w| w == name).unwrap() + name.len() + 4 + 16;
    assert_eq!(q6[at], 8, "Q8_0");
    q6[at] = 14;
    let line = broken("q6.gguf", &q6);
    assert!(line.contains("blk.0.attn_kv.weight") && line.contains("Q6_K"), "{line}");

    let said = home.ds4(&["-m", ".", "-p", "Hi"]);
    assert!(said.code == 1 && said.err.contains("directory"), "{}", said.err);
    let said = home.ds4(&["-m", "nowhere.gguf", "-p", "Hi"]);
    assert!(said.code == 1 && said.err.contains("nowhere.gguf"), "{}", said.err);
}

/// What a process holds that is not mapped from a file, MiB, after short and long turns; none where the system does not tell.
#[cfg(target_os = "linux")]
#[test]
fn the_plan_says_what_memory_is_used() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;
    let home = Home::new();
    let long = "river ".repeat(3000);
    for (context, turn) in [("100", "Hello"), ("4096", "Hello"), ("32768", "Hello"), ("262144", &long)] {
        let mut child = home
            .command(&["-m", &model(), "-c", context])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let plan = lines.find(|l| l.contains("memory:")).unwrap();
        let planned = plan.split(" anonymous").next().unwrap().rsplit("+ ").next().unwrap();
        let planned: f64 = planned.strip_suffix(" MiB").unwrap().parse().unwrap();

        // A turn, so that everything was used once.
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{turn}").unwrap();
        lines.find(|l| l.contains("t/s")).unwrap();
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let used = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).unwrap();
        let used: f64 = used.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0;
        drop(stdin);
        assert!(child.wait().unwrap().success());
        println!("context {context}: {used:.2} MiB used, {planned} MiB planned");
        // Resume points take theirs when they are made.
        assert!(
            (0.6 * planned..=planned).contains(&used),
            "context {context}: {used:.1} MiB used, {planned} MiB planned"
        );
    }
}
