//! The page at `/`: a few files inside the program, which talk to the API like any client. `page/` has them.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;

/// A file, as it is given out.
struct File {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! files {
    ($($path:literal $name:literal $kind:literal)*) => {
        [$(File { path: $path, kind: $kind, text: include_str!(concat!("page/", $name)) }),*]
    };
}

const FILES: [File; 12] = files! {
    "/" "index.html" "text/html; charset=utf-8"
    "/page/style.css" "style.css" "text/css; charset=utf-8"
    "/page/icon.svg" "icon.svg" "image/svg+xml"
    "/page/main.js" "main.js" "text/javascript; charset=utf-8"
    "/page/api.js" "api.js" "text/javascript; charset=utf-8"
    "/page/chat.js" "chat.js" "text/javascript; charset=utf-8"
    "/page/dom.js" "dom.js" "text/javascript; charset=utf-8"
    "/page/live.js" "live.js" "text/javascript; charset=utf-8"
    "/page/markdown.js" "markdown.js" "text/javascript; charset=utf-8"
    "/page/settings.js" "settings.js" "text/javascript; charset=utf-8"
    "/page/store.js" "store.js" "text/javascript; charset=utf-8"
    "/page/turns.js" "turns.js" "text/javascript; charset=utf-8"
};

/// What the page may do: load its own files and talk to its own server, nothing else. Text never becomes markup: there
/// are no inline scripts, and the ways to make one from a string are closed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

/// The headers that all files share.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-cache"), // kept, but asked for each time: a new program has new files
];

/// The paths of the page.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |router, file| {
        let tag = tag(file.text);
        router.route(file.path, get(async move |headers: HeaderMap| answer(file, &tag, &headers)))
    })
}

/// Whether the page has a file at this path.
pub(crate) fn has(path: &str) -> bool {
    FILES.iter().any(|file| file.path == path)
}

/// The file, or 304 where the browser has it.
fn answer(file: &File, tag: &HeaderValue, request: &HeaderMap) -> Response {
    let known = request.get(header::IF_NONE_MATCH) == Some(tag);
    let mut response = Response::new(Body::from(if known { "" } else { file.text }));
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.extend(HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
    headers.insert(header::ETAG, tag.clone());
    response
}

/// A name for a text: FNV-1a of its bytes.
fn tag(text: &str) -> HeaderValue {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    HeaderValue::from_str(&format!("\"{hash:016x}\"")).expect("hex digits are a header's value")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands between quotes after each `start`.
    fn quoted<'t>(text: &'t str, start: &'t str) -> impl Iterator<Item = &'t str> {
        text.split(start).skip(1).filter_map(|rest| rest.split('"').next())
    }

    #[test]
    fn every_file_that_the_page_names_is_here_and_nothing_comes_from_elsewhere() {
        let paths = FILES.map(|file| file.path);
        for File { path, text, .. } in &FILES {
            for name in quoted(text, "src=\"").chain(quoted(text, "href=\"")).filter(|name| !name.starts_with('#')) {
                assert!(paths.contains(&name), "{path}: {name}");
            }
            for name in quoted(text, "from \"./") {
                assert!(paths.contains(&format!("/page/{name}").as_str()), "{path}: {name}");
            }
            let outside = text.replace("http://www.w3.org/", ""); // names of SVG
            assert!(!outside.contains("http://") && !outside.contains("//cdn"), "{path}");
        }
    }

    #[test]
    fn nothing_makes_markup_of_text() {
        for File { path, text, .. } in &FILES {
            for way in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "DOMParser",
                " style=\"",
                "onclick=",
            ] {
                assert!(!text.contains(way), "{path}: {way}");
            }
        }
    }

    #[test]
    fn names_of_texts_differ() {
        let tags: std::collections::HashSet<_> = FILES.map(|file| tag(file.text)).into();
        assert_eq!(tags.len(), FILES.len());
    }
}
