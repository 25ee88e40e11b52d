//! [`Text`]: the text of a principal or a key, which nearly always fits where it stands.

use std::fmt::{self, Display, Write as _};

/// A text of which the first bytes, as many as a UUID has, need no allocation.
#[derive(Clone)]
pub struct Text(Form);

#[derive(Clone)]
enum Form {
    Short { bytes: [u8; Text::SHORT], length: u8 },
    Long(String),
}

impl Text {
    const SHORT: usize = 46;

    /// What `value` displays as.
    pub(crate) fn from_display<T: Display + ?Sized>(value: &T) -> Self {
        let mut text = Self(Form::Short { bytes: [0; Self::SHORT], length: 0 });
        write!(text, "{value}").expect("`Display` fails only if what it writes to does");
        text
    }

    pub(crate) fn as_str(&self) -> &str {
        match &self.0 {
            Form::Short { bytes, length } => {
                let (written, _) = bytes.split_at(usize::from(*length));
                str::from_utf8(written).expect("whole strings were written")
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
