//! Properties of what reads and identifies requests: it never panics, equal input gives equal
//! output, and different input different output.

use ::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use proptest::{collection::vec, option, prelude::*, sample::Index};

use crate::{
    engine::{DigestSecret, Digesting, Key, key::store_key, record::Unreadable},
    fuzzing::{self, decode, now},
    http::{
        body::Chunks,
        fingerprint::Unsalted,
        key,
        policy::{FingerprintSource, Format, Policy},
        scope::Scope,
        stored,
    },
    store::Fingerprint,
};

const UUID: Policy = Policy::DEFAULT;
const ANY: Policy = Policy { format: Format::Any, ..Policy::DEFAULT };

fn headers(lines: &[(&HeaderName, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, line) in lines {
        let line = HeaderValue::from_str(line).expect("visible ASCII");
        headers.append(*name, line);
    }
    headers
}

fn code(policy: &Policy, lines: &[(&HeaderName, &str)]) -> &'static str {
    read(policy, lines).expect_err("a problem")
}

/// The text of the key in `lines`, or the code of the problem.
fn read(policy: &Policy, lines: &[(&HeaderName, &str)]) -> Result<Option<String>, &'static str> {
    match key::read(policy, &headers(lines)) {
        Ok(key) => Ok(key.map(Key::into_text)),
        Err(problem) => Err(problem.code().as_str()),
    }
}

/// A UUID that is neither nil nor max.
fn uuid() -> impl Strategy<Value = uuid::Uuid> {
    (1..u128::MAX).prop_map(uuid::Uuid::from_u128)
}

/// A key of the format `any` that can be sent bare.
fn any_key() -> impl Strategy<Value = String> {
    "[!#-~]([ -~]{0,253}[!-~])?"
}

proptest! {
    #[test]
    fn reading_a_key_keeps_its_promises_on_any_bytes(data in vec(any::<u8>(), 0..300)) {
        fuzzing::read_key(&data);
    }

    #[test]
    fn reading_a_key_keeps_its_promises_on_almost_keys(
        format in 0_u8..3,
        lines in vec("x?[ \t]{0,2}\"?[0-9a-fA-F\\\\\"-]{0,40}\"?(;a(=[0-9]{1,3})?)?[ \t]{0,2}", 1..3),
    ) {
        let mut data = vec![format];
        data.extend(lines.join("\n").bytes());
        fuzzing::read_key(&data);
    }

    #[test]
    fn one_uuid_is_one_key_in_any_case_quoted_padded_and_with_parameters(
        uuid in uuid(),
        upper in vec(any::<bool>(), 36),
        quoted: bool,
        padding in "[ \t]{0,3}",
        parameter in option::of("[a-z]{1,4}(=[0-9]{1,4})?"),
    ) {
        let text = uuid.to_string();
        let cased = text.chars().zip(upper);
        let cased = cased.map(|(c, upper)| if upper { c.to_ascii_uppercase() } else { c });
        let mut line: String = cased.collect();
        if quoted {
            line = format!("\"{line}\"");
            line.extend(parameter.map(|parameter| format!(";{parameter}")));
        }
        let line = format!("{padding}{line}{padding}");
        for name in UUID.header_names() {
            let read = read(&UUID, &[(name, &line)]);
            prop_assert_eq!(read.unwrap(), Some(text.clone()));
        }
    }

    #[test]
    fn only_version_4_and_the_rfc_variant_are_uuid_v4(uuid in uuid()) {
        let policy = Policy { format: Format::UuidV4, ..Policy::DEFAULT };
        let text = uuid.to_string();
        let is_v4 = text.as_bytes()[14] == b'4' && matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b');
        prop_assert_eq!(read(&policy, &[(&UUID.header_names()[0], &text)]).is_ok(), is_v4);
        let v4 = uuid::Builder::from_random_bytes(*uuid.as_bytes()).into_uuid().to_string();
        let read = read(&policy, &[(&UUID.header_names()[0], &v4)]);
        prop_assert_eq!(read.unwrap(), Some(v4));
    }

    #[test]
    fn no_other_length_or_character_is_a_uuid(text in "[0-9a-g{}:-]{0,45}") {
        let is_uuid = text.len() == 36
            && uuid::Uuid::try_parse(&text).is_ok_and(|uuid| !uuid.is_nil() && !uuid.is_max());
        let read = read(&UUID, &[(&UUID.header_names()[0], &text)]);
        prop_assert_eq!(read.is_ok(), is_uuid);
    }

    #[test]
    fn a_key_of_any_format_is_itself_bare_and_quoted(key in any_key()) {
        let bare = read(&ANY, &[(&ANY.header_names()[0], &key)]).unwrap();
        prop_assert_eq!(bare.as_deref(), Some(key.as_str()));
        prop_assert_eq!(fuzzing::read_quoted(&ANY, &key), bare);
    }

    #[test]
    fn a_quoted_key_may_hold_what_a_bare_one_cannot(key in "[ -~]{1,255}") {
        prop_assert_eq!(fuzzing::read_quoted(&ANY, &key), Some(key));
    }

    #[test]
    fn two_names_are_one_key_or_a_conflict(a in uuid(), b in uuid()) {
        let [one, other] = [&UUID.header_names()[0], &UUID.header_names()[1]];
        let (a, b) = (a.to_string(), b.to_string());
        let upper = format!("\"{}\"", a.to_uppercase());
        let read = read(&UUID, &[(one, &a), (other, &upper)]);
        prop_assert_eq!(read.unwrap(), Some(a.clone()));
        prop_assume!(a != b);
        prop_assert_eq!(code(&UUID, &[(one, &a), (other, &b)]), "conflicting_keys");
        prop_assert_eq!(code(&UUID, &[(one, &a), (one, &a)]), "invalid_key");
        prop_assert_eq!(code(&UUID, &[(one, &a), (other, "no uuid")]), "invalid_key");
    }
}

/// A request whose parts are so short and similar that bytes could move between them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    method: String,
    path: String,
    query: Option<String>,
    content_type: Option<String>,
    body: String,
}

impl Asked {
    fn fingerprint(
        &self,
        source: FingerprintSource,
        digesting: Digesting,
        parameters: &str,
    ) -> Fingerprint {
        let query = self.query.iter().map(|query| format!("?{query}"));
        let uri = format!("/{}{}", self.path, query.collect::<String>());
        let mut request = Request::builder().method(self.method.as_str()).uri(uri);
        if let Some(essence) = &self.content_type {
            request = request.header("content-type", format!("{essence}{parameters}"));
        }
        let request = request.header("x-other", parameters).body(()).expect("a request");
        let unsalted = Unsalted::from_request(source, digesting, &request, self.body.as_bytes());
        unsalted.salted(None, &Key::exact("7"))
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    ("[AB]{1,2}", "[ab]{0,2}", option::of("[ab]{0,2}"), option::of("[ab]{1,2}"), "[ab?]{0,2}")
        .prop_map(|(method, path, query, content_type, body)| Asked {
            method,
            path,
            query,
            content_type,
            body,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn fingerprints_are_equal_where_the_requests_are(a in asked(), b in asked()) {
        let keyed = Digesting::Keyed(DigestSecret::new([7; 32]));
        for digesting in [Digesting::Stable, Digesting::Process, keyed] {
            let of = |asked: &Asked, parameters: &str| {
                asked.fingerprint(FingerprintSource::Request, digesting.clone(), parameters)
            };
            prop_assert_eq!(of(&a, "") == of(&b, ""), a == b);
            prop_assert_eq!(of(&a, "; charset=utf-8"), of(&a, " ;q"));
            let path = FingerprintSource::Path;
            let of = |asked: &Asked| asked.fingerprint(path, digesting.clone(), "");
            let same_target = (&a.method, &a.path) == (&b.method, &b.path);
            prop_assert_eq!(of(&a) == of(&b), same_target);
        }
    }

    #[test]
    fn scopes_principals_and_keys_never_meet(
        a in ("[ab]{0,2}", option::of("[ab]{0,2}"), "[ab]{1,2}"),
        b in ("[ab]{0,2}", option::of("[ab]{0,2}"), "[ab]{1,2}"),
    ) {
        let store_key = |(path, principal, key): &(String, Option<String>, String)| {
            let request = Request::post(format!("/{path}")).body(()).expect("a request");
            let mut scope = Scope::from_request(&UUID, &request).fields();
            store_key(&mut scope, principal.as_deref(), &Key::exact(key), &Digesting::Stable)
        };
        prop_assert_eq!(store_key(&a) == store_key(&b), a == b);
    }
}

/// A response, as it should be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    status: u16,
    /// Name, value, and whether the value is sensitive.
    headers: Vec<(String, Vec<u8>, bool)>,
    body: Vec<Vec<u8>>,
}

impl Kept {
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value, is_sensitive) in &self.headers {
            let name = HeaderName::try_from(name).expect("a name");
            let mut value = HeaderValue::from_bytes(value).expect("a value");
            value.set_sensitive(*is_sensitive);
            headers.append(name, value);
        }
        headers
    }

    /// The equality of `HeaderValue` ignores this.
    fn sensitive(headers: &HeaderMap) -> Vec<bool> {
        headers.values().map(HeaderValue::is_sensitive).collect()
    }

    fn encode(&self) -> Bytes {
        let status = StatusCode::from_u16(self.status).expect("a status");
        let body: Chunks = self.body.iter().cloned().map(Bytes::from).collect();
        stored::encode(status, &self.headers(), |_| true, &body).0.checked()
    }
}

fn kept() -> impl Strategy<Value = Kept> {
    let byte = prop_oneof![0x20_u8..0x7f, 0x80_u8..=0xff];
    let headers = vec(("[a-c]{1,2}", vec(byte, 0..8), any::<bool>()), 0..6);
    (100_u16..1000, headers, vec(vec(any::<u8>(), 0..20), 0..4))
        .prop_map(|(status, headers, body)| Kept { status, headers, body })
}

fn collect(body: Body) -> Bytes {
    now(body.collect()).expect("a body in memory").to_bytes()
}

proptest! {
    #[test]
    fn a_response_comes_back_as_it_was_kept(kept in kept()) {
        let Ok(Some(response)) = decode(kept.encode()) else {
            panic!("a response is decoded");
        };
        prop_assert_eq!(response.status(), kept.status);
        prop_assert_eq!(response.headers(), &kept.headers());
        prop_assert_eq!(Kept::sensitive(response.headers()), Kept::sensitive(&kept.headers()));
        prop_assert_eq!(collect(response.into_body()), kept.body.concat());
    }

    #[test]
    fn different_responses_are_different_records(a in kept(), b in kept()) {
        let same = a.status == b.status
            && a.headers() == b.headers()
            && Kept::sensitive(&a.headers()) == Kept::sensitive(&b.headers())
            && a.body.concat() == b.body.concat();
        prop_assume!(!same);
        prop_assert_ne!(a.encode(), b.encode());
    }

    #[test]
    fn a_changed_byte_is_detected(kept in kept(), at: Index, flip in 1_u8..) {
        let mut record = kept.encode().to_vec();
        let at = at.index(record.len());
        record[at] ^= flip;
        let expected =
            if at == 2 { Unreadable::UnknownVersion } else { Unreadable::Corrupt };
        prop_assert_eq!(decode(record.into()).expect_err("damage"), expected);
    }

    #[test]
    fn a_cut_off_or_lengthened_record_is_detected(
        kept in kept(),
        at: Index,
        more in vec(any::<u8>(), 1..20),
    ) {
        let record = kept.encode();
        let cut = record.slice(..at.index(record.len()));
        prop_assert_eq!(decode(cut).expect_err("damage"), Unreadable::Corrupt);
        let longer = [&record[..], &more].concat();
        prop_assert_eq!(decode(longer.into()).expect_err("damage"), Unreadable::Corrupt);
    }

    #[test]
    fn what_another_release_wrote_is_told_apart_from_damage(kind in 5_u8.., kept in kept()) {
        let payload = kept.encode().slice(9..);
        let decoded = decode(fuzzing::seal(kind, &payload));
        prop_assert_eq!(decoded.expect_err("unknown"), Unreadable::UnknownVersion);
    }

    #[test]
    fn decoding_garbage_never_panics(data in vec(any::<u8>(), 0..200)) {
        fuzzing::decode_record(&data);
    }

    #[test]
    fn decoding_a_damaged_payload_never_panics(kept in kept(), at: Index, flip in 1_u8..) {
        let mut payload = kept.encode().slice(9..).to_vec();
        let at = at.index(payload.len());
        payload[at] ^= flip;
        payload.insert(0, 1);
        fuzzing::decode_record(&payload);
    }
}

#[test]
fn more_headers_than_a_map_can_hold_are_damage() {
    let count = 40_000_u32;
    let mut payload = 200_u16.to_le_bytes().to_vec();
    payload.extend(count.to_le_bytes());
    for number in 0..count {
        let name = format!("x-{number:05}");
        payload.push(0);
        payload.extend(7_u16.to_le_bytes());
        payload.extend(0_u32.to_le_bytes());
        payload.extend(name.as_bytes());
    }
    let decoded = decode(fuzzing::seal(1, &payload));
    assert_eq!(decoded.expect_err("too many"), Unreadable::Corrupt);
}
