//! Who can reach the server at all: this machine, or others too.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// The addresses of a host. Any that others could reach is refused while `open`, that is, while there are no keys.
pub fn addresses(host: &str, port: u16, open: bool) -> io::Result<Vec<SocketAddr>> {
    let unknown =
        |e: io::Error| io::Error::new(e.kind(), format!("cannot listen at {host}:{port}: {e}; see --host and --port"));
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(unknown)?.collect();
    match addresses.iter().find(|address| open && !is_loopback(address)) {
        Some(address) => {
            let why = format!(
                "--host {host}: {} is reached from other machines, and everybody there could use this server; ask for a \
                 key (--api-key-file FILE or --api-key KEY), or let everybody in with --insecure",
                address.ip()
            );
            Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
        }
        None => Ok(addresses),
    }
}

/// Whether only this machine reaches it, in IPv4's words written as IPv6 too.
pub(crate) fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_key_only_this_machine_reaches_the_server() {
        for host in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "localhost"] {
            assert!(!addresses(host, 1, true).unwrap().is_empty(), "{host}");
        }
        for host in ["0.0.0.0", "::", "192.168.1.5", "fe80::1", "::ffff:10.0.0.1"] {
            let why = addresses(host, 1, true).unwrap_err().to_string();
            assert!(why.starts_with(&format!("--host {host}: ")), "{why}");
            assert!(why.contains("--api-key-file") && why.contains("--insecure"), "{why}");
            assert_eq!(addresses(host, 1, false).unwrap().len(), 1);
        }
    }
}
