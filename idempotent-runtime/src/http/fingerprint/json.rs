//! The canonical form of a JSON body: equal for two bodies that are equal under RFC 8785, and for
//! no others.
//!
//! [`canonical`] returns the form of RFC 8785 (JSON Canonicalization Scheme): no white space,
//! members sorted by the UTF-16 code units of their names, one way to write each string and number.
//! RFC 8785 reads numbers as IEEE 754 doubles, so its form alone would not distinguish
//! 12345678901234567890 from 12345678901234567891. Here a body has a form only if each of its
//! numbers is *kept*: the decimal value as written equals the decimal value of what ECMAScript
//! prints for the nearest double.
//!
//! | written | form | |
//! |---|---|---|
//! | `19.99` | `19.99` | kept |
//! | `100`, `1e2`, `1E+2`, `100.0` | `100` | kept, and equal |
//! | `-0`, `0`, `0.0`, `0e400` | `0` | kept, and equal: the decimal value of `-0` is zero |
//! | `12345678901234567890` | | not kept: prints as 12345678901234567000 |
//! | `0.1000000000000000055` | | not kept: prints as 0.1 |
//! | `1e400`, `1e-400` | | not kept: prints as Infinity, as 0 |
//!
//! A body also has no form if it
//!
//! - is not JSON (RFC 8259) in UTF-8, or begins with a byte order mark,
//! - repeats a member name within an object, however the two are escaped: readers disagree on which
//!   one counts,
//! - escapes half of a surrogate pair on its own, which is not Unicode text,
//! - nests arrays and objects deeper than [`MAX_DEPTH`].
//!
//! Such a body counts as its bytes. Hence two bodies share a form only if they have the same
//! structure, the same strings and the same decimal values.
//!
//! Apart from sorting the members of objects, both time and memory are linear in the length of the
//! body.

use std::{borrow::Cow, ops::Range};

/// How deep arrays and objects may nest. `serde_json` has the same limit, so anything deeper does
/// not reach a handler through `Json` either.
const MAX_DEPTH: usize = 128;

/// The RFC 8785 form of `body`, or `None` if no form keeps its meaning.
pub(crate) fn canonical(body: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader {
        rest: std::str::from_utf8(body).ok()?,
        text: Vec::with_capacity(body.len()),
        unsorted: Vec::new(),
    };
    reader.value(MAX_DEPTH)?;
    reader.rest.is_empty().then(|| sorted(&reader.text, reader.unsorted))
}

/// Reads a JSON text and writes its form, except that members stay in their original order.
struct Reader<'a> {
    rest: &'a str,
    text: Vec<u8>,
    unsorted: Vec<Object>,
}

/// An object in [`Reader::text`] whose members are out of order.
struct Object {
    /// From the opening brace to the closing one.
    range: Range<usize>,
    /// The range of each member, name and value, in sorted order.
    members: Vec<Range<usize>>,
}

impl<'a> Reader<'a> {
    /// Takes one value, with the white space around it.
    ///
    /// Recursive: `depth` is the number of levels of arrays and objects that may still be opened.
    fn value(&mut self, depth: usize) -> Option<()> {
        self.skip_white_space();
        match self.rest.as_bytes().first()? {
            b'{' => self.object(depth.checked_sub(1)?)?,
            b'[' => self.array(depth.checked_sub(1)?)?,
            b'"' => drop(self.string()?),
            b'-' | b'0'..=b'9' => self.number()?,
            _ => ["null", "true", "false"].into_iter().find_map(|literal| self.take(literal))?,
        }
        self.skip_white_space();
        Some(())
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.take("[")?;
        self.skip_white_space();
        if self.take("]").is_some() {
            return Some(());
        }
        loop {
            self.value(depth)?;
            if self.take(",").is_none() {
                return self.take("]");
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        let start = self.text.len();
        let mut members = Vec::new();
        self.take("{")?;
        self.skip_white_space();
        if self.take("}").is_some() {
            return Some(());
        }
        loop {
            members.push(self.member(depth)?);
            if self.take(",").is_none() {
                break;
            }
        }
        self.take("}")?;

        if !members.is_sorted_by(|(a, _), (b, _)| a.encode_utf16().lt(b.encode_utf16())) {
            members.sort_unstable_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            if members.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a == b)) {
                return None;
            }
            let members = members.into_iter().map(|(_, range)| range).collect();
            self.unsorted.push(Object { range: start..self.text.len(), members });
        }
        Some(())
    }

    /// Takes a name, a colon and a value; returns the name, and the range of all three in the text.
    fn member(&mut self, depth: usize) -> Option<(Cow<'a, str>, Range<usize>)> {
        let start = self.text.len();
        self.skip_white_space();
        let name = self.string()?;
        self.skip_white_space();
        self.take(":")?;
        self.value(depth)?;
        Some((name, start..self.text.len()))
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        let quoted = self.rest.strip_prefix('"')?;
        let mut len = 0;
        let mut escaped = false;
        loop {
            match quoted.as_bytes().get(len)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    len += 2;
                }
                0x00..=0x1f => return None,
                _ => len += 1,
            }
        }
        let (token, rest) = self.rest.split_at_checked(len + 2)?;
        self.rest = rest;
        if escaped {
            // serde_json rejects half a surrogate pair, and writes the escapes that RFC 8785 wants.
            let value: String = serde_json::from_str(token).ok()?;
            serde_json::to_writer(&mut self.text, &value).ok()?;
            Some(Cow::Owned(value))
        } else {
            self.text.extend_from_slice(token.as_bytes());
            Some(Cow::Borrowed(quoted.get(..len)?))
        }
    }

    fn number(&mut self) -> Option<()> {
        let in_number = |byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
        let len = self.rest.bytes().position(|byte| !in_number(byte));
        let (token, rest) = self.rest.split_at_checked(len.unwrap_or(self.rest.len()))?;
        self.rest = rest;

        if is_small_integer(token) {
            self.text.extend_from_slice(token.as_bytes());
            return Some(());
        }
        let written = Decimal::read(token)?;
        // Whatever `parse` makes of a very long number, the values are compared below.
        let nearest = token.parse().ok().filter(|double: &f64| double.is_finite())?;
        let mut buffer = ryu_js::Buffer::new();
        let form = buffer.format_finite(nearest);
        if Decimal::read(form)? != written {
            return None;
        }
        self.text.extend_from_slice(form.as_bytes());
        Some(())
    }

    /// Takes `token`, which is its own form, if it comes next.
    fn take(&mut self, token: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(token)?;
        self.text.extend_from_slice(token.as_bytes());
        Some(())
    }

    fn skip_white_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }
}

/// Whether a number is already written as an integer of up to 15 digits, as most are: a double
/// keeps it and prints it unchanged.
fn is_small_integer(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number);
    matches!(digits.len(), 1..=15)
        && !digits.starts_with('0')
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The absolute value of a number: `digits` times ten to the power of `exponent`.
///
/// `digits` does not end in a zero, and zero has the exponent 0, so equal values compare equal.
/// ECMAScript prints the sign it read, so signs need no comparison.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    digits: u64,
    exponent: i64,
}

impl Decimal {
    /// Reads a number as RFC 8259 writes it. `None` if it is not one, or has more digits than fit
    /// into a `u64`; a double prints 17 at most.
    fn read(number: &str) -> Option<Self> {
        let unsigned = number.strip_prefix('-').unwrap_or(number);
        let (mantissa, power) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, Self::power(power)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (mantissa, ""),
        };
        if whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) {
            return None;
        }

        let mut digits = 0_u64;
        let mut zeros = 0_u32; // since the last digit that counted
        for byte in whole.bytes().chain(fraction.bytes()) {
            match byte {
                b'0' if digits == 0 => {}
                b'0' => zeros = zeros.checked_add(1)?,
                b'1'..=b'9' => {
                    let shift = 10_u64.checked_pow(zeros.checked_add(1)?)?;
                    digits = digits.checked_mul(shift)?.checked_add(u64::from(byte - b'0'))?;
                    zeros = 0;
                }
                _ => return None,
            }
        }
        if digits == 0 {
            return Some(Self { digits: 0, exponent: 0 });
        }
        let exponent = power.checked_add(i64::from(zeros))?;
        let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        Some(Self { digits, exponent })
    }

    /// The power of ten after an `e`. If it does not fit, it is far beyond the range of a double,
    /// and stays so whatever is added to it.
    fn power(text: &str) -> Option<i64> {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let size = digits.bytes().fold(0_i64, |size, byte| {
            size.saturating_mul(10).saturating_add(i64::from(byte - b'0')).min(i64::MAX / 2)
        });
        Some(if text.starts_with('-') { -size } else { size })
    }
}

/// `text` with the members of its `unsorted` objects sorted, in one pass over the text.
fn sorted(text: &[u8], mut unsorted: Vec<Object>) -> Vec<u8> {
    unsorted.sort_unstable_by_key(|object| object.range.start);
    let mut out = Vec::with_capacity(text.len());
    copy(text, 0..text.len(), &unsorted, &mut out);
    out
}

/// Copies a range of `text`. Recursive, as deep as objects nest: at most [`MAX_DEPTH`].
fn copy(text: &[u8], range: Range<usize>, unsorted: &[Object], out: &mut Vec<u8>) {
    let mut start = range.start;
    loop {
        let next = unsorted.partition_point(|object| object.range.start < start);
        let object = unsorted.get(next).filter(|object| object.range.end <= range.end);
        let end = object.map_or(range.end, |object| object.range.start);
        out.extend_from_slice(text.get(start..end).unwrap_or_default());
        let Some(object) = object else { return };

        out.push(b'{');
        for (index, member) in object.members.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            copy(text, member.clone(), unsorted, out);
        }
        out.push(b'}');
        start = object.range.end;
    }
}

#[cfg(test)]
mod tests;
