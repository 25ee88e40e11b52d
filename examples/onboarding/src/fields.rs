//! Types of input fields. A value of them is valid: what is not is refused with the body.

use email_address::{EmailAddress, Options};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An email address, bare (`ada@example.com`) and with a domain name.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, format = Email, example = "ada@example.com")]
pub(crate) struct Email(EmailAddress);

impl Email {
    /// Equal but for case: no mail provider that matters tells `Ada@` from `ada@`.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0.as_str().eq_ignore_ascii_case(other.0.as_str())
    }
}

impl TryFrom<String> for Email {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let options =
            Options::default().with_required_tld().without_display_text().without_domain_literal();
        EmailAddress::parse_with_options(&text, options)
            .map(Self)
            .map_err(|_| "must be an email address, such as `ada@example.com`")
    }
}

impl From<Email> for String {
    fn from(email: Email) -> Self {
        email.0.into()
    }
}

/// A text that is not blank.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(
    example = "Ada",
    pattern = r"[^\t-\r \u0085\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000]"
)]
pub(crate) struct Text(String);

impl TryFrom<String> for Text {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.trim().is_empty() { Err("must not be blank") } else { Ok(Self(text)) }
    }
}
