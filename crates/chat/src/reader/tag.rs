//! The tags of DSML, in every spelling that models come up with: `<｜DSML｜invoke`, with dropped, doubled or plain bars, with
//! spaces, or bare like `<invoke`.

/// Bytes of the longest tag; of one without attributes.
const MAX_TAG: usize = 1024;
const MAX_HEAD: usize = 64;

/// Tags by what they enclose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Calls,
    Invoke,
    Parameter,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) name: Option<String>,
    /// Whether the value is a text.
    pub(super) string: Option<bool>,
    /// The tag closes itself.
    pub(super) empty: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) kind: Kind,
    pub(super) closing: bool,
    /// Whether it has anything of `｜DSML｜`.
    pub(super) marked: bool,
    pub(super) attributes: Attributes,
}

/// What a text is that begins with `<` and was no tag one character ago.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scan {
    No,
    /// It may become a tag.
    More,
    Tag(Tag),
}

const WORDS: [(&str, Kind); 5] = [
    ("tool_calls", Kind::Calls),
    ("toolcalls", Kind::Calls),
    ("tool", Kind::Calls),
    ("invoke", Kind::Invoke),
    ("parameter", Kind::Parameter),
];

/// Any tag.
pub(super) fn scan(text: &str) -> Scan {
    let (mut tag, rest) = match head(text) {
        Ok(found) => found,
        Err(scan) => return scan,
    };
    if tag.closing || tag.kind == Kind::Calls {
        return ended(tag, text, rest);
    }
    // Only what ends may be a whole tag; looking at every character would take quadratic time.
    if !text.ends_with('>') && text.len() > MAX_HEAD {
        return if text.len() > MAX_TAG { Scan::No } else { Scan::More };
    }
    match attributes(rest) {
        Ok(attributes) => {
            tag.attributes = attributes;
            Scan::Tag(tag)
        }
        Err(More(true)) if text.len() <= MAX_TAG => Scan::More,
        Err(_) => Scan::No,
    }
}

/// The tag that opens a block of calls, and no other.
pub(super) fn scan_opening(text: &str) -> Scan {
    match head(text) {
        Ok((tag, rest)) if tag.kind == Kind::Calls && !tag.closing => ended(tag, text, rest),
        Ok(_) => Scan::No,
        Err(scan) => scan,
    }
}

/// A tag without attributes, of which `rest` follows the name.
fn ended(tag: Tag, text: &str, rest: &str) -> Scan {
    match rest.trim_ascii_start() {
        ">" => Scan::Tag(tag),
        "" if text.len() <= MAX_HEAD => Scan::More,
        _ => Scan::No,
    }
}

/// A tag up to its name, and what follows.
fn head(text: &str) -> Result<(Tag, &str), Scan> {
    let is_bar = |c| matches!(c, '｜' | '|' | ' ');
    let rest = text.strip_prefix('<').ok_or(Scan::No)?.trim_start_matches(' ');
    let (closing, rest) = rest.strip_prefix('/').map_or((false, rest), |rest| (true, rest));
    let inner = rest.trim_start_matches(is_bar);
    let (marked, name) = match inner.strip_prefix("DSML") {
        Some(name) => (true, name.trim_start_matches(is_bar)),
        None => (rest[..rest.len() - inner.len()].contains(['｜', '|']), inner),
    };
    let mut more = "DSML".starts_with(inner);
    for (word, kind) in WORDS {
        // A bare <tool> may be anything.
        let known = marked || word != "tool";
        match name.strip_prefix(word) {
            Some("") => more = true,
            Some(rest) if known && rest.starts_with(|c: char| c == '>' || c == '/' || c.is_ascii_whitespace()) => {
                return Ok((Tag { kind, closing, marked, attributes: Attributes::default() }, rest));
            }
            Some(_) => {}
            None => more |= word.starts_with(name),
        }
    }
    Err(if more && text.len() <= MAX_HEAD { Scan::More } else { Scan::No })
}

/// No attributes; whether there may be some once more has come.
struct More(bool);

/// Attributes up to the end of the tag, which is the end of `rest`.
fn attributes(mut rest: &str) -> Result<Attributes, More> {
    let mut attributes = Attributes::default();
    loop {
        rest = rest.trim_ascii_start();
        match rest {
            ">" => return Ok(attributes),
            "/>" => return Ok(Attributes { empty: true, ..attributes }),
            "" | "/" => return Err(More(true)),
            _ => {}
        }
        let key = &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())];
        let after = rest[key.len()..].trim_ascii_start();
        let Some(after) = after.strip_prefix('=').map(str::trim_ascii_start) else {
            return Err(More(!key.is_empty() && after.is_empty()));
        };
        let (value, after) = value(after)?;
        match (key, value) {
            ("name", _) if value.contains(|c: char| c == '<' || c.is_control()) => return Err(More(false)),
            ("name", _) => attributes.name = attributes.name.or_else(|| Some(unescape(value))),
            ("string", "true") => attributes.string = Some(true),
            ("string", "false") => attributes.string = Some(false),
            _ => {}
        }
        rest = after;
    }
}

/// An attribute's value, normally in quotes, and what follows.
fn value(text: &str) -> Result<(&str, &str), More> {
    for quote in ['"', '\''] {
        if let Some(value) = text.strip_prefix(quote) {
            return value.split_once(quote).ok_or(More(true));
        }
    }
    let end = text.find(|c: char| c == '>' || c.is_ascii_whitespace()).ok_or(More(true))?;
    Ok(text.split_at(end))
}

/// A text without XML's entities.
pub(super) fn unescape(text: &str) -> String {
    const ENTITIES: [(&str, char); 5] =
        [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>'), ("&quot;", '"'), ("&apos;", '\'')];
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let (entity, c) = ENTITIES.into_iter().find(|(entity, _)| rest.starts_with(entity)).unwrap_or(("&", '&'));
        plain.push(c);
        rest = &rest[entity.len()..];
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a text as it comes, and expects a tag exactly at its end.
    fn tag(text: &str) -> Option<Tag> {
        for (at, _) in text.char_indices().skip(1) {
            if scan(&text[..at]) != Scan::More {
                return None;
            }
        }
        match scan(text) {
            Scan::Tag(tag) => Some(tag),
            _ => None,
        }
    }

    #[test]
    fn a_tag_is_known_in_all_its_spellings() {
        for marked in
            ["<｜DSML｜invoke", "<DSML｜invoke", "<｜DSML invoke", "<|DSML|invoke", "< ｜ DSML ｜ invoke", "<｜invoke"]
        {
            let tag = tag(&format!("{marked} name=\"f\">")).unwrap();
            assert_eq!((tag.kind, tag.closing, tag.marked), (Kind::Invoke, false, true), "{marked}");
            assert_eq!(tag.attributes.name.as_deref(), Some("f"));
        }
        for calls in ["<tool_calls>", "<｜DSML｜toolcalls>", "<｜DSML｜tool>", "<｜DSML｜tool_calls\n>"] {
            assert_eq!(tag(calls).unwrap().kind, Kind::Calls, "{calls}");
        }
        let closing = tag("</DSML｜parameter>").unwrap();
        assert!(closing.closing && closing.marked && closing.kind == Kind::Parameter);
        for other in
            ["<tool>", "<tools>", "<invoked>", "<b>", "<｜User｜>", "</tool_calls x>", "<parameter name>", "<<"]
        {
            assert_eq!(tag(other), None, "{other}");
        }
    }

    #[test]
    fn attributes_are_read_as_models_write_them() {
        let read = |attributes: &str| tag(&format!("<parameter{attributes}>")).map(|tag| tag.attributes);
        let expected = |name: &str, string| Some(Attributes { name: Some(name.into()), string, empty: false });
        assert_eq!(read(" name=\"a>b\" string=\"false\""), expected("a>b", Some(false)));
        assert_eq!(read(" string='true'\n name = 'a'"), expected("a", Some(true)));
        assert_eq!(read(" name=a type=\"x\""), expected("a", None));
        assert_eq!(read(" name=\"&lt;a&amp;lt;&b\""), expected("<a&lt;&b", None));
        assert_eq!(read(""), Some(Attributes::default()));
        assert!(read(" name=\"a\" /").unwrap().empty);
        assert_eq!(read(" name=\"a\nb\""), None);
        assert_eq!(read(&format!(" name=\"{}\"", "x".repeat(MAX_TAG))), None);
    }
}
