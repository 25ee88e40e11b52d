//! The attribute on token streams: its expansion, and what an editor sees of half-typed code.

use proc_macro2::{Ident, TokenStream, TokenTree};

use crate::attribute;

mod last_parameter;
mod openapi;

fn tokens(source: &str) -> TokenStream {
    source.parse().expect("the test's source has balanced brackets")
}

fn expand(arguments: &str, item: &str) -> TokenStream {
    attribute(tokens(arguments), &tokens(item))
}

/// The code block number `index` below a heading of the attribute's documentation.
fn documented(heading: &str, index: usize) -> String {
    let source = include_str!("../lib.rs").lines().filter_map(|line| line.strip_prefix("///"));
    let below = source.skip_while(|line| line.trim() != heading);
    let lines: Vec<&str> = below.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    lines.join("\n").split("```").nth(2 * index + 1).expect("a block").replacen("text\n", "", 1)
}

/// All identifiers in `tokens`, including those in groups.
fn idents(tokens: TokenStream) -> Vec<Ident> {
    tokens
        .into_iter()
        .flat_map(|token| match token {
            TokenTree::Ident(ident) => vec![ident],
            TokenTree::Group(group) => idents(group.stream()),
            _ => Vec::new(),
        })
        .collect()
}

/// All tokens that are not groups, each with its location; no two share one.
fn leaves(tokens: TokenStream) -> Vec<(String, String)> {
    tokens
        .into_iter()
        .flat_map(|token| match token {
            TokenTree::Group(group) => leaves(group.stream()),
            leaf => vec![(leaf.to_string(), format!("{:?}", leaf.span()))],
        })
        .collect()
}

/// An editor finds what is under the cursor in the expansion: every name of the item at its
/// original location, and the body in one piece.
fn assert_in_place(item: &TokenStream, expansion: &TokenStream) {
    let found = leaves(expansion.clone());
    let is_punctuation = |text: &str| text.chars().all(|c| c.is_ascii_punctuation());
    for leaf in leaves(item.clone()).into_iter().filter(|(text, _)| !is_punctuation(text)) {
        assert!(found.contains(&leaf), "{leaf:?} is lost in {expansion}");
    }
    let body = item.clone().into_iter().last().expect("an item");
    let body = leaves(body.into());
    let is_kept = body.is_empty() || found.windows(body.len()).any(|run| run == body);
    assert!(is_kept, "{expansion}");
}

fn errors(expansion: &TokenStream) -> usize {
    idents(expansion.clone()).iter().filter(|ident| *ident == "compile_error").count()
}

/// Printed tokens are spaced differently from handwritten code.
fn without_space(tokens: &impl ToString) -> String {
    tokens.to_string().split_whitespace().collect()
}

fn contains(expansion: &TokenStream, part: &str) -> bool {
    without_space(expansion).contains(&without_space(&part))
}

#[test]
fn the_documentation_shows_the_expansion_as_it_is() {
    let (input, output) = (documented("# Expands to", 0), documented("# Expands to", 1));
    let (attribute, item) = input.split_once(")]\n").expect("an attribute above an item");
    let arguments = attribute.strip_prefix("#[idempotent(").expect("the attribute");
    assert_eq!(without_space(&expand(arguments, item)), without_space(&output));
}

#[test]
fn a_handler_grows_by_a_dozen_lines() {
    let (input, output) = (documented("# Expands to", 0), documented("# Expands to", 1));
    let written = input.lines().filter(|line| !line.starts_with('#')).count();
    assert!(output.lines().count() <= written + 13);
}

#[test]
fn a_half_typed_body_stays_as_it_is() {
    let half_typed = [
        "body.",
        "let x =",
        "if body.",
        "match body { Some(x) => }",
        "body. await; let",
        "send(body, )..",
        "fn inner(",
        "body::<",
        "#[",
        "= = =",
    ];
    for body in half_typed {
        // The editor closes an open bracket before the attribute sees it.
        let close = if body.ends_with('(') { ")" } else { "" };
        let close = if body.ends_with('[') { "]" } else { close };
        let signature = "pub(crate) async fn invite<T>(mut user: User<T>, Json(body): Json<Invite>) -> Result<A, B> where T: C";
        let item = tokens(&format!("{signature} {{ {body}{close} }}"));
        let expansion = attribute(tokens("principal = body.id"), &item);
        assert_eq!(errors(&expansion), 0, "{expansion}");
        let kept = "pub(crate) async fn invite<T>(mut user: User<T>,";
        assert!(without_space(&expansion).starts_with(&without_space(&kept)), "{expansion}");
        assert!(contains(&expansion, "where T: C {"), "{expansion}");
        assert_in_place(&item, &expansion);
    }
}

#[test]
fn half_typed_options_leave_a_function_of_the_same_signature() {
    let item =
        tokens("pub async fn invite<T: X>(user: User, body: Json<T>) -> A where T: Y { body. }");
    let half_typed = [
        ("t", 1),
        ("ttl", 1),
        ("ttl =", 1),
        ("ttl = \"1\"", 1),
        ("ttl = \"1h\", ", 0),
        ("ttl = \"1h\" req", 1),
        ("header = []", 1),
        ("header = [\"a\",]", 0),
        ("principal", 1),
        ("principal =", 1),
        ("principal = user.", 1),
        ("principal = user.id.as_", 0),
        ("principal = user.id()., required", 1),
        ("fingerprint = (user.id, )", 0),
        ("fingerprint = (user., )", 1),
        ("key = f()", 1),
        ("key = f(), principal = 1", 0),
        (", ,", 2),
        ("=", 1),
        ("replay = [\"2\"]", 1),
        ("crate", 1),
        ("crate =", 1),
        ("crate = ::", 1),
    ];
    for (arguments, faults) in half_typed {
        let expansion = attribute(tokens(arguments), &item);
        assert_eq!(errors(&expansion), faults, "{arguments}: {expansion}");
        assert!(contains(&expansion, "pub async fn invite<T: X>(user: User,"), "{expansion}");
        assert!(contains(&expansion, "where T: Y {"), "{expansion}");
        assert_in_place(&item, &expansion);
    }
}

#[test]
fn a_half_typed_signature_is_passed_on() {
    for item in [
        "pub async fn invite(Json(body): ) -> A { body }",
        "pub async fn invite(Json(body)) { body }",
        "async fn invite() -> { body }",
        "pub async fn invite",
        "pub async",
        "pub",
        "#[doc(hidden)]",
        "async fn (user: User) {}",
        "async fn invite(user) {}",
    ] {
        let item = tokens(item);
        let expansion = attribute(TokenStream::new(), &item);
        assert_eq!(errors(&expansion), 1, "{expansion}");
        assert_in_place(&item, &expansion);
    }
}

#[test]
fn every_fault_is_reported_and_the_handler_expands_nevertheless() {
    let expansion = expand(
        "ttl = 5, wait = \"soon\", replay = [\"x\", \"y\"], unknown, principal = user",
        "const fn invite(user: User) -> A { user }",
    );
    assert_eq!(errors(&expansion), 7);
    assert!(contains(&expansion, "async fn invite"), "{expansion}");
    assert!(contains(&expansion, "text::<>(&(user))"), "{expansion}");
}

#[test]
fn an_option_is_the_field_that_documents_it() {
    let of_a_header = "ttl = \"1h\", header = \"a\", format = \"any\", required, replay = \"2xx\", wait = \"1s\", principal = 1, fingerprint = 2, scope = \"s\"";
    for (arguments, count) in [(of_a_header, 9), ("key = 1, principal = 2", 2)] {
        let arguments = tokens(arguments);
        let expanded = leaves(attribute(arguments.clone(), &tokens("async fn invite() {}")));
        let names = idents(arguments);
        assert_eq!(names.len(), count);
        for leaf in leaves(names.into_iter().map(TokenTree::from).collect()) {
            assert!(expanded.contains(&leaf), "{leaf:?}");
        }
    }
}

#[test]
fn parameters_and_expressions_keep_their_tokens() {
    // On separate lines, so that every token has a location that no other one shares.
    let item = tokens("async fn\ninvite(\nuser: User,\nJson(\nbody): Json<Invite>) -> A {\nbody }");
    let arguments = tokens("\n\n\n\n\n\n\n\nprincipal = user.id");
    let expanded = idents(attribute(arguments, &item));
    let lines = |name: &str| -> Vec<usize> {
        let same = expanded.iter().filter(|ident| *ident == name);
        same.map(|ident| ident.span().start().line).collect()
    };
    assert_eq!(lines("invite"), [2]);
    assert_eq!(lines("user"), [3, 9, 9]);
    // The wrapped parameter, its probe and its run are located at the attribute, so an editor finds
    // one `body`.
    assert_eq!(lines("body"), [1, 1, 1, 5, 6, 6]);
}

#[test]
fn generated_names_are_marked() {
    let arguments = "ttl = \"1h\", principal = user, key = user, fingerprint = user";
    let item = "async fn invite(_: A, _guard: B, user: C, body: D) -> Result<impl E, F> {}";
    let known = idents(tokens(item)).into_iter().chain(idents(tokens(arguments)));
    let known: Vec<String> = known.map(|ident| ident.to_string()).collect();
    let expansion = expand(arguments, item);
    let bound = idents(expansion).into_iter().map(|ident| ident.to_string());
    let library = [
        "static",
        "move",
        "async",
        "where",
        "unreachable_code",
        "if",
        "let",
        "false",
        "return",
        "const",
        "use",
        "as",
        "allow",
        "clippy",
        "used_underscore_binding",
        "unused_imports",
        "idempotent_axum",
        "core",
        "option",
        "Option",
        "Some",
        "time",
        "Duration",
        "new",
        "Idempotent",
        "probe",
        "known",
        "Response",
        "Policy",
        "DEFAULT",
        "KeySource",
        "FingerprintSource",
        "Expression",
        "run",
        "IntoResponse",
        "into_response",
        "OptionalDisplay",
        "text",
        "hash",
        "Hash",
        "output",
        "await",
        "u64",
        "u32",
    ];
    let unmarked: Vec<String> = bound
        .filter(|name| !name.starts_with("__") && name != "_")
        .filter(|name| !known.contains(name) && !library.contains(&name.as_str()))
        .collect();
    assert!(unmarked.is_empty(), "{unmarked:?}");
}
