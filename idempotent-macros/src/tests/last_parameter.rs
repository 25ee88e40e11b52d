//! What happens to the last parameter: its name, and when the expressions are evaluated.

use super::{contains, expand, without_space};

/// Whether the expressions are evaluated after the last parameter, `last`, is extracted.
fn is_late(arguments: &str, last: &str) -> bool {
    let expansion = expand(arguments, &format!("async fn f(user: User, {last}) {{}}"));
    let text = without_space(&expansion);
    let policy = contains(&expansion, "__private::Stage::AfterExtraction");
    let late = text.contains("move|_|{move|") && text.contains(",__evaluated|{if");
    let early = text.contains("move|__evaluated|{if") && text.contains(",_|{let__future=async");
    assert!(late != early && late == policy, "{expansion}");
    late
}

#[test]
fn expressions_are_evaluated_early_if_none_uses_the_last_parameter() {
    for arguments in [
        "principal = user.id",
        "principal = everyone()",
        "principal = format!(\"{user}\")",
        "principal = user.id, fingerprint = (user, 1)",
        "principal = \"somebody\"",
    ] {
        assert!(!is_late(arguments, "body: Body"), "{arguments}");
        assert!(!is_late(arguments, "Json(Body { id: body, .. }): Json<Body>"), "{arguments}");
    }
    assert!(!is_late("principal = id", "_: Body"));
    assert!(!is_late("principal = Json::default()", "Json(body): Json<Body>"));
}

#[test]
fn all_expressions_are_evaluated_late_if_one_uses_the_last_parameter() {
    for arguments in [
        "principal = body",
        "principal = body.id",
        "principal = (|| Some(body.id()))()",
        "principal = user.id, fingerprint = (1, [body.id])",
        "key = body.id, principal = user.id",
        "principal = r#body",
        "principal = format!(\"{}\", body)",
        "principal = format!(\"{body}\")",
        "principal = format!(\"{:>body$}\", user)",
        "principal = format!(r#\"{body:?}\"#)",
        "principal = custom!(a b \"$body\")",
        "principal = { macro_rules! m { () => { body } } m!() }",
    ] {
        for last in [
            "body: Body",
            "mut body: Body",
            "Json(body): Json<Body>",
            "Json((_, mut body)): Json<(u64, Body)>",
            "Json(Body { id: (body, ..), .. }): Json<Body>",
            "Json(Body { body }): Json<Body>",
            "Json([_, body @ ..]): Json<[u64; 2]>",
            "body @ Json(_): Json<u64>",
            "Json(other @ (_, body)): Json<(u64, u64)>",
            "(Ok(body) | Err(body)): Result<Body, Body>",
            "pattern!(body): Body",
            "r#body: Body",
        ] {
            assert!(is_late(arguments, last), "{arguments}: {last}");
        }
    }
}

#[test]
fn the_wrapped_parameter_keeps_the_name_that_the_user_gave_it() {
    for (last, argument) in [
        ("body: Body", "body"),
        ("mut body: Body", "body"),
        ("_body: Body", "_body"),
        ("r#type: Body", "r#type"),
        ("Json(body): Json<Body>", "body"),
        ("Json((_, mut second)): Json<(A, B)>", "second"),
        ("Json((a, b)): Json<(A, B)>", "__last"),
        ("_: Body", "__last"),
        ("Json(IgnoredAny): Json<IgnoredAny>", "__last"),
        ("Unit: Unit", "__last"),
        ("Json(_): Json<A>", "__last"),
    ] {
        let expansion = expand("", &format!("async fn f(user: User, {last}) {{}}"));
        let signature =
            format!("f(user: User, {argument}: ::idempotent_axum::__private::Idempotent<");
        assert!(contains(&expansion, &signature), "{expansion}");
    }
}

#[test]
fn a_parameter_that_only_an_expression_formats_lives_as_long_as_the_body() {
    let item = "async fn f(user: User, other: Other, body: Body) {}";
    for user in ["user", "r#user"] {
        for format in ["{user}", "{user:?}", "a {{{user}"] {
            let arguments = format!("principal = format!(\"{format}\")");
            let expansion = expand(&arguments, &item.replace("user:", &format!("{user}:")));
            let kept = format!("async move {{ let _ = &{user};");
            assert!(contains(&expansion, &kept), "{expansion}");
        }
    }
    // A parameter that merely is the same word is unused, and a lint says so.
    let expansion = expand("principal = \"user\"", item);
    assert!(!contains(&expansion, "let _ ="), "{expansion}");
}
