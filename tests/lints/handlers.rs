//! Handlers as people write them, with the faults that lints find and without.
//!
//! `tests/lints.rs` compiles this file twice: as it is, and without the attribute.

use std::fmt::Display;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{MethodRouter, post},
};
use idempotent_axum::idempotent;

#[derive(Clone, serde::Deserialize, Hash)]
struct User {
    id: String,
    tenant: Option<String>,
}

// One line.

#[idempotent]
async fn shout(body: String) -> String { body.to_uppercase() }

#[idempotent]
async fn echo(body: String) -> String { body }

#[idempotent]
async fn constant() -> &'static str { "constant" }

#[idempotent]
async fn nothing() {}

#[idempotent]
async fn awaits(body: String) -> String { later(body).await }

#[idempotent]
async fn awaits_nothing() { later(String::new()).await; }

#[idempotent]
async fn returns(body: String) -> String { return body; }

#[idempotent]
async fn returns_bare(body: String) -> String { return body }

#[idempotent]
async fn calls(body: String) -> Response { body.into_response() }

#[idempotent]
async fn macro_alone(body: String) -> String { format!("{body}") }

#[idempotent]
async fn block_in_block(body: String) -> String { { body.to_lowercase() } }

#[idempotent]
async fn parentheses(body: String) -> String { (body) }

#[idempotent]
async fn branch(body: String) -> String { if body.is_empty() { "a".to_owned() } else { body } }

#[idempotent]
async fn chosen(body: String) -> StatusCode { match body.len() { 0 => StatusCode::CREATED, _ => StatusCode::OK } }

#[idempotent]
async fn endless(_body: String) -> String { loop { later(String::new()).await; } }

#[idempotent]
async fn diverges(_body: String) -> String { panic!("never") }

#[idempotent]
async fn unfinished(body: String) -> String { todo!() }

#[idempotent]
async fn unsafe_block(body: Bytes) -> String { unsafe { String::from_utf8_unchecked(body.to_vec()) } }

#[idempotent]
async fn tried(body: String) -> Result<String, StatusCode> { Ok(parsed(&body)?.to_string()) }

#[idempotent]
async fn wrapped_try(body: String) -> Result<String, StatusCode> { Ok(parsed(&body).map(|number| number.to_string())?) }

#[idempotent]
async fn async_block(body: String) -> String { async { body }.await }

#[idempotent]
async fn closure_call(body: String) -> String { (|| body)() }

// Blocks.

#[idempotent]
async fn items_first(body: String) -> String {
    const SUFFIX: &str = "!";
    fn with(mut text: String) -> String {
        text.push_str(SUFFIX);
        text
    }
    with(body)
}

#[idempotent]
async fn items_later(body: String) -> String {
    let text = body;
    const SUFFIX: &str = "!";
    text + SUFFIX
}

#[idempotent]
async fn uses_inside(body: String) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    write!(text, "{body}").unwrap();
    text
}

#[idempotent]
async fn question_mark(Path(id): Path<String>, Json(body): Json<User>) -> Result<String, StatusCode> {
    let id: u64 = id.parse().map_err(|_| StatusCode::BAD_REQUEST)?;
    Ok(format!("{}{}", id, body.id))
}

#[idempotent]
async fn early_return(body: String) -> String {
    if body.is_empty() {
        return String::new();
    }
    return later(body).await;
}

#[idempotent]
async fn let_and_return(body: String) -> String {
    let text = body.to_uppercase();
    text
}

#[idempotent]
async fn without_semicolon(body: String) {
    later(body).await;
    drop(())
}

#[idempotent]
async fn unit_value(body: String) {
    let done = drop(body);
    done
}

#[idempotent]
async fn unreachable(body: String) -> String {
    return body;
    "after".to_owned()
}

#[idempotent]
async fn shadows(body: String) -> String {
    let body = body.trim();
    let body = body.len();
    body.to_string()
}

#[idempotent]
async fn shadows_of_a_pattern(Json(body): Json<User>, ) -> String {
    let body = body.id;
    body
}

#[idempotent]
async fn labelled(body: String) -> String {
    'outer: loop {
        loop {
            if body.is_empty() { continue 'outer; }
            break 'outer;
        }
    }
    body
}

#[idempotent]
async fn unused_label(body: String) -> String {
    'unused: loop { break; }
    body
}

#[idempotent]
async fn unused_values(body: String) -> String {
    body.len();
    let unused = 1;
    let mut never_changed = 2;
    drop(never_changed);
    body.clone()
}

#[idempotent]
async fn long_match(body: String) -> Response {
    match body.as_str() {
        "a" => return (StatusCode::CREATED, "a").into_response(),
        "b" => {}
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    StatusCode::OK.into_response()
}

#[idempotent]
async fn nested_async(body: String) -> String {
    let task = tokio::spawn(async move { later(body).await });
    task.await.unwrap_or_default()
}

#[idempotent]
async fn closures(body: String) -> String {
    let prefix = |text: &str| format!("{}{}", body, text);
    ["a", "b"].iter().map(|text| prefix(text)).collect()
}

#[idempotent]
async fn long(body: String) -> String {
    let mut text = body;
    if text.len() == 0 {
        text.push('a');
    }
    if text.len() == 1 {
        text.push('b');
    }
    if text.len() == 2 {
        text.push('c');
    }
    if text.len() == 3 {
        text.push('d');
    }
    if text.len() == 4 {
        text.push('e');
    }
    if text.len() == 5 {
        text.push('f');
    }
    if text.len() == 6 {
        text.push('g');
    }
    if text.len() == 7 {
        text.push('h');
    }
    if text.len() == 8 {
        text.push('i');
    }
    if text.len() == 9 {
        text.push('j');
    }
    if text.len() == 10 {
        text.push('k');
    }
    if text.len() == 11 {
        text.push('l');
    }
    if text.len() == 12 {
        text.push('m');
    }
    if text.len() == 13 {
        text.push('n');
    }
    if text.len() == 14 {
        text.push('o');
    }
    if text.len() == 15 {
        text.push('p');
    }
    if text.len() == 16 {
        text.push('q');
    }
    if text.len() == 17 {
        text.push('r');
    }
    if text.len() == 18 {
        text.push('s');
    }
    if text.len() == 19 {
        text.push('t');
    }
    if text.len() == 20 {
        text.push('u');
    }
    if text.len() == 21 {
        text.push('v');
    }
    if text.len() == 22 {
        text.push('w');
    }
    if text.len() == 23 {
        text.push('x');
    }
    if text.len() == 24 {
        text.push('y');
    }
    if text.len() == 25 {
        text.push('z');
    }
    if text.len() == 26 {
        text.push('a');
    }
    if text.len() == 27 {
        text.push('b');
    }
    if text.len() == 28 {
        text.push('c');
    }
    if text.len() == 29 {
        text.push('d');
    }
    if text.len() == 30 {
        text.push('e');
    }
    if text.len() == 31 {
        text.push('f');
    }
    if text.len() == 32 {
        text.push('g');
    }
    if text.len() == 33 {
        text.push('h');
    }
    if text.len() == 34 {
        text.push('i');
    }
    if text.len() == 35 {
        text.push('j');
    }
    text
}

// Parameters.

#[idempotent]
async fn unused_last(body: String) {}

#[idempotent]
async fn unused_first(uri: Uri, body: String) -> String { body }

#[idempotent]
async fn underscored(_uri: Uri, _body: String) {}

#[idempotent]
async fn underscored_and_used(_uri: Uri, _body: String) -> String { format!("{_uri}{_body}") }

#[idempotent]
async fn wild(_: Uri, _: String) {}

#[idempotent]
async fn mutable(mut uri: Uri, mut body: String) -> String {
    uri = Uri::default();
    body.push('a');
    format!("{uri}{body}")
}

#[idempotent]
async fn needlessly_mutable(mut uri: Uri, mut body: String) -> String { format!("{uri}{body}") }

#[idempotent]
async fn assigned_only(mut uri: Uri, mut body: String) {
    uri = Uri::default();
    body = String::new();
}

#[idempotent]
async fn patterns(
    Path((a, [b, ..])): Path<(u64, [u64; 2])>,
    Query(User { id, .. }): Query<User>,
    Json((mut c, d)): Json<(u64, u64)>,
) -> String {
    c += a;
    format!("{b}{id}{c}{d}")
}

#[idempotent]
async fn unused_in_patterns(Path((a, b)): Path<(u64, u64)>, Json((c, d)): Json<(u64, u64)>) -> String {
    format!("{a}{c}")
}

#[idempotent]
async fn bound_whole(user @ Json(_): Json<u64>) -> String { user.0.to_string() }

#[idempotent]
async fn only_borrowed(State(user): State<User>, headers: HeaderMap, body: String) -> usize_of::Text {
    usize_of::text(&user.id, &headers, &body)
}

#[idempotent]
async fn unused_beside_a_field(Path(id): Path<u64>, Json(body): Json<User>) -> String { body.id }

#[idempotent]
async fn unused_beside_an_argument(Path(id): Path<u64>, body: String) -> String {
    let user = User { id: body.clone(), tenant: Some(body) };
    user.id
}

#[idempotent]
async fn unused_beside_another(Path(id): Path<u64>, body: String) -> String {
    let id = body.len();
    id.to_string()
}

#[idempotent]
async fn unused_beside_that_of_a_closure(Path(id): Path<u64>, body: String) -> usize_of::Text {
    body.chars().map(|id| id.to_ascii_uppercase()).collect()
}

#[idempotent]
async fn partly_used(State(user): State<User>, Json(body): Json<User>) -> String { user.id + &body.id }

#[idempotent(principal = id)]
async fn of_expression_alone(Path(id): Path<u64>, Json(body): Json<User>) -> String { drop(id); body.id }

#[idempotent]
async fn raw(r#type: Uri, r#match: String) -> String { format!("{}{}", r#type, r#match) }

#[idempotent]
async fn one_character(Json(x): Json<u64>) -> String { x.to_string() }

#[idempotent]
async fn many(
    a: Uri,
    b: HeaderMap,
    c: Uri,
    d: HeaderMap,
    e: Uri,
    f: HeaderMap,
    g: Uri,
    h: String,
) -> String {
    drop((a, b, c, d, e, f, g));
    h
}

#[idempotent]
async fn conditional(#[cfg(all(unix, unix))] uri: Uri, body: String) -> String { body }

#[idempotent]
async fn allowed(#[allow(unused_variables)] uri: Uri, #[expect(unused_variables)] body: String) {}

#[idempotent]
async fn expected(#[expect(unused_mut)] mut body: String) -> String { body }

#[idempotent]
async fn in_vain(#[expect(unused_mut)] mut body: String) -> String {
    body.push('a');
    body
}

// Return types.

#[idempotent]
async fn opaque(body: String) -> impl IntoResponse { (StatusCode::CREATED, body) }

#[idempotent]
async fn opaque_result(body: String) -> Result<impl IntoResponse, impl IntoResponse> {
    parsed(&body).map(|number| number.to_string())
}

#[idempotent]
async fn tuple(body: String) -> (StatusCode, HeaderMap, String) {
    (StatusCode::CREATED, HeaderMap::new(), body)
}

#[idempotent]
async fn explicit_unit(body: String) -> () { drop(body); }

#[idempotent]
async fn infallible(body: String) -> Result<String, StatusCode> { Ok(body) }

#[idempotent]
async fn large_error(body: String) -> Result<(), Response> {
    Err(body.into_response())
}

// Expressions of the attribute.

#[idempotent(principal = user.id, fingerprint = (user.id, user.tenant))]
async fn of_user(State(user): State<User>, body: String) -> String { user.id + &body }

#[idempotent(principal = user.id, fingerprint = user)]
async fn of_user_alone(State(user): State<User>) -> String { user.id }

#[idempotent(key = user.id, principal = user.tenant.as_deref().unwrap_or("none"))]
async fn key_of_body(Json(user): Json<User>) -> String { user.id }

#[idempotent(key = body.id, principal = "everyone", fingerprint = "request")]
async fn key_of_body_mutable(uri: Uri, Json(mut body): Json<User>) -> String {
    body.id.push('a');
    format!("{uri}{}", body.id)
}

#[idempotent(principal = format!("{uri}"), fingerprint = { let size = headers.len(); size > 2 })]
async fn formatted(uri: Uri, headers: HeaderMap, body: String) -> String { format!("{uri}{body}{}", headers.len()) }

#[idempotent(principal = format!("{body}!"))]
async fn formatted_last(uri: Uri, body: String) -> String { format!("{uri}{body}") }

#[idempotent(principal = if id > 1 { "a" } else { "b" }, format = "any", header = ["a", "b"], replay = "all")]
async fn branches(Path(id): Path<u64>, body: String) -> String { format!("{id}{body}") }

#[idempotent(ttl = "1d", wait = "1s", scope = "scope", required, format = "uuid-v4", replay = ["2xx", "404"])]
async fn options(Path(id): Path<u64>, body: String) -> String { format!("{id}{body}") }

#[idempotent(principal = id)]
async fn shadowed_afterwards(Path(id): Path<u64>, body: String) -> String {
    let id = id.to_string();
    let body = body + &id;
    body
}

#[idempotent(principal = user.id)]
async fn mutable_and_used(State(mut user): State<User>, body: String) -> String {
    user.id.push_str(&body);
    user.id
}

// Associated functions, generics.

trait Service: Clone + Send + Sync + 'static {
    const NAME: &'static str;

    fn call(&self) -> impl Future<Output = u64> + Send;
}

#[derive(Clone)]
struct Real;

impl Service for Real {
    const NAME: &'static str = "real";

    async fn call(&self) -> u64 { 1 }
}

#[idempotent(principal = S::NAME)]
async fn generic<S: Service, const MAX: usize>(State(service): State<S>, Json(mut list): Json<Vec<u64>>) -> impl IntoResponse {
    list.truncate(MAX + S::NAME.len());
    list.push(service.call().await);
    Json(list)
}

#[idempotent]
async fn generic_one_line<T>(State(service): State<T>) -> String where T: Service { service.call().await.to_string() }

struct Handlers<S>(std::marker::PhantomData<S>);

impl<S: Service> Handlers<S> {
    const PREFIX: &'static str = "prefix";

    #[idempotent(principal = Self::PREFIX, fingerprint = (Self::PREFIX, &name))]
    async fn associated<T>(State(service): State<S>, name: String) -> Result<impl IntoResponse, String>
    where
        T: Default + Display + Send + Sync + 'static,
    {
        if name.is_empty() {
            return Err(Self::PREFIX.to_owned());
        }
        Ok(format!("{name}{}{}", T::default(), service.call().await))
    }

    #[idempotent]
    async fn associated_one_line(body: String) -> String { Self::PREFIX.to_owned() + &body }
}

macro_rules! handler {
    ($name:ident, $parameter:ident, $body:block) => {
        #[idempotent(principal = $parameter)]
        async fn $name($parameter: String) -> String $body
    };
}

handler!(from_a_macro, text, { text });

#[idempotent]
async fn never_routed(body: String) -> String { body }

/// What another crate may see.
// In an OpenAPI document.

#[idempotent(ttl = "1d")]
#[utoipa::path(post, path = "/described", responses((status = 200, body = String), (status = 404)))]
async fn described(Json(name): Json<String>) -> String { name }

#[idempotent(header = "x-key", required)]
#[utoipa::path(post, path = "/faults", params(("id" = u64, Path)), responses((status = CREATED)))]
async fn described_with_faults(Path(id): Path<u64>, unused: String) -> String {
    let text = id.to_string();
    return text;
}

pub mod public {
    use idempotent_axum::idempotent;

    use super::{Response, StatusCode};

    /// A handler that others may route.
    #[idempotent]
    pub async fn shout(body: String) -> String { body.to_uppercase() }

    /// A handler whose response is made by others.
    #[idempotent]
    pub async fn response(body: String) -> Response { super::calls_response(&body) }

    /// A handler in an OpenAPI document.
    #[idempotent]
    #[utoipa::path(post, path = "/public", responses((status = "2XX")))]
    pub async fn described(body: String) -> String { body }

    #[idempotent]
    #[utoipa::path(post, path = "/public")]
    pub async fn described_and_undocumented(body: String) -> String { body }

    #[idempotent]
    pub async fn undocumented(body: String) -> StatusCode { drop(body); StatusCode::OK }
}

mod usize_of {
    use super::HeaderMap;

    pub(crate) type Text = String;

    pub(crate) fn text(id: &str, headers: &HeaderMap, body: &str) -> Text {
        format!("{id}{}{body}", headers.len())
    }
}

fn calls_response(body: &str) -> Response { body.to_owned().into_response() }

async fn later(text: String) -> String {
    tokio::task::yield_now().await;
    text
}

fn parsed(text: &str) -> Result<u64, StatusCode> { text.parse().map_err(|_| StatusCode::BAD_REQUEST) }

/// All handlers, in use.
pub fn app() -> Router {
    let user = User { id: String::new(), tenant: None };
    let one_line = [
        post(shout), post(echo), post(constant), post(nothing), post(awaits), post(awaits_nothing), post(returns),
        post(returns_bare), post(calls), post(macro_alone), post(block_in_block), post(parentheses), post(branch), post(chosen),
        post(endless), post(diverges), post(unfinished), post(unsafe_block), post(tried), post(wrapped_try),
        post(async_block), post(closure_call),
    ];
    let blocks = [
        post(items_first), post(items_later), post(uses_inside), post(question_mark), post(early_return), post(let_and_return),
        post(without_semicolon), post(unit_value), post(unreachable), post(shadows), post(shadows_of_a_pattern), post(labelled),
        post(unused_label), post(unused_values), post(long_match), post(nested_async), post(closures), post(long),
    ];
    let parameters = [
        post(unused_last), post(unused_first), post(underscored), post(underscored_and_used), post(wild), post(mutable),
        post(needlessly_mutable), post(assigned_only), post(patterns), post(unused_in_patterns), post(bound_whole),
        post(only_borrowed), post(raw),
        post(unused_beside_a_field), post(unused_beside_an_argument), post(unused_beside_another),
        post(unused_beside_that_of_a_closure), post(partly_used), post(of_expression_alone), post(one_character), post(many), post(conditional), post(allowed), post(expected),
        post(in_vain),
    ];
    let returned = [post(opaque), post(opaque_result), post(tuple), post(explicit_unit), post(infallible), post(large_error)];
    let expressions = [
        post(of_user), post(of_user_alone), post(key_of_body), post(key_of_body_mutable), post(formatted), post(formatted_last),
        post(branches), post(options), post(shadowed_afterwards), post(mutable_and_used), post(from_a_macro),
        post(public::shout), post(public::response), post(public::undocumented),
    ];
    let described = [
        post(described), post(described_with_faults), post(public::described),
        post(public::described_and_undocumented),
    ];
    let generic: MethodRouter<Real> = post(generic::<Real, 3>)
        .put(generic_one_line::<Real>)
        .patch(Handlers::<Real>::associated::<u64>)
        .delete(Handlers::<Real>::associated_one_line);
    let of_user = one_line.into_iter().chain(blocks).chain(parameters).chain(returned).chain(expressions).chain(described);
    of_user
        .enumerate()
        .fold(Router::new(), |app, (index, handler)| app.route(&format!("/{index}"), handler))
        .with_state(user)
        .merge(Router::new().route("/generic", generic).with_state(Real))
}
