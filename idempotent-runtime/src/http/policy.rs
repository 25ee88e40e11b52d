//! What one `#[idempotent]` asks for: the attribute's options, checked at compile time.

use std::time::Duration;

use http::{HeaderName, StatusCode};

/// The options of one attribute. The expansion holds it in a `static`.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// How long a stored response is replayed.
    pub ttl: Duration,
    /// The header names the key is read from; empty means `idempotency-key` and
    /// `x-idempotency-key`.
    pub header: &'static [HeaderName],
    /// Which keys are valid.
    pub format: Format,
    /// Whether a request without a key is refused.
    pub required: bool,
    /// Which responses are stored.
    pub replay: Replay,
    /// How long a concurrent duplicate waits.
    pub wait: Duration,
    /// Where the key comes from.
    pub key: KeySource,
    /// What makes two requests the same one.
    pub fingerprint: FingerprintSource,
    /// The name of the operation, if the attribute gives one.
    pub scope: Option<&'static str>,
    /// When the attribute's expressions are evaluated.
    pub evaluated: Stage,
}

impl Policy {
    /// The attribute without options.
    pub const DEFAULT: Self = Self {
        ttl: Duration::from_secs(3600),
        header: &[],
        format: Format::Uuid,
        required: false,
        replay: Replay { classes: 1 << 2 | 1 << 3, codes: &[] },
        wait: Duration::from_secs(10),
        key: KeySource::Header,
        fingerprint: FingerprintSource::Request,
        scope: None,
        evaluated: Stage::BeforeExtraction,
    };

    /// The header names the key is read from.
    pub(crate) fn header_names(&self) -> &'static [HeaderName] {
        // Not in `DEFAULT`: a constant cannot refer to a `HeaderName`.
        static DEFAULT: [HeaderName; 2] = [
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("x-idempotency-key"),
        ];
        if self.header.is_empty() { &DEFAULT } else { self.header }
    }
}

/// Which keys a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A UUID of any version in hyphenated form, neither nil nor max (RFC 9562).
    Uuid,
    /// A UUID of version 4 and the RFC variant.
    UuidV4,
    /// 1 to 255 printable ASCII characters.
    Any,
}

/// Where the key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySource {
    /// A request header.
    Header,
    /// The attribute's `key` expression.
    Expression,
}

/// What makes two requests with the same key the same request. Method and full path always count,
/// except for [`None`](Self::None).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FingerprintSource {
    /// Query, content type and body.
    Request,
    /// Like `Request`, but a JSON body counts by its value (RFC 8785).
    Json,
    /// Nothing else.
    Path,
    /// Nothing at all: the key alone.
    None,
    /// The attribute's `fingerprint` expression.
    Expression,
}

/// When the attribute's expressions are evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before the last parameter is extracted, because none of them uses it.
    BeforeExtraction,
    /// After the last parameter is extracted.
    AfterExtraction,
}

/// Which responses are stored, by status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replay {
    /// Bit `n` stands for the class `nxx`.
    pub classes: u8,
    /// Individual status codes.
    pub codes: &'static [u16],
}

impl Replay {
    /// Every response.
    pub const ALL: Self = Self { classes: u8::MAX, codes: &[] };

    pub(crate) fn includes(self, status: StatusCode) -> bool {
        let class = status.as_u16() / 100;
        // Codes from 800 up have no class bit; only `all` stores them.
        u8::MAX == self.classes
            || (class < 8 && self.classes >> class & 1 == 1)
            || self.codes.contains(&status.as_u16())
    }
}
