//! What an attribute above `#[utoipa::path]` adds to it.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use super::{assert_in_place, errors, tokens, without_space};
use crate::{attribute, expand::openapi::describe};

/// The expansion of a handler with `attributes`, under an attribute with `arguments`.
fn described(arguments: &str, attributes: &str) -> String {
    let item = format!("{attributes} async fn invite(Json(body): Json<Invite>) {{}}");
    let expansion = describe(&tokens(arguments), &tokens(&item)).expect("`utoipa::path` is there");
    without_space(&expansion)
}

/// The arguments that `#[utoipa::path]` gets in place of `written`.
fn told(arguments: &str, written: &str) -> String {
    let expansion = described(arguments, &format!("#[utoipa::path({written})]"));
    let told = expansion.strip_prefix("#[utoipa::path(").expect("it comes first");
    let (told, _) = told.split_once(")]#[::idempotent_axum::idempotent(").expect("the attribute");
    told.to_owned()
}

/// The description of the key.
fn key(arguments: &str) -> String {
    let expansion = described(arguments, "#[utoipa::path(post)]");
    let (_, key) = expansion.split_once("::Key::new()").expect("the handler's own type");
    key.strip_suffix(";}").expect("it ends there").to_owned()
}

/// The response with what is added to it.
fn response(written: &str) -> String {
    let told = told("", &format!("params(openapi::Key), responses(({written}))"));
    let before = format!("params(openapi::Key),responses({PROBLEMS},(");
    let response = told.strip_prefix(&before).expect("the problems come first");
    response.strip_suffix("))").expect("it is the only one").to_owned()
}

const PROBLEMS: &str = "::idempotent_axum::__private::openapi::Problems";
const KEY: &str = "::idempotent_axum::__private::openapi::KeyOf<__idempotent_invite>";
const REPLAYED: &str = "(\"idempotent-replayed\"=bool,description=\"`true`ifthisisthestoredresponseofanearlierrequestwiththesamekey,whichisreplayedfor1hour\")";

#[test]
fn utoipa_expands_first_on_the_handler_as_it_is_written() {
    let arguments = tokens("ttl = \"7d\", principal = user.id");
    let item = tokens(
        "#[a] #[utoipa::path(post, path = \"/\")] #[b] pub async fn r#use(user: User, body: Json<B>) -> A { body. }",
    );
    let expansion = describe(&arguments, &item).expect("`utoipa::path` is there");
    let key = KEY.replace("invite", "use");
    let expected = format!(
        "#[utoipa::path(post, path = \"/\", responses({PROBLEMS}), params({key}))]
        #[::idempotent_axum::idempotent(ttl = \"7d\", principal = user.id)]
        #[a] #[b] pub async fn r#use(user: User, body: Json<B>) -> A {{ body. }}
        #[allow(non_camel_case_types)]
        struct __idempotent_use;
        impl ::idempotent_axum::__private::openapi::Described for __idempotent_use {{
            const KEY: ::idempotent_axum::__private::openapi::Key =
                ::idempotent_axum::__private::openapi::Key::new().ttl(\"7 days\");
        }}"
    );
    assert_eq!(without_space(&expansion), without_space(&expected));
    assert_in_place(&item, &expansion);
}

#[test]
fn what_is_added_stands_inside_of_what_is_written() {
    for (written, expected) in [
        ("", format!("responses({PROBLEMS}),params({KEY})")),
        ("post,", format!("post,responses({PROBLEMS}),params({KEY})")),
        ("params(), responses()", format!("params({KEY}),responses({PROBLEMS})")),
        (
            "responses(A, (status = 404),), params((\"id\" = u64, Path), B,), get",
            format!("responses({PROBLEMS},A,(status=404)),params((\"id\"=u64,Path),B,{KEY}),get"),
        ),
        // The last one counts.
        (
            "params(A), responses(B), params(C), responses(D)",
            format!("params(A),responses(B),params(C,{KEY}),responses({PROBLEMS},D)"),
        ),
        // `#[utoipa::path]` reports what is wrong with these.
        ("post,, params", format!("post,,params,responses({PROBLEMS}),params({KEY})")),
        ("params = A", format!("params=A,responses({PROBLEMS}),params({KEY})")),
        (
            "request_body = Map<String, params>, responses((,))",
            format!("request_body=Map<String,params>,responses({PROBLEMS},(,)),params({KEY})"),
        ),
    ] {
        assert_eq!(told("", written), expected, "{written}");
    }
}

#[test]
fn each_success_is_marked_as_a_replay() {
    for status in [
        "200",
        "201u16",
        "299",
        "\"2XX\"",
        "OK",
        "StatusCode::CREATED",
        "::http::StatusCode::NO_CONTENT",
    ] {
        let expected = format!("status={status},headers({REPLAYED})");
        assert_eq!(response(&format!("status = {status}")), expected);
    }
    for status in
        ["199", "300", "2000", "\"1XX\"", "\"default\"", "FOUND", "StatusCode::CONFLICT", "a + 1"]
    {
        assert_eq!(
            response(&format!("status = {status}")),
            without_space(&format!("status={status}"))
        );
    }
    assert_eq!(response("body = A"), "body=A");
}

#[test]
fn the_marker_stands_beside_the_users_headers() {
    for (written, expected) in [
        (
            "headers((\"a\"), (\"b\" = u64)), status = 200,",
            format!("headers((\"a\"),(\"b\"=u64),{REPLAYED}),status=200"),
        ),
        (
            "status = 200, headers((\"a\")), body = Map<A, B>, headers(),",
            format!("status=200,headers((\"a\")),body=Map<A,B>,headers({REPLAYED})"),
        ),
        // The user's own description wins.
        (
            "status = 200, headers((\"Idempotent-Replayed\" = String))",
            "status=200,headers((\"Idempotent-Replayed\"=String))".to_owned(),
        ),
        // It is described elsewhere and takes no headers here.
        ("status = 200, response = A", "status=200,response=A".to_owned()),
        ("status = 201, response = inline(A)", "status=201,response=inline(A)".to_owned()),
        // The last status counts.
        ("status = 200, status = 404", "status=200,status=404".to_owned()),
    ] {
        assert_eq!(response(written), expected);
    }
}

#[test]
fn a_status_may_be_a_parameter_of_a_macro() {
    let status = TokenTree::Group(Group::new(Delimiter::None, tokens("201")));
    let status: TokenStream = tokens("status =").into_iter().chain([status]).collect();
    let item = tokens("async fn invite() {}");
    let item = quote::quote!(#[utoipa::path(responses((#status)))] #item);
    let expansion = describe(&TokenStream::new(), &item).expect("`utoipa::path` is there");
    assert!(without_space(&expansion).contains(REPLAYED), "{expansion}");
}

#[test]
fn the_key_is_described_as_the_options_say() {
    for (arguments, expected) in [
        ("", ".ttl(\"1hour\")"),
        ("format = \"uuid\"", ".ttl(\"1hour\")"),
        ("header = [\"Idempotency-Key\", \"x-idempotency-key\"]", ".ttl(\"1hour\")"),
        ("format = \"uuid-v4\", required", ".uuid_v4().required().ttl(\"1hour\")"),
        (
            "header = \"X-Key\", format = \"any\", principal = body, ttl = \"90s\"",
            ".headers(&[\"x-key\"]).any().ttl(\"1minute30seconds\")",
        ),
        ("header = [\"b\", \"a\"]", ".headers(&[\"b\",\"a\"]).ttl(\"1hour\")"),
        ("ttl = \"1d 2h 1s 5ms\"", ".ttl(\"1day2hours1second5milliseconds\")"),
    ] {
        assert_eq!(key(arguments), expected, "{arguments}");
    }
}

#[test]
fn a_key_that_is_in_no_header_or_described_by_hand_has_no_type() {
    let by_hand = "params((\"Idempotency-Key\" = String, Header), (\"X-IDEMPOTENCY-KEY\", Header))";
    for (arguments, written) in [
        ("key = body, principal = body", "post"),
        ("header = \"x-key\"", "params(idempotent_axum::openapi::Key)"),
        ("", by_hand),
    ] {
        let expansion = described(arguments, &format!("#[utoipa::path({written})]"));
        assert!(expansion.contains(PROBLEMS), "{expansion}");
        assert!(!expansion.contains("__idempotent_invite"), "{expansion}");
    }
    // One of two headers, the required one, and two that only look like one.
    for (written, headers) in [
        ("params((\"idempotency-key\" = String, Header))", ".headers(&[\"x-idempotency-key\"])"),
        (
            "params((\"idempotency-key\" = String, Query), (\"x\" = Header, Path), Key)",
            ".required()",
        ),
    ] {
        let expansion = described("required", &format!("#[utoipa::path({written})]"));
        let key = format!("::Key::new(){headers}.ttl(");
        assert!(expansion.contains(&key), "{expansion}");
    }
}

#[test]
fn a_condition_holds_for_all_that_is_added() {
    let expansion = described(
        "",
        "#[cfg(a)] #[cfg_attr(docs, b, utoipa::path(post), c(d))] #[e] #[cfg(any(f, g))]",
    );
    let conditions = "#[cfg(a)]#[cfg(any(f,g))]";
    for part in [
        &*format!(
            "{conditions}#[cfg_attr(docs,utoipa::path(post,responses({PROBLEMS}),params({KEY})))]#[::idempotent_axum"
        ),
        "::idempotent_axum::idempotent()]#[cfg_attr(docs,b,c(d))]#[e]asyncfn",
        &format!(
            "{conditions}#[cfg(docs)]#[allow(non_camel_case_types)]struct__idempotent_invite;"
        ),
        &format!("{conditions}#[cfg(docs)]impl::idempotent_axum"),
    ] {
        assert!(expansion.contains(part), "{expansion}");
    }

    let expansion = described("", "#[cfg_attr(a, cfg_attr(all(b, c), ::utoipa::path(post)))]");
    let start = "#[cfg_attr(all(a,all(b,c)),::utoipa::path(post,";
    assert!(expansion.starts_with(start), "{expansion}");
    assert!(expansion.contains("#[cfg(all(a,all(b,c)))]impl"), "{expansion}");
    assert_eq!(expansion.matches("cfg_attr").count(), 1, "{expansion}");
}

#[test]
fn faults_are_reported_once_by_the_attribute_that_comes_after() {
    let arguments = tokens("ttl = 5, unknown");
    let item = tokens("#[utoipa::path(post)] fn invite(&self) {}");
    let expansion = describe(&arguments, &item).expect("`utoipa::path` is there");
    assert_eq!(errors(&expansion), 0, "{expansion}");
    assert!(
        without_space(&expansion).contains("idempotent(ttl=5,unknown)]fninvite"),
        "{expansion}"
    );
    assert_eq!(errors(&attribute(arguments, &tokens("fn invite(&self) {}"))), 4);
}

#[test]
fn the_library_is_where_the_attribute_says() {
    let item = tokens("#[utoipa::path(post)] async fn invite() {}");
    let expansion = describe(&tokens("crate = a::b, wait = \"1s\""), &item).expect("the same");
    let text = without_space(&expansion);
    assert!(text.contains("#[a::b::idempotent(crate=a::b,wait=\"1s\")]"), "{text}");
    assert!(text.contains("(a::b::__private::openapi::Problems)"), "{text}");
    assert!(describe(&tokens("crate = 5"), &item).is_none());
}

#[test]
fn without_utoipa_nothing_is_added() {
    for item in [
        "async fn invite() {}",
        "#[path(post)] async fn invite() {}",
        "#[utoipa(post)] async fn invite() {}",
        "#[utoipa::path] async fn invite() {}",
        "#[utoipa::path = \"/\"] async fn invite() {}",
        "#[other::path(post)] async fn invite() {}",
        "#[cfg_attr(a, path(post))] async fn invite() {}",
        "#[cfg_attr(a = , utoipa::path(post))] async fn invite() {}",
        "#[cfg_attr(utoipa::path(post))] async fn invite() {}",
        "#[utoipa::path(post)] struct Invite;",
        "#[utoipa::path(post)] fn",
        "#[utoipa::path(post)]",
        "#[utoipa::path(post)] #",
    ] {
        assert!(describe(&TokenStream::new(), &tokens(item)).is_none(), "{item}");
    }
}
