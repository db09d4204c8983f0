//! An engine that fails for good ends the server, after those who wait have heard it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};

use ds4_engine::{Event, Model, Options, Request};
use ds4_server::{Config, Error, Source, Submitted, run};

/// Begins each request, and fails them all when it is told to.
struct Dying {
    options: Options,
    began: Sender<()>,
    end: Mutex<Receiver<()>>,
    dead: AtomicBool,
}

impl Source for Dying {
    fn submit(&self, request: Request) -> Result<Submitted<'_>, Error> {
        let total = request.tokens.len();
        self.began.send(()).unwrap();
        let events = std::iter::once(Event::Prefill { done: 0, total }).chain(std::iter::from_fn(move || {
            let _ = self.end.lock().unwrap().recv(); // an error says it, too
            self.dead.store(true, SeqCst);
            Some(Event::Failed("the device is gone".into()))
        }));
        Ok((Box::new(events), Arc::new(AtomicBool::new(false))))
    }

    fn health(&self) -> Result<(), String> {
        if self.dead.load(SeqCst) { Err("the device is gone".into()) } else { Ok(()) }
    }

    fn options(&self) -> &Options {
        &self.options
    }
}

/// Sends a chat.
fn ask(port: u16, stream: bool) -> TcpStream {
    let body = format!(r#"{{"messages": [{{"role": "user", "content": "Hello"}}], "stream": {stream}}}"#);
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    for _ in 0..600 {
        if let Ok(mut connection) = TcpStream::connect(("127.0.0.1", port)) {
            connection.write_all((head + &body).as_bytes()).unwrap();
            return connection;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the server does not listen");
}

#[test]
fn an_engine_that_cannot_run_any_more_ends_the_server_after_the_news() {
    let model = Arc::new(Model::open(&ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap());
    let (began, begins) = channel();
    let (kill, end) = channel();
    let options = Options { context: 100, sessions: 2, ..Options::default() };
    let source = Dying { options, began, end: Mutex::new(end), dead: AtomicBool::new(false) };
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let config = Config { addresses: vec![([127, 0, 0, 1], port).into()], ..Config::default() };
    let server = std::thread::spawn(move || run(Arc::new(source), model, &config));
    // Two that run, and one that waits.
    let clients = [ask(port, false), ask(port, true), ask(port, false)];
    let _silent = TcpStream::connect(("127.0.0.1", port)).unwrap();
    (0..2).for_each(|_| begins.recv().unwrap());
    drop(kill);
    let why = server.join().unwrap().unwrap_err().to_string();
    assert_eq!(why, "the engine cannot run any more: the device is gone; start the server again");
    let answers = clients.map(|mut client| {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(answers.iter().all(|answer| answer.contains("the device is gone")), "{answers:?}");
    let statuses = answers.each_ref().map(|answer| &answer[9..12]);
    assert_eq!(statuses, ["500", "200", "500"]);
}
