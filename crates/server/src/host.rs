//! By which name a request came. Any web site can let its own name point at this machine (DNS rebinding), and then the
//! browser counts what its pages load from here as that site's. So a server that only this machine can reach answers to
//! names of this machine only.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::reach::is_loopback;
use crate::server::Server;
use crate::{Config, Error};

/// Ends of names that no public server can have.
const LOCAL: [&str; 4] = [".localhost", ".local", ".internal", ".home.arpa"];

/// Whether only this machine is to reach the server, and by no other name: not where there are keys, which no site has,
/// and not where all origins are let in anyway.
pub(crate) fn local_names_only(config: &Config) -> bool {
    config.addresses.iter().all(is_loopback) && config.keys.is_empty() && !config.cors
}

/// Refuses requests that came by the name of a site.
pub(crate) async fn check(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let cross_site = request.headers().get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    // A site may link to the page, but not make requests in its visitor's name.
    if server.local_names_only && cross_site && request.method() == Method::POST {
        return Error::CrossSite.response(Error::openai);
    }
    let name = request.headers().get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    match name.filter(|name| server.local_names_only && !is_local(name)) {
        Some(name) => Error::ForeignName(name).response(Error::openai),
        None => next.run(request).await,
    }
}

/// Whether nobody outside can own this name: an address, a word without a dot, a name that ends in one of [`LOCAL`].
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    address.parse::<IpAddr>().is_ok() || !name.contains('.') || LOCAL.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_site_can_own_are_told_from_those_that_it_cannot() {
        let ours = [
            "127.0.0.1:8000",
            "127.0.0.1",
            "[::1]:8000",
            "[::1]",
            "192.168.1.5:8000",
            "localhost",
            "localhost:8000",
            "localhost.",
            "workstation:8000",
            "workstation.local",
            "ds4.localhost:1",
            "host.docker.internal:8000",
            "",
        ];
        assert_eq!(ours.iter().find(|name| !is_local(name)), None);
        let theirs = [
            "evil.com",
            "evil.com:8000",
            "evil.com.",
            "localhost.evil.com",
            "127.0.0.1.evil.com:8000",
            "evil.com:local",
            "local.com",
            "[::1].evil.com",
            "notlocal.de",
        ];
        assert_eq!(theirs.iter().find(|name| is_local(name)), None);
    }
}
