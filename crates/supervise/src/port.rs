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
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let socket = tables.iter().flat_map(|table| table.lines()).find_map(|line| listening_inode(line, port))?;
    let target = format!("socket:[{socket}]");
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

/// The socket of a line of the kernel's table, if it listens at this port.
#[cfg(target_os = "linux")]
fn listening_inode(line: &str, port: u16) -> Option<u64> {
    let mut fields = line.split_whitespace().skip(1);
    let (_, local) = fields.next()?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    let listens = state == "0A" && u16::from_str_radix(local, 16) == Ok(port);
    let inode = fields.nth(5)?.parse().ok()?;
    listens.then_some(inode)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(is_taken(port));
        assert_eq!(listener(port), Some(std::process::id()));
        drop(socket);
        assert!(!is_taken(port));
        assert_eq!(listener(port), None);
    }
}
