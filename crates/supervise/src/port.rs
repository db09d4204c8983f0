//! Who listens at a port.

use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// Whether anybody does, on this machine.
pub(crate) fn is_taken(port: u16) -> bool {
    TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), Duration::from_secs(1)).is_ok()
}

/// The process, where the system lets this one see it.
#[cfg(target_os = "linux")]
pub(crate) fn listener(port: u16) -> Option<u32> {
    let target = format!("socket:[{}]", sockets(port).next()?.inode);
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets.any(|found| found.as_os_str() == target.as_str())
    })
}

/// Elsewhere only privileged programs are told.
#[cfg(not(target_os = "linux"))]
pub(crate) fn listener(_port: u16) -> Option<u32> {
    None
}

/// The user who listens, where the system says it and it is neither this one nor root.
#[cfg(target_os = "linux")]
pub(crate) fn stranger(port: u16) -> Option<u32> {
    let this = rustix::process::geteuid().as_raw();
    sockets(port).map(|socket| socket.user).find(|user| ![0, this].contains(user))
}

/// Elsewhere only privileged programs are told.
#[cfg(not(target_os = "linux"))]
pub(crate) fn stranger(_port: u16) -> Option<u32> {
    None
}

/// A socket that listens.
#[cfg(target_os = "linux")]
#[derive(Debug, PartialEq)]
struct Socket {
    user: u32,
    inode: u64,
}

/// Those that listen at a port.
#[cfg(target_os = "linux")]
fn sockets(port: u16) -> impl Iterator<Item = Socket> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let lines = tables.into_iter().flat_map(|table| table.lines().map(str::to_owned).collect::<Vec<_>>());
    lines.filter_map(move |line| listening(&line, port))
}

/// The socket of a line of the kernel's table, if it listens at this port.
#[cfg(target_os = "linux")]
fn listening(line: &str, port: u16) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, local) = fields.get(1)?.rsplit_once(':')?;
    let listens = *fields.get(3)? == "0A" && u16::from_str_radix(local, 16) == Ok(port);
    let (user, inode) = (fields.get(7)?.parse().ok()?, fields.get(9)?.parse().ok()?);
    listens.then_some(Socket { user, inode })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(is_taken(port));
        assert_eq!((listener(port), stranger(port)), (Some(std::process::id()), None));
        drop(socket);
        assert!(!is_taken(port));
        assert_eq!(listener(port), None);
    }

    #[test]
    fn a_line_of_the_table_is_read() {
        let line =
            "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0";
        assert_eq!(listening(line, 8000), Some(Socket { user: 1000, inode: 4711 }));
        assert_eq!((listening(line, 8001), listening(&line.replace(" 0A ", " 01 "), 8000)), (None, None));
        assert_eq!(listening("  sl  local_address rem_address   st tx_queue", 8000), None);
    }
}
