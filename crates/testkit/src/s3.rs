//! An S3 server in the test's process, over a folder; it can be stopped.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A server with one bucket, `cache`, on this machine. It ends when it is dropped, and drops its connections.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts at a port; 0 is any. The bucket is a folder in `dir`.
    pub fn start(dir: &Path, port: u16) -> Self {
        std::fs::create_dir_all(dir.join("cache")).expect("the folder can be written");
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir).expect("the folder is there"));
        service.set_auth(SimpleAuth::from_single("user", "secret"));
        let service = service.build();
        let (stop, stopped) = oneshot::channel();
        let (started, start) = mpsc::channel();
        let serve = async move {
            let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
            started.send(listener.local_addr().expect("an address")).expect("somebody waits");
            loop {
                let (socket, _) = listener.accept().await.expect("connections come");
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service.clone()));
            }
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! { () = serve => {}, _ = stopped => {} }
            });
        });
        Self { address: start.recv().expect("the server starts"), stop: Some(stop), thread: Some(thread) }
    }

    /// The environment of its clients.
    pub fn environment(&self) -> [(String, String); 3] {
        let endpoint = format!("http://{}", self.address);
        [("ENDPOINT_URL", &*endpoint), ("ACCESS_KEY_ID", "user"), ("SECRET_ACCESS_KEY", "secret")]
            .map(|(name, value)| (format!("AWS_{name}"), value.into()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
        assert!(TcpStream::connect(self.address).is_err(), "nobody listens any more");
    }
}
