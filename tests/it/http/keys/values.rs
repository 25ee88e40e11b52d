//! Which header values are a key of each format, and which of them are the same key.

use axum::{Router, body::Bytes, routing::post as route};
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use idempotent_test_support::post;

use super::{UUID, assert_different_keys, assert_invalid, assert_same_key, required};

#[tokio::test]
async fn a_uuid_is_the_same_key_in_every_case() {
    assert_same_key("/uuid", &[UUID, &UUID.to_uppercase(), "2C5EA4C0-4067-41fe-8bad-9B1DEB4D3B7D"])
        .await;
}

#[tokio::test]
async fn a_uuid_of_any_version_and_variant_is_a_key() {
    assert_different_keys(
        "/uuid",
        &[
            "c232ab00-9414-11ec-b3c8-9f6bdeced846",
            "5df41881-3aed-3515-88a7-2f4a814cf09e",
            "919108f7-52d1-4320-9bac-f847db4148a8",
            "2ed6657d-e927-568b-95e1-2665a8aea6a2",
            "1ec9414c-232a-6b00-b3c8-9f6bdeced846",
            "017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
            "2489e9ad-2ee2-8e00-8ec9-32d5f69181c0",
            "00000000-0000-0000-0000-000000000001",
            "ffffffff-ffff-ffff-ffff-fffffffffffe",
        ],
    )
    .await;
}

#[tokio::test]
async fn nil_and_max_are_no_uuid_keys() {
    let nil = "00000000-0000-0000-0000-000000000000";
    let max = "ffffffff-ffff-ffff-ffff-ffffffffffff";
    assert_invalid("/uuid", &[nil, max, &max.to_uppercase()]).await;
    assert_invalid("/uuid-v4", &[nil, max]).await;
}

#[tokio::test]
async fn only_the_hyphenated_form_of_a_uuid_is_a_key() {
    let simple = UUID.replace('-', "");
    let values = [
        simple.clone(),
        format!("{{{UUID}}}"),
        format!("urn:uuid:{UUID}"),
        format!("{simple}----"),
        format!("{}-", &UUID[..35]),
        UUID[..35].to_owned(),
        format!("{UUID}0"),
        UUID.replace('2', "g"),
        UUID.replace('-', " "),
        UUID.replace('-', "_"),
        format!("{UUID},{UUID}"),
        format!("{UUID}, {UUID}"),
        "not-a-uuid".to_owned(),
        "null".to_owned(),
    ];
    assert_invalid("/uuid", &values).await;
}

#[tokio::test]
async fn uuid_v4_also_asks_for_version_and_variant() {
    assert_same_key("/uuid-v4", &[UUID, &UUID.to_uppercase(), &format!("\"{UUID}\"")]).await;
    let invalid = [
        "c232ab00-9414-11ec-b3c8-9f6bdeced846",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
        "2489e9ad-2ee2-8e00-8ec9-32d5f69181c0",
        // Version 4 with each of the other variants.
        "2c5ea4c0-4067-41fe-0bad-9b1deb4d3b7d",
        "2c5ea4c0-4067-41fe-cbad-9b1deb4d3b7d",
        "2c5ea4c0-4067-41fe-ebad-9b1deb4d3b7d",
    ];
    assert_invalid("/uuid-v4", &invalid).await;
}

#[tokio::test]
async fn spaces_and_tabs_around_a_key_are_trimmed() {
    let values = [UUID.to_owned(), format!("  {UUID} "), format!("\t{UUID}\t \t")];
    assert_same_key("/uuid", &values).await;
    let quoted = [format!("\t \"{UUID}\" \t"), format!(" \"{UUID}\";p\t")];
    assert_same_key("/uuid", &[&values[..], &quoted[..]].concat()).await;
    assert_same_key("/any", &["a b", " a b ", "\ta b\t", "\t\"a b\" "]).await;
}

#[tokio::test]
async fn a_quoted_key_and_a_bare_one_are_the_same_key() {
    assert_same_key("/uuid", &[UUID.to_owned(), format!("\"{UUID}\"")]).await;
    assert_same_key("/any", &["order-1", "\"order-1\""]).await;
}

#[tokio::test]
async fn parameters_of_a_quoted_key_are_ignored() {
    let parameters =
        ["", ";a", ";a=1", "; a=?0;b=\"x;\\\"y\"", ";c=:aGk=:", ";d=tok/en", ";e=-1.5"];
    let values = parameters.map(|parameters| format!("\"{UUID}\"{parameters}"));
    assert_same_key("/uuid", &values).await;
}

#[tokio::test]
async fn escapes_in_a_quoted_key_stand_for_their_characters() {
    assert_same_key("/any", &[r#"a\b"c"#, r#""a\\b\"c""#]).await;
    assert_different_keys("/any", &[r"a\\b", r#""a\\b""#]).await;
}

#[tokio::test]
async fn spaces_inside_the_quotes_belong_to_the_key() {
    assert_different_keys("/any", &["a", "\" a\"", "\"a \"", "\" a \""]).await;
    assert_invalid("/uuid", &[format!("\" {UUID}\""), format!("\"{UUID} \"")]).await;
}

#[tokio::test]
async fn a_value_that_begins_with_a_quote_must_be_a_whole_string_item() {
    let values = [
        "\"",
        "\"abc",
        "\"abc\"def",
        "\"abc\" \"def\"",
        "\"abc\", \"def\"",
        "\"abc\\\"",
        r#""a\bc""#,
        "\"a\tb\"",
        "\"abc\";",
        "\"abc\";A=1",
        "\"abc\";a=",
        "\"abc\" ;a=1",
    ];
    assert_invalid("/any", &values).await;
    assert_invalid("/uuid", &[format!("\"{UUID}"), format!("\"{UUID}\"x")]).await;
}

#[tokio::test]
async fn a_key_that_only_ends_with_a_quote_is_taken_as_it_is() {
    assert_different_keys("/any", &["a", "a\"", "'a'", "a;b=1"]).await;
    assert_invalid("/uuid", &[format!("{UUID}\""), format!("{UUID};a=1")]).await;
}

#[tokio::test]
async fn empty_and_blank_keys_are_invalid_not_missing() {
    for path in ["/uuid", "/uuid-v4", "/any"] {
        assert_invalid(path, &["", " ", "\t", " \t ", "\"\"", " \"\" ", "\"\";a=1"]).await;
    }
    assert_invalid("/uuid", &["\" \""]).await;
}

#[tokio::test]
async fn bytes_beyond_ascii_are_invalid_not_missing() {
    let cyrillic = UUID.replace('c', "\u{441}");
    let values: [&[u8]; 7] = [
        b"\xff",
        b"caf\xe9",
        "caf\u{e9}".as_bytes(),
        "\"caf\u{e9}\"".as_bytes(),
        cyrillic.as_bytes(),
        b"2c5ea4c0-4067-41fe-8bad-9b1deb4d3b\xc3\xa9",
        "\u{2160}".as_bytes(),
    ];
    for path in ["/uuid", "/uuid-v4", "/any"] {
        assert_invalid(path, &values).await;
    }
}

#[tokio::test]
async fn any_takes_1_to_255_characters() {
    let of_length = |length: usize| "k".repeat(length);
    assert_different_keys("/any", &[of_length(1), of_length(2), of_length(254), of_length(255)])
        .await;
    let invalid = [of_length(0), of_length(256), of_length(4096)];
    assert_invalid("/any", &invalid).await;
    assert_invalid("/uuid", &invalid).await;
    let quoted = |length: usize| format!("\"{}\"", of_length(length));
    assert_same_key("/any", &[of_length(255), quoted(255)]).await;
    assert_invalid("/any", &[quoted(256)]).await;
    // The length is that of the key, not of its escaped form.
    assert_same_key("/any", &["\\".repeat(255), format!("\"{}\"", "\\\\".repeat(255))]).await;
}

#[tokio::test]
async fn any_takes_every_printable_ascii_character() {
    let printable: String = (' '..='~').collect();
    // A leading space would be trimmed, and a leading quote begins a string.
    let bare = format!("k{printable}.");
    let escaped = bare.replace('\\', "\\\\").replace('"', "\\\"");
    assert_same_key("/any", &[bare, format!("\"{escaped}\"")]).await;
    assert_invalid("/any", &["a\tb"]).await;
}

#[tokio::test]
async fn any_is_case_sensitive() {
    assert_different_keys("/any", &["Order", "order", "ORDER", UUID, &UUID.to_uppercase()]).await;
}

#[tokio::test]
async fn no_value_is_a_server_error_or_taken_for_a_missing_key() {
    let app = Router::new()
        .route("/uuid", route(required))
        .route("/any", route(required_any))
        .layer(Idempotency::new(MemoryStore::new()));
    // Everything a header value can hold.
    for byte in (0..=255).filter(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 127)) {
        let mut edited = UUID.as_bytes().to_owned();
        edited[17] = byte;
        let values = [
            vec![byte],
            vec![b'"', byte],
            vec![b'"', byte, b'"'],
            vec![b'"', b'\\', byte, b'"'],
            vec![b'"', b'a', b'"', byte],
            vec![b'"', b'a', b'"', b';', byte],
            vec![b'a', byte, b'a'],
            edited,
        ];
        for value in values {
            for path in ["/uuid", "/any"] {
                let answer = post(path).key(&value).send(&app).await;
                let shown = value.escape_ascii();
                if answer.status != 200 {
                    assert_eq!(answer.problem(), (400, "invalid_key".to_owned()), "{path} {shown}");
                }
            }
        }
    }
    for path in ["/uuid", "/any"] {
        assert_eq!(post(path).send(&app).await.problem(), (400, "missing_key".to_owned()));
    }
}

#[idempotent(required, format = "any", principal = "everyone")]
async fn required_any(_body: Bytes) {}
