//! The names of the programs that came before: each is `ds4` with a subcommand.

mod common;

use std::os::unix::fs::symlink;
use std::process::Command;

use common::{Home, said};

#[test]
fn what_is_not_built_yet_says_so_under_both_names() {
    let home = Home::new();
    for (program, subcommand) in [(env!("CARGO_BIN_EXE_ds4-eval"), "eval"), (env!("CARGO_BIN_EXE_ds4-agent"), "agent")]
    {
        let line = format!("ds4: {subcommand} is not built yet; ds4 --help lists what there is");
        home.ds4(&[subcommand, "--help"]).fails(2, &line);
        said(Command::new(program).arg("--help").output().unwrap()).fails(2, &line);
    }
}

#[test]
fn a_name_is_its_subcommand() {
    let home = Home::new();
    let bench = said(Command::new(env!("CARGO_BIN_EXE_ds4-bench")).arg("--help").output().unwrap());
    assert_eq!((bench.code, bench.err.as_str()), (0, ""));
    assert_eq!(home.ds4(&["bench", "--help"]).out, bench.out);
}

#[test]
fn a_link_to_a_name_works_and_a_lost_program_says_what_it_misses() {
    let home = Home::new();
    symlink(env!("CARGO_BIN_EXE_ds4-bench"), home.file("bench")).unwrap();
    assert_eq!(said(Command::new(home.file("bench")).output().unwrap()).code, 2);

    std::fs::copy(env!("CARGO_BIN_EXE_ds4-bench"), home.file("alone")).unwrap();
    let said = said(Command::new(home.file("alone")).output().unwrap());
    assert_eq!(said.code, 1);
    assert!(said.err.contains("cannot run") && said.err.ends_with("it belongs beside this program\n"), "{}", said.err);
}
