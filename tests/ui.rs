//! What the compiler says: one error for each wrong use, nothing for the right ones.

#[test]
fn wrong_uses_are_refused_at_the_offending_token() {
    trybuild::TestCases::new().compile_fail("tests/ui/fail/*.rs");
}

#[test]
fn right_uses_compile() {
    trybuild::TestCases::new().pass("tests/ui/pass/*.rs");
}
