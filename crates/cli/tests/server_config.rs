//! Settings of `ds4 serve` from a file, the environment and flags.

mod common;

use common::server::Server;
use common::{Home, Said, said};

/// Runs `ds4 serve --print-config` with a file, variables and flags.
fn print(file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Said {
    let home = Home::new();
    std::fs::write(home.file("ds4.toml"), file).unwrap();
    let mut command = home.command(&[&["serve", "--config", "ds4.toml", "--print-config"], flags].concat());
    said(command.envs(variables.iter().copied()).output().unwrap())
}

#[test]
fn the_file_gives_way_to_variables_and_these_to_flags() {
    let file = "queue = 1\nport = 1\nctx = 1000\ncors = true\nhost = \"localhost\"\nthreads = 3\n";
    let variables =
        [("DS4_SERVER_QUEUE", "2"), ("DS4_SERVER_PORT", "2"), ("DS4_THREADS", "2"), ("DS4_SERVER_CORS", "false")];
    let printed = print(file, &variables, &["--queue", "3"]).answer();
    for line in [
        "queue = 3  # --queue",
        "port = 2  # DS4_SERVER_PORT",
        "threads = 2  # DS4_THREADS",
        "ctx = 1000  # ds4.toml",
        "host = \"localhost\"  # ds4.toml",
        "cors = false  # DS4_SERVER_CORS",
        "prefill-quantum = 250  # default",
        "# trace is not set",
    ] {
        assert!(printed.lines().any(|l| l == line), "{line} is not in\n{printed}");
    }
    // What is printed is a file that says the same.
    let again = print(&printed, &[], &[]).answer();
    let values = |text: &str| text.lines().map(|l| l.split("  # ").next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(values(&again), values(&printed));
}

#[test]
fn keys_are_counted_and_never_printed() {
    let printed = print("api-key = [\"alpha\", \"beta\"]", &[], &[]).answer();
    assert!(printed.contains("# api-key: 2 hidden, from ds4.toml\n") && !printed.contains("alpha"), "{printed}");
    let printed = print("api-key = \"alpha\"", &[("DS4_SERVER_API_KEY", "gamma")], &[]).answer();
    assert!(
        printed.contains("# api-key: 1 hidden, from DS4_SERVER_API_KEY\n") && !printed.contains("gamma"),
        "{printed}"
    );
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let fails = |file: &str, line: &str| print(file, &[], &[]).fails(2, &format!("ds4: {line}"));
    fails("quue = 1", "ds4.toml: unknown key quue; did you mean queue?");
    fails("frobnicate = 1", "ds4.toml: unknown key frobnicate; keys are the names of flags, see ds4 serve --help");
    fails("config = \"x\"", "ds4.toml: unknown key config; keys are the names of flags, see ds4 serve --help");
    fails("queue = \"many\"", "ds4.toml: invalid value for --queue: many (a whole number from 0 to 10000)");
    fails("queue = [1]", "ds4.toml: queue: takes one text, number, true or false");
    fails("cors = \"maybe\"", "ds4.toml: cors: \"maybe\" is neither true nor false");
    let said = print("a = 1\n= 2\n", &[], &[]);
    assert!(said.code == 2 && said.err.starts_with("ds4: ds4.toml: line 2: "), "{said:?}");
    print("", &[("DS4_SERVER_QUEUE", "x")], &[])
        .fails(2, "ds4: DS4_SERVER_QUEUE: invalid value for --queue: x (a whole number from 0 to 10000)");
    let said = print("", &[("DS4_SERVER_QUUE", "1"), ("DS4_SERVER_BINARY", "x")], &[]);
    assert_eq!(said.err, "ds4: DS4_SERVER_QUUE is no setting; did you mean DS4_SERVER_QUEUE?\n");
    Home::new().ds4(&["serve", "--config", "nowhere"]).fails(1, "ds4: nowhere: No such file or directory (os error 2)");
    Home::new()
        .ds4(&["serve", "--quue", "1"])
        .fails(2, "ds4: unknown option --quue (did you mean --queue?); ds4 serve --help lists what there is");
}

#[test]
fn a_server_runs_as_its_file_and_the_environment_say() {
    let home = Home::new();
    std::fs::write(home.file("ds4.toml"), "ctx = 700\nqueue = 3\napi-key = [\"k\"]\n").unwrap();
    let variables = [("DS4_CONFIG".into(), "ds4.toml".into()), ("DS4_SERVER_QUEUE".into(), "4".into())];
    let server = Server::start_with(home, &[], variables);
    let health = server.health();
    assert_eq!((health["context_length"].as_u64(), health["waiting_limit"].as_u64()), (Some(700), Some(4)));
    assert_eq!(server.get("/v1/models").status, 401);
}
