//! The parts of a `multipart/form-data` body: what stays the same when a client resends a form
//! under a new random boundary.
//!
//! [`parts`] returns the parts of a body in *strict form*:
//!
//! ```text
//! --boundary CRLF  *( part CRLF --boundary CRLF )  part CRLF --boundary--  [ CRLF ]
//! part = 1*( header line CRLF ) CRLF content
//! ```
//!
//! There is nothing before the first delimiter or after the last one, no white space follows a
//! delimiter, header lines are not empty and contain no CR or LF, and **`--boundary` occurs nowhere
//! else**, at the start of a line or not. Any other body, and any whose `Content-Type` has no
//! usable `boundary`, has no parts and counts as its bytes.
//!
//! A part is returned unchanged: its headers, the empty line and its content. So a request under
//! another boundary has the same parts only if it has as many, in the same order, byte for byte.
//!
//! # Why equal parts are read as equal
//!
//! A body in strict form can be split in only one way, and what a reader makes of a part, even an
//! error, is then a function of the part's bytes.
//!
//! - Delimiters: a reader looks for `--boundary` after CRLF, after LF or anywhere. Each of these
//!   searches finds the same places, since there are no others, and each is followed by CRLF or,
//!   once, by the final `--`.
//! - Headers: they end at the first empty line. A reader that accepts LF finds the same one, since
//!   no bare LF comes before it. There is at least one header line, and the CRLF of the empty line
//!   is not that of the delimiter. Otherwise `multer`, which axum's `Multipart` is built on, would
//!   read past a part that begins with its empty line, or has no content and saves a CRLF: it
//!   searches for CRLF CRLF, then for CRLF and the delimiter.
//! - The boundary: it is read from a `Content-Type` that leaves no choice. Repeated parameters,
//!   empty values, escapes, continuations (`boundary*0=`) and white space that only some readers
//!   accept make it unusable.
//!
//! The CRLF after the last delimiter may be missing and does not count: browsers, curl, reqwest and
//! requests (Python) send it, undici (the `fetch` of Node.js) for a long time did not, and no
//! reader derives anything from it. A form without any part (`--boundary--`, which an empty
//! `FormData` produces) has an empty list.
//!
//! The time is linear in the length of the body, whatever the boundary.

use memchr::memmem;

const ESSENCE: &str = "multipart/form-data";
const CRLF: &[u8] = b"\r\n";

/// The parts of `body`, each with its headers, or `None` if it is not in strict form.
///
/// `content_type` is the value of the request's `Content-Type`. Parameters other than `boundary`
/// are ignored.
pub(crate) fn parts<'a>(content_type: &[u8], body: &'a [u8]) -> Option<Vec<&'a [u8]>> {
    let delimiter = format!("--{}", boundary(content_type)?);
    let delimiter = memmem::Finder::new(&delimiter);
    let empty_line = memmem::Finder::new(b"\r\n\r\n");

    let mut parts = Vec::new();
    let mut rest = body.strip_prefix(delimiter.needle())?;
    while !matches!(rest, b"--" | b"--\r\n") {
        rest = rest.strip_prefix(CRLF)?;
        let (part, following) = rest.split_at_checked(delimiter.find(rest)?)?;
        let part = part.strip_suffix(CRLF)?;
        let headers = part.get(..empty_line.find(part)? + CRLF.len())?;
        if !headers.split_inclusive(|byte| *byte == b'\n').all(is_header_line) {
            return None;
        }
        parts.push(part);
        rest = following.strip_prefix(delimiter.needle())?;
    }
    Some(parts)
}

/// Whether a line that ends at its first LF also ends at its first CR, and is not empty.
fn is_header_line(line: &[u8]) -> bool {
    line.strip_suffix(CRLF).is_some_and(|text| !text.is_empty() && !text.contains(&b'\r'))
}

/// The boundary in a `Content-Type` of `multipart/form-data`, if all readers agree on it.
fn boundary(content_type: &[u8]) -> Option<&str> {
    let content_type = std::str::from_utf8(content_type).ok()?;
    let (essence, mut rest) = content_type.split_at_checked(ESSENCE.len())?;
    if !essence.eq_ignore_ascii_case(ESSENCE) {
        return None;
    }
    let mut boundary = None;
    while !rest.is_empty() {
        let (name, value, next) = parameter(rest)?;
        rest = next;
        let name = name.to_ascii_lowercase();
        if name == "boundary" {
            if boundary.replace(value).is_some() {
                return None;
            }
        } else if name.starts_with("boundary*") {
            return None; // RFC 2231: the same parameter in another guise
        }
    }
    boundary.filter(|boundary| is_boundary(boundary))
}

/// Splits `; name=value`, bare or quoted, off a list of parameters; returns the name, the value and
/// the rest.
fn parameter(list: &str) -> Option<(&str, &str, &str)> {
    let list = list.strip_prefix(';')?.trim_start_matches(' ');
    let (name, list) = token(list)?;
    let list = list.strip_prefix('=')?;
    let (value, rest) = match list.strip_prefix('"') {
        // Some readers would end the string at an escaped quote.
        Some(quoted) => quoted.split_once('"').filter(|(value, _)| !value.contains('\\'))?,
        None => token(list)?,
    };
    let is_text = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    (!value.is_empty() && is_text).then_some((name, value, rest))
}

/// Splits a token (RFC 9110, section 5.6.2) off `text`.
fn token(text: &str) -> Option<(&str, &str)> {
    let in_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let len = text.bytes().position(|byte| !in_token(byte)).unwrap_or(text.len());
    text.split_at_checked(len).filter(|(token, _)| !token.is_empty())
}

/// RFC 2046, section 5.1.1: 1 to 70 `bchars`, the last of which is not a space.
fn is_boundary(text: &str) -> bool {
    let in_boundary = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    (1..=70).contains(&text.len()) && !text.ends_with(' ') && text.bytes().all(in_boundary)
}

#[cfg(test)]
mod tests;
