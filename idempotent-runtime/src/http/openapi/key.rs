//! [`Key`]: the headers that carry a handler's key, as a document describes them.

use crate::http::policy::Format;

/// The headers of an idempotency key.
///
/// By default it describes `#[idempotent]` without options: an optional UUID in `idempotency-key`
/// or `x-idempotency-key`.
///
/// With `utoipa`, an attribute above `#[utoipa::path]` describes itself. For an attribute below it
/// use this type, if the handler changes none of the options `header`, `format`, `required` and
/// `key`:
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
/// With `aide`, a handler that changes one of them says so with `Key::describe`.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Key {
    pub(super) headers: &'static [&'static str],
    pub(super) format: Format,
    pub(super) required: bool,
    /// How long a response is replayed, in words; `None` if unknown here.
    pub(super) ttl: Option<&'static str>,
}

impl Key {
    /// The key of `#[idempotent]` without options.
    ///
    /// ```
    /// # use idempotent_runtime::openapi::Key;
    /// let key = Key::new();
    /// assert!(format!("{key:?}").contains("x-idempotency-key"));
    /// ```
    pub const fn new() -> Self {
        Self {
            headers: &["idempotency-key", "x-idempotency-key"],
            format: Format::Uuid,
            required: false,
            ttl: None,
        }
    }

    /// Sets the header names of the attribute's option `header`, in lower case. Pass none for a
    /// handler with the option `key`, which reads no header.
    ///
    /// ```
    /// # use idempotent_runtime::openapi::Key;
    /// let key = Key::new().headers(&["x-key"]);
    /// assert!(format!("{key:?}").contains(r#"headers: ["x-key"]"#));
    /// ```
    pub const fn headers(self, names: &'static [&'static str]) -> Self {
        Self { headers: names, ..self }
    }

    /// For `format = "uuid-v4"`.
    ///
    /// ```
    /// # use idempotent_runtime::openapi::Key;
    /// let key = Key::new().uuid_v4();
    /// assert!(format!("{key:?}").contains("UuidV4"));
    /// ```
    pub const fn uuid_v4(self) -> Self {
        Self { format: Format::UuidV4, ..self }
    }

    /// For `format = "any"`: 1 to 255 printable ASCII characters.
    ///
    /// ```
    /// # use idempotent_runtime::openapi::Key;
    /// let key = Key::new().any();
    /// assert!(format!("{key:?}").contains("Any"));
    /// ```
    pub const fn any(self) -> Self {
        Self { format: Format::Any, ..self }
    }

    /// For `required`. If there are several headers, the document marks the first one as required,
    /// because OpenAPI cannot express "one of these".
    ///
    /// ```
    /// # use idempotent_runtime::openapi::Key;
    /// let key = Key::new().required();
    /// assert!(format!("{key:?}").contains("required: true"));
    /// ```
    pub const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// Sets how long a response is replayed, in words that follow "for", such as `7 days`.
    ///
    /// ```
    /// # use idempotent_runtime::openapi::Key;
    /// let key = Key::new().ttl("7 days");
    /// assert!(format!("{key:?}").contains("7 days"));
    /// ```
    pub const fn ttl(self, words: &'static str) -> Self {
        Self { ttl: Some(words), ..self }
    }
}

impl Default for Key {
    fn default() -> Self {
        Self::new()
    }
}
