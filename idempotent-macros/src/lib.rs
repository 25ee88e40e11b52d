//! The `#[idempotent]` attribute of [`idempotent-axum`](https://docs.rs/idempotent-axum).
//!
//! `options` holds the options, how they are written and what they mean; `item` is the function
//! below the attribute, and whether it can be a handler; `expand` combines the two. All run-time
//! behaviour is in `idempotent-runtime`.

mod expand;
mod faults;
mod item;
mod options;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;
use quote::quote;

use crate::{faults::Faults, item::Function, options::Options};

/// Makes an Axum handler safe to retry.
///
/// The first request with an idempotency key runs the handler once; every later request with that key
/// gets the stored response back. Requests without a key run as if the attribute were absent.
///
/// ```
/// use axum::{Json, Router, http::StatusCode, routing::post};
/// use idempotent_axum::idempotent;
///
/// #[idempotent(ttl = "1d")]
/// async fn invite(Json(email): Json<String>) -> (StatusCode, String) {
///     (StatusCode::CREATED, format!("invited {email}"))
/// }
///
/// let app: Router = Router::new().route("/invite", post(invite));
/// ```
///
/// # Options
///
/// All options are optional, in any order.
///
/// | option | value | default | meaning |
/// |---|---|---|---|
/// | `ttl` | duration string, `"1h"`, `"7d"`, `"90s"`, `"1h 30m"` | `"1h"` | how long a stored response is replayed, counted from when it was stored; replays do not extend it |
/// | `header` | a header name, or an array of names | `["idempotency-key", "x-idempotency-key"]` | where the key is read |
/// | `format` | `"uuid"`, `"uuid-v4"`, `"any"` | `"uuid"` | which keys are valid; `"any"` requires `principal` |
/// | `required` | flag | off | a request without a key gets 400 instead of running unprotected |
/// | `replay` | a status class or code, or an array: `"2xx"`, `["2xx", "3xx", "409"]`, or `"all"` | `["2xx", "3xx"]` | which responses are stored; any other releases the key |
/// | `wait` | duration string | `"10s"` | how long a concurrent duplicate waits for the first one's response before 409; `"0s"` answers 409 at once |
/// | `principal` | expression: a `Display` value, or an `Option` of one | none | whose key it is: two principals can use the same key without colliding; `None` is itself a principal |
/// | `key` | expression: a `Display` value, or an `Option` of one | the header | derives the key from the request (a webhook's `event.id`) instead of reading a header; used unchanged, any length; an empty key is a 400; `None` is "no key"; requires `principal`; excludes `header`, `format`, `required` |
/// | `fingerprint` | `"request"`, `"json"`, `"path"`, `"none"`, or an expression: any `Hash` value | `"request"`; `"path"` if `key` is given | what must be equal for two requests with the same key to count as the same request |
/// | `scope` | string | HTTP method and matched route, nest prefix included | names the operation; two handlers with one `scope` share a key space |
/// | `crate` | path | `::idempotent_axum` | where generated code finds the library |
///
/// A key that others could guess must name its owner. A constant (`principal = "everyone"`) makes
/// it explicit that all callers share one key space.
///
/// The fingerprint `"request"` covers method, path, query, content type and body. `"json"` does the
/// same, but treats two JSON bodies as equal if they are equal under RFC 8785. `"path"` covers
/// method and path alone. An expression replaces query, content type and body.
///
/// # Expressions
///
/// `principal`, `key` and `fingerprint` see the parameters as the body does, and borrow them. They
/// are evaluated only if there is a key to look up: before the last parameter is extracted, or
/// after it if any of them uses a value of the last parameter.
///
/// ```
/// use axum::{Json, http::HeaderMap};
/// use idempotent_axum::idempotent;
///
/// #[derive(serde::Deserialize)]
/// struct Event {
///     id: String,
///     account: String,
///     cents: u64,
/// }
///
/// #[idempotent(key = event.id, principal = event.account, fingerprint = (event.account, event.cents))]
/// async fn webhook(headers: HeaderMap, Json(event): Json<Event>) -> String {
///     format!("{} cents for {} ({} headers)", event.cents, event.account, headers.len())
/// }
/// # let _ = axum::routing::post::<_, _, ()>(webhook);
/// ```
///
/// A fingerprint is only as stable across builds of the service as the `Hash` of its value.
///
/// # The handler
///
/// Any `async fn` that Axum accepts: with any parameters or none, generic (type parameters must be
/// `'static` and their futures `Send`), an associated function, with `return` and `?` in its body.
/// All extractors run before a response is replayed: a caller whom one of them rejects gets that
/// rejection.
///
/// `#[axum::debug_handler]`, `#[tracing::instrument]` and `#[utoipa::path]` go above; on a handler
/// without parameters `debug_handler` goes below. With the feature `utoipa` the attribute goes
/// above `#[utoipa::path]`, and adds the key, the errors and the replay to its description. If the
/// compiler says only that `Handler` is not implemented, `#[axum::debug_handler]` tells which
/// parameter is not an extractor.
///
/// In the compiled signature the last parameter is wrapped in `Idempotent`, here
/// `Idempotent<Json<String>>`. A unit test calls the handler with `.into()` on that argument: it
/// runs without a key and returns a `Response`.
///
/// ```
/// use axum::{Json, extract::Path};
/// use idempotent_axum::idempotent;
///
/// #[idempotent]
/// async fn rename(Path(id): Path<u64>, Json(name): Json<String>) -> Result<String, ()> {
///     Ok(format!("{id} is {name}"))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let response = rename(Path(7), Json("Ada".to_owned()).into()).await;
/// assert_eq!(response.status(), 200);
/// # }
/// ```
///
/// # Expands to
///
/// ```text
/// #[idempotent(ttl = "1d", principal = user.id)]
/// async fn invite(user: User, Json(body): Json<Invite>) -> Result<Response, AppError> {
///     send(body).await
/// }
/// ```
///
/// becomes
///
/// ```text
/// async fn invite(user: User, body: ::idempotent_axum::__private::Idempotent<Json<Invite>>) -> ::idempotent_axum::__private::Response where {
///     static __POLICY: ::idempotent_axum::__private::Policy = ::idempotent_axum::__private::Policy { ttl: ::core::time::Duration::new(86400u64, 0u32), ..::idempotent_axum::__private::Policy::DEFAULT };
///     let __known = ::idempotent_axum::__private::Idempotent::probe(&body).known();
///     return ::idempotent_axum::__private::Idempotent::run(body, &__POLICY, __known, <Result<Response, AppError> as ::idempotent_axum::__private::IntoResponse>::into_response, move |__evaluated| {
///         if let ::core::option::Option::Some(__evaluated) = __evaluated {
///             __evaluated.principal(::idempotent_axum::__private::OptionalDisplay::text::<>(&(user.id)));
///         }
///         move |Json(body): Json<Invite>, _| {
///             let __future = async move {
///                 let _ = &user; if false { return ::idempotent_axum::__private::output::<Result<Response, AppError>>(); #[allow(unreachable_code)] let _ = &body; }
///                 '__body: { send(body).await }
///             };
///             __future
///         }
///     }).await;
/// }
/// ```
#[proc_macro_attribute]
pub fn idempotent(
    arguments: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let (arguments, item) = (arguments.into(), item.into());
    let described =
        if cfg!(feature = "utoipa") { expand::openapi::describe(&arguments, &item) } else { None };
    described.unwrap_or_else(|| attribute(arguments, &item)).into()
}

/// The attribute on token streams, which a test can build.
///
/// Whatever is wrong, the item itself is still emitted, so that no second error follows from its
/// absence.
fn attribute(arguments: TokenStream, item: &TokenStream) -> TokenStream {
    let mut faults = Faults::default();
    let options = Options::parse(arguments, &mut faults);
    let function = faults.ok(syn::parse2::<Function>(item.clone()));
    let handler = match function.and_then(|function| function.into_handler(&mut faults)) {
        Some(function) if !options.library_is_unknown() => expand::expand(&options, function),
        _ => item.clone(),
    };
    match faults.into_result() {
        Ok(()) => handler,
        Err(errors) => {
            let errors = errors.into_compile_error();
            // Where only an expression is allowed, there can be only one.
            if item::is_closure(item.clone()) {
                quote!({ #errors #handler })
            } else {
                quote!(#errors #handler)
            }
        }
    }
}
