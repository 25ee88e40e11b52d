//! [`Evaluated`]: what the attribute's expressions say about one request.

use std::fmt::Display;

use super::{fingerprint::StableHasher, key::Key, problem::Problem, text::Text};
use crate::engine::Digest;

/// What the attribute's expressions say about one request.
///
/// The expansion fills it in, before the last parameter is extracted or after it. It has no `Debug`:
/// it holds a raw key and principal.
#[derive(Default)]
#[allow(missing_debug_implementations, reason = "it holds a raw key and principal")]
pub struct Evaluated {
    principal: Option<Text>,
    key: Option<Text>,
    pub(super) fingerprint: Option<Digest>,
}

impl Evaluated {
    /// Whose key it is: two principals can use the same key without colliding.
    pub fn principal(&mut self, text: Option<Text>) {
        self.principal = text;
    }

    /// The idempotency key, taken from the request instead of a header; whether it is a key to look
    /// up.
    pub fn key(&mut self, text: Option<Text>) -> bool {
        self.key = text;
        self.key.as_ref().is_some_and(|key| !key.as_str().is_empty())
    }

    /// What must be equal for two requests with one key to be the same request.
    ///
    /// `hash` is [`Hash::hash`], named by the expansion: an error about it is one about `Hash`.
    ///
    /// [`Hash::hash`]: std::hash::Hash::hash
    pub fn fingerprint<T: ?Sized>(&mut self, value: &T, hash: fn(&T, &mut StableHasher)) {
        let mut hasher = StableHasher::new();
        hash(value, &mut hasher);
        self.fingerprint = Some(hasher.digest());
    }

    pub(super) fn principal_text(&self) -> Option<&str> {
        self.principal.as_ref().map(Text::as_str)
    }

    /// The key that an expression gave, or else `header`'s.
    ///
    /// # Errors
    ///
    /// Returns the problem if the expression's key is empty.
    pub(super) fn key_or(&self, header: Option<Key>) -> Result<Option<Key>, Problem> {
        match self.key.as_ref().map(Text::as_str) {
            Some("") => {
                Err(Problem::invalid_key("The idempotency key that the request gives is empty"))
            }
            Some(text) => Ok(Some(Key::exact(text))),
            None => Ok(header),
        }
    }
}

/// What a `principal` or `key` expression gives: a [`Display`] value, or an [`Option`] of one.
///
/// Every such type has it, and no other can: for a type of your own, implement [`Display`]. `Kind`
/// tells a value from an `Option`; the compiler infers it, for no `Option` is `Display`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be used as a principal or key",
    label = "neither `Display` nor an `Option` of a `Display` value",
    note = "write an expression for one value with a text, such as `user.id`, or implement `Display`"
)]
pub trait OptionalDisplay<Kind = ()> {
    /// The value's text, or `None`. Only this crate can name its type, and so implement this.
    #[doc(hidden)]
    fn text(&self) -> Option<Text>;
}

#[diagnostic::do_not_recommend]
impl<T: Display + ?Sized> OptionalDisplay for T {
    fn text(&self) -> Option<Text> {
        Some(Text::from_display(self))
    }
}

#[diagnostic::do_not_recommend]
impl<T: Display> OptionalDisplay<Option<()>> for Option<T> {
    fn text(&self) -> Option<Text> {
        self.as_ref().map(Text::from_display)
    }
}

#[diagnostic::do_not_recommend]
impl<T: Display> OptionalDisplay<Option<()>> for &Option<T> {
    fn text(&self) -> Option<Text> {
        self.as_ref().map(Text::from_display)
    }
}
