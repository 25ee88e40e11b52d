//! What `utoipa` is told about the key.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::quote;

use super::path;
use crate::{
    expand::library::Library,
    options::{Format, Options},
};

/// The runtime's defaults.
const DEFAULT_HEADERS: [&str; 2] = ["idempotency-key", "x-idempotency-key"];
const DEFAULT_TTL: Duration = Duration::from_secs(3600);

/// The key as the options define it, in the headers that the arguments of `#[utoipa::path]` do not
/// describe already; `None` if they describe all of them.
pub(super) fn key(
    library: &Library<'_>,
    options: &Options,
    arguments: &TokenStream,
    ttl: &str,
) -> Option<TokenStream> {
    if options.key.is_given() || path::has_key(arguments) {
        return None;
    }
    let default = || DEFAULT_HEADERS.map(str::to_owned).to_vec();
    let all = options.header.value().cloned().unwrap_or_else(default);
    let described = path::described_headers(arguments);
    let is_described = |header: &String| described.iter().any(|it| it.eq_ignore_ascii_case(header));
    let headers: Vec<&String> = all.iter().filter(|header| !is_described(header)).collect();
    let first = *headers.first()?;

    let private = library.here();
    let mut key = quote!(#private::openapi::Key::new());
    if headers != DEFAULT_HEADERS {
        key.extend(quote!(.headers(&[#(#headers),*])));
    }
    match options.format.value() {
        Some(Format::Any(_)) => key.extend(quote!(.any())),
        Some(Format::UuidV4) => key.extend(quote!(.uuid_v4())),
        Some(Format::Uuid) | None => {}
    }
    // Only the first header is required.
    if options.required.is_given() && *first == all[0] {
        key.extend(quote!(.required()));
    }
    Some(quote!(#key.ttl(#ttl)))
}

/// How long a response is replayed, in words.
pub(super) fn ttl(options: &Options) -> String {
    words(options.ttl.value().copied().unwrap_or(DEFAULT_TTL))
}

/// A duration in words: `1 hour 30 minutes`.
fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 86_400, "day"),
        (seconds / 3_600 % 24, "hour"),
        (seconds / 60 % 60, "minute"),
        (seconds % 60, "second"),
        (u64::from(duration.subsec_millis()), "millisecond"),
    ];
    let words = parts.into_iter().filter(|(count, _)| *count > 0);
    let words = words.map(|(count, unit)| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} {unit}{plural}")
    });
    words.collect::<Vec<_>>().join(" ")
}
