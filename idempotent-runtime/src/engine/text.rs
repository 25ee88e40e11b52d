//! [`Text`]: the text of a principal or a key, which nearly always fits inline.

use std::fmt::{self, Display, Write as _};

/// A text that needs no allocation as long as it is no longer than a UUID.
#[derive(Clone)]
pub struct Text(Form);

#[derive(Clone)]
enum Form {
    Short { bytes: [u8; Text::SHORT], length: u8 },
    Long(String),
}

impl Text {
    const SHORT: usize = 46;

    /// The text that `value` displays.
    pub(crate) fn from_display<T: Display + ?Sized>(value: &T) -> Self {
        let mut text = Self(Form::Short { bytes: [0; Self::SHORT], length: 0 });
        write!(text, "{value}").expect("`Display` fails only if what it writes to does");
        text
    }

    pub(crate) fn as_str(&self) -> &str {
        match &self.0 {
            Form::Short { bytes, length } => {
                let (written, _) = bytes.split_at(usize::from(*length));
                std::str::from_utf8(written).expect("whole strings were written")
            }
            Form::Long(text) => text,
        }
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        match &mut self.0 {
            Form::Long(text) => text.push_str(more),
            Form::Short { bytes, length } => {
                let start = usize::from(*length);
                let end = start + more.len();
                if let (Some(place), Ok(end)) = (bytes.get_mut(start..end), u8::try_from(end)) {
                    place.copy_from_slice(more.as_bytes());
                    *length = end;
                } else {
                    self.0 = Form::Long([self.as_str(), more].concat());
                }
            }
        }
        Ok(())
    }
}

/// Never shows the text: it may be a raw key or principal.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text(…)")
    }
}

/// The value of a `principal` or `key` expression: a [`Display`] value, or an [`Option`] of one.
///
/// Every such type implements it, and no other can: for your own type, implement [`Display`].
/// `Kind` tells a value from an `Option`; the compiler infers it, since no `Option` is `Display`.
///
/// ```
/// use idempotent_runtime::{Idempotency, MemoryStore, OptionalDisplay};
///
/// struct User {
///     id: u64,
/// }
///
/// fn owner(user: Option<&User>) -> impl OptionalDisplay<Option<()>> {
///     user.map(|user| user.id)
/// }
///
/// let operation = Idempotency::new(MemoryStore::new()).operation("charge-card");
/// let of = |user| operation.clone().principal(owner(user)).key("1").digest();
/// assert_ne!(of(Some(&User { id: 7 })), of(None));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be used as a principal or key",
    label = "neither `Display` nor an `Option` of a `Display` value",
    note = "use a single value that implements `Display`, such as `user.id`, or implement `Display` for this type"
)]
pub trait OptionalDisplay<Kind = ()> {
    /// The value's text, or `None`. Only this crate can name the return type, and so implement the
    /// trait.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_what_was_displayed_however_long_and_in_how_many_pieces() {
        for length in 0..120 {
            let whole = "aé€😀".chars().cycle().take(length).collect::<String>();
            assert_eq!(Text::from_display(&whole).as_str(), whole);
            let (first, second) = (&whole, format_args!("-{length}-{whole}"));
            let text = Text::from_display(&format_args!("{first}{second}"));
            assert_eq!(text.as_str(), format!("{whole}-{length}-{whole}"));
        }
    }
}
