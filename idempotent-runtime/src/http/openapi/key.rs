//! [`Key`]: the headers that carry a handler's key, as a document describes them.

use crate::http::policy::Format;

/// The headers of an idempotency key.
///
/// As it is, it describes `#[idempotent]` without options: a UUID in `idempotency-key` or
/// `x-idempotency-key`, which may be left out.
///
/// Under `utoipa`, an attribute above `#[utoipa::path]` describes itself. Below it this type does, for a
/// handler that changes none of the options `header`, `format`, `required` and `key`:
///
/// ```
/// # #[cfg(feature = "utoipa")] {
/// use utoipa::IntoParams as _;
///
/// let parameters = idempotent_runtime::openapi::Key::into_params(|| None);
/// let names: Vec<&str> = parameters.iter().map(|parameter| &*parameter.name).collect();
/// assert_eq!(names, ["idempotency-key", "x-idempotency-key"]);
/// # }
/// ```
///
/// Under `aide`, a handler that changes one of them says so with `Key::describe`.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Key {
    pub(super) headers: &'static [&'static str],
    pub(super) format: Format,
    pub(super) required: bool,
    /// How long a response is replayed, in words; `None` if that is not known here.
    pub(super) ttl: Option<&'static str>,
}

impl Key {
    /// The key of `#[idempotent]` without options.
    pub const fn new() -> Self {
        Self {
            headers: &["idempotency-key", "x-idempotency-key"],
            format: Format::Uuid,
            required: false,
            ttl: None,
        }
    }

    /// Those of the attribute's option `header`, in lower case. None for a handler with the option
    /// `key`, which reads no header.
    pub const fn headers(self, names: &'static [&'static str]) -> Self {
        Self { headers: names, ..self }
    }

    /// Says `format = "uuid-v4"`.
    pub const fn uuid_v4(self) -> Self {
        Self { format: Format::UuidV4, ..self }
    }

    /// Says `format = "any"`: 1 to 255 printable ASCII characters.
    pub const fn any(self) -> Self {
        Self { format: Format::Any, ..self }
    }

    /// Says `required`. Of several headers the first one is required in the document, because
    /// OpenAPI cannot say "one of these".
    pub const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// Says how long a response is replayed, in words that stand behind "for", such as `7 days`.
    pub const fn ttl(self, words: &'static str) -> Self {
        Self { ttl: Some(words), ..self }
    }
}

impl Default for Key {
    fn default() -> Self {
        Self::new()
    }
}
