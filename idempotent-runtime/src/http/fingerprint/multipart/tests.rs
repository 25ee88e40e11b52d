use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyDataStream, Full};
use proptest::{collection::vec, prelude::*, sample::select};

use super::{boundary, parts};

const TYPE: &str = "multipart/form-data; boundary=X";
const NAME: &str = "Content-Disposition: form-data; name=\"name\"\r\n\r\nAda";
const FILE: &str = "Content-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\
    Content-Type: text/plain\r\n\r\nline\r\nanother\nand\r one\r\n";

fn encoded(boundary: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        body.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        body.extend_from_slice(part);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    body
}

fn content_type(boundary: &str) -> String {
    format!("multipart/form-data; boundary=\"{boundary}\"")
}

#[track_caller]
fn assert_parts(body: &str, expected: &[&str]) {
    let expected: Vec<_> = expected.iter().map(|part| part.as_bytes()).collect();
    assert_eq!(parts(TYPE.as_bytes(), body.as_bytes()), Some(expected), "of {body:?}");
}

#[track_caller]
fn assert_no_parts(body: &str) {
    assert_eq!(parts(TYPE.as_bytes(), body.as_bytes()), None, "of {body:?}");
}

#[test]
fn the_boundary_does_not_count() {
    let expected = Some(vec![NAME.as_bytes(), FILE.as_bytes()]);
    for boundary in [
        "X",
        "----WebKitFormBoundary7MA4YWxkTrZu0gW", // Chrome, Safari
        "----geckoformboundary3f2a0d7a5b1c",     // Firefox
        "---------------------------9051914041544843365972754266", // Firefox of before
        "------------------------d74496d66958873e", // curl
        "a2b3-4c5d-6e7f-8091",                   // reqwest
        "d17f16cbd1c1f3b9a6a0d1a3b1c5e7f9",      // requests
        "----formdata-undici-028374650192",      // undici
        "=_a b'c()+,./:?",                       // all that RFC 2046 allows
        "-",
        "--",
        "X--",
    ] {
        let body = encoded(boundary, &[NAME.as_bytes(), FILE.as_bytes()]);
        assert_eq!(parts(content_type(boundary).as_bytes(), &body), expected, "{boundary}");
    }
}

#[test]
fn a_part_is_given_as_it_is() {
    assert_parts("--X\r\nA: b\r\n\r\n\r\n--X--\r\n", &["A: b\r\n\r\n"]);
    assert_parts("--X\r\nA: b\r\n\r\n\r\n\r\n--X--\r\n", &["A: b\r\n\r\n\r\n"]);
    assert_parts("--X\r\nA: b\r\nC:d\r\n\r\n\r\n--X--\r\n", &["A: b\r\nC:d\r\n\r\n"]);
    // Near misses of the delimiter are content.
    assert_parts(
        "--X\r\nA: b\r\n\r\n-X\r\n- -X\r\n--x\r\n--\r\n\r\n--X--\r\n",
        &["A: b\r\n\r\n-X\r\n- -X\r\n--x\r\n--\r\n"],
    );
    let bytes: Vec<u8> = b"A: b\r\n\r\n".iter().copied().chain(0..=255).collect();
    assert_eq!(parts(TYPE.as_bytes(), &encoded("X", &[&bytes])), Some(vec![&bytes[..]]));
}

#[test]
fn another_part_is_another_form() {
    let form = |parts: &[&str]| {
        let parts: Vec<_> = parts.iter().map(|part| part.as_bytes()).collect();
        let body = encoded("X", &parts);
        let read: Vec<Vec<u8>> = super::parts(TYPE.as_bytes(), &body)
            .expect("strict")
            .into_iter()
            .map(Vec::from)
            .collect();
        read
    };
    let merged = format!("{NAME}\r\n{FILE}");
    let moved: [&[&str]; 8] = [
        &[NAME, FILE],
        &[FILE, NAME],
        &[NAME],
        &[NAME, NAME],
        &[NAME, FILE, FILE],
        &[&merged],
        &["A: b\r\n\r\nc", "A: b\r\n\r\nd"],
        &["A: b\r\n\r\ncA: b\r\n\r\nd"],
    ];
    for (index, left) in moved.iter().enumerate() {
        for right in &moved[index + 1..] {
            assert_ne!(form(left), form(right));
        }
    }
}

#[test]
fn one_byte_is_a_difference() {
    let body = encoded("X", &[NAME.as_bytes(), FILE.as_bytes()]);
    let before: Vec<_> = parts(TYPE.as_bytes(), &body).expect("strict");
    let mut last_line = body.len() - b"\r\n".len();
    for at in 0..last_line {
        for byte in [b'!', b'\r', b'\n', body[at] ^ 1] {
            let mut changed = body.clone();
            changed[at] = byte;
            let is_same = parts(TYPE.as_bytes(), &changed).as_ref() == Some(&before);
            assert_eq!(is_same, byte == body[at], "byte {at} as {byte}");
        }
    }
    // The end of the last line may be missing entirely.
    assert_eq!(parts(TYPE.as_bytes(), &body[..last_line]), Some(before));
    while last_line > 0 {
        last_line -= 1;
        assert_eq!(parts(TYPE.as_bytes(), &body[..last_line]), None);
    }
}

#[test]
fn a_form_may_be_empty() {
    assert_parts("--X--\r\n", &[]);
    assert_parts("--X--", &[]);
    assert_no_parts("");
    assert_no_parts("--");
    assert_no_parts("--X");
    assert_no_parts("--X\r\n");
}

#[test]
fn what_is_not_strict_has_no_parts() {
    assert_parts("--X\r\nA: b\r\n\r\nc\r\n--X--\r\n", &["A: b\r\n\r\nc"]);
    for body in [
        // line ends
        "--X\nA: b\n\nc\n--X--\n",
        "--X\nA: b\r\n\r\nc\r\n--X--\r\n",
        "--X\r\nA: b\n\r\n\r\nc\r\n--X--\r\n",
        "--X\r\nA: b\n\nc\r\n--X--\r\n",
        "--X\r\nA: b\r\n\nc\r\n\r\n\r\n--X--\r\n",
        "--X\r\nA: b\rC: d\r\n\r\nc\r\n--X--\r\n",
        "--X\r\nA: b\r\r\n\r\nc\r\n--X--\r\n",
        "--X\r\nA: b\r\n\r\nc\n--X--\r\n",
        "--X\r\nA: b\r\n\r\nc\r--X--\r\n",
        "--X\r\nA: b\r\n\r\nc\r\n--X--\n",
        "--X\r\nA: b\r\n\r\nc\r\n--X--\r",
        // before the first delimiter, after the last one
        "\r\n--X\r\nA: b\r\n\r\nc\r\n--X--\r\n",
        "preamble\r\n--X\r\nA: b\r\n\r\nc\r\n--X--\r\n",
        " --X\r\nA: b\r\n\r\nc\r\n--X--\r\n",
        "--X\r\nA: b\r\n\r\nc\r\n--X--\r\n\r\n",
        "--X\r\nA: b\r\n\r\nc\r\n--X--\r\nepilogue",
        "--X\r\nA: b\r\n\r\nc\r\n--X--epilogue",
        "--X\r\nA: b\r\n\r\nc\r\n--X--\r\n--X\r\nA: b\r\n\r\nc\r\n--X--\r\n",
        "--X--\r\nA: b\r\n\r\nc\r\n--X--\r\n",
        // padding
        "--X \r\nA: b\r\n\r\nc\r\n--X--\r\n",
        "--X\t\r\nA: b\r\n\r\nc\r\n--X--\r\n",
        "--X\r\nA: b\r\n\r\nc\r\n--X \r\nA: b\r\n\r\nc\r\n--X--\r\n",
        "--X\r\nA: b\r\n\r\nc\r\n--X-- \r\n",
        "--X\r\nA: b\r\n\r\nc\r\n--X --\r\n",
        // no end
        "--X\r\nA: b\r\n\r\nc",
        "--X\r\nA: b\r\n\r\nc\r\n",
        "--X\r\nA: b\r\n\r\nc\r\n--X\r\n",
        "--X\r\nA: b\r\n\r\nc\r\n--X-",
        "--X\r\nA: b\r\n\r\nc--X--\r\n",
        // another boundary that begins with this one
        "--XY\r\nA: b\r\n\r\nc\r\n--XY--\r\n",
        "--X\r\nA: b\r\n\r\nc\r\n--XY\r\nA: b\r\n\r\nc\r\n--X--\r\n",
        // the delimiter inside of a line
        "--X\r\nA: b\r\n\r\nc--X\r\n--X--\r\n",
        "--X\r\nA: b\r\n\r\nc\n--X\nA: b\n\nd\r\n--X--\r\n",
        "--X\r\nA: --X\r\n\r\nc\r\n--X--\r\n",
        "--X\r\n--X: b\r\n\r\nc\r\n--X--\r\n",
        "--X\r\nA: b\r\n--X\r\n\r\nc\r\n--X--\r\n",
        // no headers, no empty line
        "--X\r\n\r\nc\r\n--X--\r\n",
        "--X\r\n\r\n\r\nc\r\n--X--\r\n",
        "--X\r\n\r\n\r\n--X--\r\n",
        "--X\r\n\r\nA: b\r\n\r\nc\r\n--X--\r\n",
        "--X\r\nA: b\r\n--X--\r\n",
        "--X\r\nA: b\r\n\r\n--X--\r\n",
        "--X\r\n\r\n--X--\r\n",
        "--X\r\n--X--\r\n",
        "--X\r\nc\r\n--X--\r\n",
    ] {
        assert_no_parts(body);
    }
}

#[test]
fn a_boundary_is_read_bare_or_quoted() {
    let longest = "b".repeat(70);
    for (content_type, expected) in [
        ("multipart/form-data; boundary=X", "X"),
        ("multipart/form-data;boundary=X", "X"),
        ("multipart/form-data;   boundary=X", "X"),
        ("Multipart/Form-Data; BOUNDARY=X", "X"),
        ("multipart/form-data; boundary=\"X\"", "X"),
        ("multipart/form-data; boundary=\"a b:(c)\"", "a b:(c)"),
        ("multipart/form-data; boundary=aB'+_-.9", "aB'+_-.9"),
        ("multipart/form-data; charset=utf-8; boundary=X", "X"),
        ("multipart/form-data; boundary=X; charset=\"utf-8\"", "X"),
        ("multipart/form-data; x=\"; boundary=Y\"; boundary=X", "X"),
        ("multipart/form-data; xboundary=Y; boundary=X", "X"),
        (&format!("multipart/form-data; boundary={longest}"), &longest),
    ] {
        assert_eq!(boundary(content_type.as_bytes()), Some(expected), "{content_type}");
        assert_eq!(multer::parse_boundary(content_type).as_deref(), Ok(expected), "{content_type}");
    }
}

#[test]
fn a_boundary_that_readers_may_take_for_another_is_not_usable() {
    let too_long = format!("multipart/form-data; boundary={}", "b".repeat(71));
    for content_type in [
        "",
        "multipart/form-data",
        "multipart/form-data;",
        "multipart/form-data; charset=utf-8",
        "multipart/mixed; boundary=X",
        "multipart/form-data2; boundary=X",
        "text/plain; boundary=X",
        "application/x-www-form-urlencoded",
        " multipart/form-data; boundary=X",
        "multipart/form-data ; boundary=X",
        "multipart/form-data;\tboundary=X",
        "multipart/form-data; boundary=X ",
        "multipart/form-data; boundary=X;",
        "multipart/form-data; boundary=X; ",
        "multipart/form-data;; boundary=X",
        "multipart/form-data; boundary =X",
        "multipart/form-data; boundary= X",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"\"",
        "multipart/form-data; boundary",
        "multipart/form-data; boundary=\"X",
        "multipart/form-data; boundary=\"X\"Y",
        "multipart/form-data; boundary=\"X \"",
        "multipart/form-data; boundary=\"X\\\"Y\"",
        "multipart/form-data; boundary=\"X\\Y\"",
        "multipart/form-data; boundary=a/b",
        "multipart/form-data; boundary=a=b",
        "multipart/form-data; boundary=a b",
        "multipart/form-data; boundary=a&b",
        "multipart/form-data; boundary=\"a&b\"",
        "multipart/form-data; boundary='X\"",
        "multipart/form-data; boundary=é",
        "multipart/form-data; boundary=X; boundary=X",
        "multipart/form-data; boundary=X; Boundary=\"Y\"",
        "multipart/form-data; boundary=X; boundary*=Y",
        "multipart/form-data; boundary*0=X; boundary*1=Y",
        "multipart/form-data; boundary=X; x=\"\"",
        "multipart/form-data; boundary=X; x=\"\\\"; boundary=Y; z=\"",
        "multipart/form-data; boundary=X, multipart/form-data; boundary=Y",
        &too_long,
    ] {
        assert_eq!(boundary(content_type.as_bytes()), None, "{content_type}");
    }
    assert_eq!(boundary(b"multipart/form-data; boundary=\xff"), None);
}

/// What axum's `Multipart` reads: headers and content of each field, and how it ended.
fn read(content_type: &str, body: Vec<u8>) -> (Vec<(http::HeaderMap, Bytes)>, String) {
    let Ok(boundary) = multer::parse_boundary(content_type) else {
        return (Vec::new(), "not multipart".to_owned());
    };
    let stream = BodyDataStream::new(Full::<Bytes>::new(body.into()));
    let mut multipart = multer::Multipart::new::<_, Bytes, Infallible, _>(stream, boundary);
    let mut fields = Vec::new();
    let reading = async {
        while let Some(field) = multipart.next_field().await? {
            fields.push((field.headers().clone(), field.bytes().await?));
        }
        Ok::<(), multer::Error>(())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let end = runtime.block_on(reading);
    (fields, format!("{end:?}"))
}

/// Text made of what matters to a reader of multipart bodies.
fn pieces(most: usize) -> impl Strategy<Value = Vec<u8>> {
    let piece = select(vec![
        "\r\n", "\r\n", "\r\n\r\n", "\n", "\r", "--", "-", "b", "--b", "\r\n--b", "\n--b", "--b--",
        "--b\r\n", " ", "\t", "A: b", "A:b\r\n", "x", ":", "\0", "é",
    ]);
    vec(piece, 0..most).prop_map(|pieces| pieces.concat().into_bytes())
}

fn boundaries() -> impl Strategy<Value = &'static str> {
    select(vec!["b", "-", "--", "b-", "b--", "-b", "b b", "bb", "boundary"])
}

/// An almost strict body: parts with headers, arbitrary content, and at most one mistake.
fn bodies(boundary: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let part = (select(vec!["A: b\r\n\r\n", "A: b\r\nC: d\r\n\r\n", "A: b\r\n", ""]), pieces(4));
    let mistake =
        proptest::option::weighted(0.5, (any::<proptest::sample::Index>(), 0_usize..3, pieces(2)));
    (vec(part, 0..4), any::<bool>(), mistake).prop_map(move |(parts, has_line_end, mistake)| {
        let parts: Vec<Vec<u8>> = parts
            .into_iter()
            .map(|(headers, content)| [headers.as_bytes(), &content].concat())
            .collect();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let mut body = encoded(boundary, &parts);
        if !has_line_end {
            body.truncate(body.len() - 2);
        }
        if let Some((at, removed, added)) = mistake {
            let start = at.index(body.len() + 1);
            let end = (start + removed).min(body.len());
            body.splice(start..end, added);
        }
        body
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// What axum reads is a function of the parts: it reads the same from a body that has the same
    /// parts under a boundary that occurs in none of them. So equal parts are read as equal.
    #[test]
    fn axum_reads_from_a_body_what_it_reads_from_its_parts(
        (boundary, body) in boundaries().prop_flat_map(|boundary| (Just(boundary), bodies(boundary))),
    ) {
        let content_type = content_type(boundary);
        if let Some(parts) = parts(content_type.as_bytes(), &body) {
            let other = "another-boundary-0123456789";
            let same = encoded(other, &parts);
            let other = self::content_type(other);
            prop_assert_eq!(super::parts(other.as_bytes(), &same), Some(parts.clone()));

            let (fields, end) = read(&content_type, body.clone());
            let same = read(&other, same);
            prop_assert_eq!((&fields, &end), (&same.0, &same.1));
            if end == "Ok(())" {
                prop_assert_eq!(fields.len(), parts.len());
            }
        }
    }

    /// The converse: if axum finds different fields, the parts are different.
    #[test]
    fn bodies_that_axum_tells_apart_have_other_parts(
        (first, left) in boundaries().prop_flat_map(|boundary| (Just(boundary), bodies(boundary))),
        (second, right) in boundaries().prop_flat_map(|boundary| (Just(boundary), bodies(boundary))),
    ) {
        let (first, second) = (content_type(first), content_type(second));
        let both = (parts(first.as_bytes(), &left), parts(second.as_bytes(), &right));
        if let (Some(left_parts), Some(right_parts)) = both
            && read(&first, left.clone()) != read(&second, right.clone())
        {
            prop_assert_ne!(left_parts, right_parts);
        }
    }

    #[test]
    fn what_is_written_strictly_is_read_as_written(
        contents in vec(vec(any::<u8>(), 0..40), 0..5),
        boundary in "[0-9a-zA-Z'()+_,./:=?-][0-9a-zA-Z'()+_,./:=? -]{20,60}[0-9a-zA-Z'()+_,./:=?-]",
    ) {
        let with_header = |content: Vec<u8>| [b"A: b\r\n\r\n", &content[..]].concat();
        let written: Vec<Vec<u8>> = contents.into_iter().map(with_header).collect();
        let written: Vec<&[u8]> = written.iter().map(Vec::as_slice).collect();
        let body = encoded(&boundary, &written);
        prop_assert_eq!(parts(content_type(&boundary).as_bytes(), &body), Some(written));
    }

    #[test]
    fn axum_reads_the_same_boundary(
        essence in "multipart/form-data|Multipart/Form-data|multipart/mixed",
        parameters in concat!(
            "(;[ \t]?(boundary|Boundary|boundary\\*0|charset|x)?[ ]?=?",
            "(utf-8|\"utf-8\"|X|a b|\"a b\"|\"a \"|\"[ -~]{0,4}\"|[!-~]{0,4})){0,3}[; ]?",
        ),
    ) {
        let content_type = essence + &parameters;
        if let Some(boundary) = boundary(content_type.as_bytes()) {
            let read = multer::parse_boundary(&content_type);
            prop_assert_eq!(read.as_deref(), Ok(boundary), "{}", content_type);
        }
    }

    #[test]
    fn any_bytes_are_split_without_panic(content_type in vec(any::<u8>(), 0..60), body in pieces(12)) {
        let _ = parts(&content_type, &body);
        let _ = parts(b"multipart/form-data; boundary=b", &body);
        let _ = parts(&[b"multipart/form-data;", &content_type[..]].concat(), &body);
    }
}
