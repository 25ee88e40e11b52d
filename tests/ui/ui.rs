//! What the compiler says: one error for each wrong use, nothing for the right ones.

use std::{fs, path::Path};

#[test]
fn wrong_uses_are_refused_at_the_offending_token() {
    trybuild::TestCases::new().compile_fail("fail/*.rs");
}

#[test]
fn no_message_names_what_the_user_did_not_write_and_cannot_look_up() {
    let hidden = [
        "__private",
        "idempotent_runtime",
        "__last",
        "__known",
        "__evaluated",
        "__POLICY",
        "__unnamed",
        "__future",
        "__body",
        "__idempotent_",
        "KeyOf",
    ];
    let messages = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fail"))
        .expect("the wrong uses")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "stderr"));
    let mut count = 0;
    for path in messages {
        let text = fs::read_to_string(&path).expect("a readable file");
        let named = hidden.iter().find(|name| text.contains(**name));
        assert_eq!(named, None, "{}", path.display());
        count += 1;
    }
    assert!(count > 90, "{count} messages");
}

#[test]
fn right_uses_compile() {
    trybuild::TestCases::new().pass("pass/*.rs");
}
