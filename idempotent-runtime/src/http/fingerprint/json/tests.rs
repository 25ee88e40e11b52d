use std::{collections::BTreeMap, fmt::Write as _};

use proptest::{collection::btree_map, collection::vec, prelude::*};

use super::{MAX_DEPTH, canonical};

fn form(body: &str) -> Option<String> {
    canonical(body.as_bytes()).map(|form| String::from_utf8(form).expect("UTF-8"))
}

/// What ECMAScript prints for a finite double.
fn printed(double: f64) -> String {
    ryu_js::Buffer::new().format_finite(double).to_owned()
}

#[track_caller]
fn assert_form(body: &str, expected: &str) {
    assert_eq!(form(body).as_deref(), Some(expected), "of {body}");
    assert_eq!(form(expected).as_deref(), Some(expected), "a form is its own form");
}

#[track_caller]
fn assert_no_form(body: &str) {
    assert_eq!(form(body), None, "of {body}");
}

/// RFC 8785, section 3.2.2. Its first number, 333333333.33333329, is not kept because its form
/// would have another value. A number that is kept replaces it.
#[test]
fn the_rfc_s_example_has_the_rfc_s_form() {
    let example = r#"{
        "numbers": [333333333.3333333, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
        "literals": [null, true, false]
    }"#;
    assert_form(
        example,
        concat!(
            r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"#,
            r#""string":"€$\u000f\nA'B\"\\\\\"/"}"#,
        ),
    );
    assert_no_form(&example.replace("333333333.3333333,", "333333333.33333329,"));
}

/// RFC 8785, section 3.2.3.
#[test]
fn members_are_sorted_by_utf_16_code_units() {
    assert_form(
        r#"{
            "\u20ac": "Euro Sign",
            "\r": "Carriage Return",
            "\ufb33": "Hebrew Letter Dalet With Dagesh",
            "1": "One",
            "\ud83d\ude00": "Emoji: Grinning Face",
            "\u0080": "Control",
            "\u00f6": "Latin Small Letter O With Diaeresis"
        }"#,
        concat!(
            "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",",
            "\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",",
            "\"😀\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}",
        ),
    );
    assert_form(r#"{"aa":1,"a":2,"":3,"A":4}"#, r#"{"":3,"A":4,"a":2,"aa":1}"#);
}

/// RFC 8785, appendix B: bits of a double and how it prints.
#[test]
fn numbers_print_as_in_the_rfc_s_appendix() {
    for (bits, expected) in [
        (0x0000_0000_0000_0000, "0"),
        (0x8000_0000_0000_0000, "0"),
        (0x0000_0000_0000_0001, "5e-324"),
        (0x8000_0000_0000_0001, "-5e-324"),
        (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
        (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
        (0x4340_0000_0000_0000, "9007199254740992"),
        (0xc340_0000_0000_0000, "-9007199254740992"),
        (0x4430_0000_0000_0000, "295147905179352830000"),
        (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
        (0x44b5_2d02_c7e1_4af6, "1e+23"),
        (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
        (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
        (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
        (0x444b_1ae4_d6e2_ef50, "1e+21"),
        (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
        (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
        (0x41b3_de43_5555_5553, "333333333.3333332"),
        (0x41b3_de43_5555_5554, "333333333.33333325"),
        (0x41b3_de43_5555_5555, "333333333.3333333"),
        (0x41b3_de43_5555_5556, "333333333.3333334"),
        (0x41b3_de43_5555_5557, "333333333.33333343"),
        (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
        (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
    ] {
        assert_eq!(printed(f64::from_bits(bits)), expected);
        assert_form(expected, expected);
    }
}

#[test]
fn a_number_is_kept_if_its_form_has_its_value() {
    assert_form("19.99", "19.99");
    assert_form("0.1", "0.1");
    for hundred in ["100", "1e2", "1E2", "1e+2", "1E+02", "100.0", "100.000e0", "0.1e3", "1000e-1"]
    {
        assert_form(hundred, "100");
    }
    for zero in ["0", "-0", "0.0", "-0.00", "0e0", "0e400", "0E-400", "0e99999999999999999999"] {
        assert_form(zero, "0");
    }
    assert_form("-1.0", "-1");
    for integer in
        ["1", "-15", "999999999999999", "-999999999999999", "1000000000000001", "9007199254740991"]
    {
        assert_form(integer, integer);
    }
    assert_form("9007199254740992", "9007199254740992");
    assert_form("12345678901234567000", "12345678901234567000");
    assert_form("100000000000000000000000", "1e+23");
    assert_form("5e-324", "5e-324");

    // A power that makes up for the zeros before or after the digits.
    assert_form(&format!("0.{}1e401", "0".repeat(400)), "1");
    assert_form(&format!("1{}e-400", "0".repeat(400)), "1");
}

#[test]
fn a_number_is_not_kept_if_its_form_has_another_value() {
    for number in [
        "12345678901234567890",
        "12345678901234567891",
        "9007199254740993",
        "0.1000000000000000055",
        "0.10000000000000000555111512312578270211815834045410156250",
        "333333333.33333329",
        "1424953923781206.3", // as near to its double as ….2, which ECMAScript prints
        "1e400",
        "-1e400",
        "1e-400",
        "4e-324",
        "1e99999999999999999999",
        "1e-99999999999999999999",
    ] {
        assert_no_form(number);
        assert_no_form(&format!(r#"{{"amount":[{number}]}}"#));
    }
    assert_no_form(&"1".repeat(100_000));
    assert_no_form(&format!("0.{}1", "0".repeat(100_000)));
}

#[test]
fn what_is_not_a_number_of_json_has_no_form() {
    for number in [
        "01",
        "-01",
        "00",
        "-",
        "+1",
        ".5",
        "-.5",
        "5.",
        "5.e1",
        "1e",
        "1e+",
        "1e+-1",
        "1e1.5",
        "1e1e1",
        "1.2.3",
        "--1",
        "1-1",
        "1+1",
        "0x10",
        "1_000",
        "NaN",
        "Infinity",
        "-Infinity",
        "e1",
        "1,",
        "١",
    ] {
        assert_no_form(number);
    }
}

#[test]
fn a_string_has_one_form_however_it_is_escaped() {
    assert_form(r#""\u0061\/\u00e9\uD83D\uDE00""#, r#""a/é😀""#);
    assert_form(r#""\b\t\n\f\r\"\\""#, r#""\b\t\n\f\r\"\\""#);
    assert_form(r#""\u0008\u0009\u000a\u000C\u000D\u0022\u005C""#, r#""\b\t\n\f\r\"\\""#);
    assert_form(r#""\u001F\u007f\u2028""#, "\"\\u001f\u{7f}\u{2028}\"");
    assert_form("\"\\uffff\\ufeff\"", "\"\u{ffff}\u{feff}\"");
    // Composed and decomposed characters make different strings.
    assert_ne!(form("\"\u{e9}\""), form("\"e\u{301}\""));
}

#[test]
fn a_broken_string_has_no_form() {
    for string in [
        "\"",
        "\"a",
        "\"\\",
        "\"\\\"",
        "\"a\nb\"",
        "\"\t\"",
        "\"\0\"",
        r#""\x""#,
        r#""\u12""#,
        r#""\u12G4""#,
        r#""\é""#,
        r#""\U0041""#,
        "'a'",
        r#""a"b"#,
    ] {
        assert_no_form(string);
    }
}

#[test]
fn half_a_surrogate_pair_has_no_form() {
    for string in [
        r#""\ud83d""#,
        r#""\ude00""#,
        r#""\ude00\ud83d""#,
        r#""\ud83d\ud83d\ude00""#,
        r#""\ud83dx""#,
        r#""\ud83d\n""#,
        r#""\ud83d\u0061""#,
        r#"{"\udead":1}"#,
    ] {
        assert_no_form(string);
    }
}

#[test]
fn a_name_that_stands_twice_has_no_form() {
    assert_no_form(r#"{"a":1,"a":1}"#);
    assert_no_form(r#"{"a":1,"b":2,"a":3}"#);
    assert_no_form(r#"{"a":1,"\u0061":2}"#);
    assert_no_form(r#"[{"x":{"é":1,"\u00E9":2}}]"#);
    assert_form(
        r#"{"a":{"a":1},"b":{"a":[{"a":2},{"a":3}]}}"#,
        r#"{"a":{"a":1},"b":{"a":[{"a":2},{"a":3}]}}"#,
    );
}

#[test]
fn nested_objects_are_sorted_each_by_itself() {
    assert_form(
        r#"[ {"d":[{"z":{"b":1,"a":{"y":[],"x":{}}},"y":2}, 3],"c":"{"} , {"b":[{"k":1,"j":0}],"a":{"n":0,"m":1}} ]"#,
        r#"[{"c":"{","d":[{"y":2,"z":{"a":{"x":{},"y":[]},"b":1}},3]},{"a":{"m":1,"n":0},"b":[{"j":0,"k":1}]}]"#,
    );
}

#[test]
fn white_space_counts_inside_of_strings_alone() {
    assert_form(
        " \t\r\n{ \"a b\" : [ 1 , 2 ] , \"c\" : { } , \"d\" : [ ] } \n",
        r#"{"a b":[1,2],"c":{},"d":[]}"#,
    );
    for space in ["\u{b}", "\u{c}", "\u{a0}", "\u{2028}", "\u{feff}", "\0", "/**/"] {
        assert_no_form(&format!("{space}1"));
        assert_no_form(&format!("1{space}"));
        assert_no_form(&format!("[{space}1]"));
    }
}

#[test]
fn what_is_not_json_has_no_form() {
    for body in [
        "",
        " ",
        "nul",
        "nulll",
        "True",
        "undefined",
        "[",
        "]",
        "{",
        "}",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1]]",
        "{}{}",
        "1 1",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "{1:1}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "[1}",
        "{\"a\":1]",
        "a=1&b=2",
        "\"a\" \"b\"",
        "nulltrue",
    ] {
        assert_no_form(body);
    }
    for body in [
        &b"\"\xff\""[..],
        b"\"\xed\xa0\x80\"",
        b"\"\xc0\x80\"",
        b"\xef\xbb\xbf1",
        b"\xff\xfe1\0",
        b"\"\\u00\xff\"",
    ] {
        assert_eq!(canonical(body), None);
    }
}

#[test]
fn nesting_has_a_bound() {
    for (open, close) in [("[", "]"), (r#"{"b":0,"a":"#, "}")] {
        let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        assert!(form(&nested(MAX_DEPTH)).is_some());
        assert_no_form(&nested(MAX_DEPTH + 1));
        assert_no_form(&open.repeat(300_000));
    }
}

#[test]
fn a_large_body_has_a_form() {
    let members: Vec<_> = (0..20_000)
        .rev()
        .map(|number| format!(r#""{number:05}":{{"b":1,"a":[{number}]}}"#))
        .collect();
    let sorted: Vec<_> =
        (0..20_000).map(|number| format!(r#""{number:05}":{{"a":[{number}],"b":1}}"#)).collect();
    assert_form(&format!("{{{}}}", members.join(", ")), &format!("{{{}}}", sorted.join(",")));
}

/// A JSON value whose numbers are kept: `mantissa` times ten to the power of `exponent`.
#[derive(Clone, Debug, PartialEq)]
enum Json {
    Literal(&'static str),
    Number { mantissa: i64, exponent: i32 },
    String(String),
    Array(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

/// Every double in its normal range keeps up to 15 digits. One way to write each value.
fn number(mantissa: i64, exponent: i32) -> Json {
    match mantissa {
        0 => Json::Number { mantissa: 0, exponent: 0 },
        mantissa if mantissa % 10 == 0 => number(mantissa / 10, exponent + 1),
        mantissa => Json::Number { mantissa, exponent },
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ab]{0,2}",
        vec(prop_oneof![Just('"'), Just('\\'), Just('/'), Just('\u{fb33}'), any::<char>()], 0..4)
            .prop_map(String::from_iter),
    ]
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        proptest::sample::select(vec!["null", "true", "false"]).prop_map(Json::Literal),
        (-20_i64..20, -2..3).prop_map(|(mantissa, exponent)| number(mantissa, exponent)),
        (-999_999_999_999_999_i64..=999_999_999_999_999, -300..290)
            .prop_map(|(mantissa, exponent)| number(mantissa, exponent)),
        text().prop_map(Json::String),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Json::Array),
            btree_map(text(), inner, 0..4).prop_map(Json::Object),
        ]
    })
}

/// Writes a value in one of its many ways, as picked by `choices`, which is cycled.
struct Writer<'a> {
    choices: std::iter::Cycle<std::slice::Iter<'a, u8>>,
    out: String,
}

impl Writer<'_> {
    fn write(json: &Json, choices: &[u8]) -> String {
        let mut writer = Writer { choices: choices.iter().cycle(), out: String::new() };
        writer.value(json);
        writer.out
    }

    fn choose(&mut self, of: u8) -> u8 {
        self.choices.next().map_or(0, |choice| choice % of)
    }

    fn white_space(&mut self) {
        let space = ["", "", " ", "\n", "\r\n\t"][usize::from(self.choose(5))];
        self.out.push_str(space);
    }

    fn value(&mut self, json: &Json) {
        self.white_space();
        match json {
            Json::Literal(literal) => self.out.push_str(literal),
            Json::Number { mantissa, exponent } => self.number(*mantissa, *exponent),
            Json::String(string) => self.string(string),
            Json::Array(items) => {
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.out.push_str(if index > 0 { "," } else { "" });
                    self.value(item);
                }
                self.out.push(']');
            }
            Json::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                if self.choose(2) == 1 {
                    members.reverse();
                }
                let start = usize::from(self.choose(8)) % members.len().max(1);
                members.rotate_left(start);
                self.out.push('{');
                for (index, (name, value)) in members.into_iter().enumerate() {
                    self.out.push_str(if index > 0 { "," } else { "" });
                    self.white_space();
                    self.string(name);
                    self.white_space();
                    self.out.push(':');
                    self.value(value);
                }
                self.out.push('}');
            }
        }
        self.white_space();
    }

    fn number(&mut self, mantissa: i64, exponent: i32) {
        let e = ["e", "E"][usize::from(self.choose(2))];
        let _ = match self.choose(4) {
            0 => write!(self.out, "{mantissa}{e}{exponent:+}"),
            1 if mantissa != 0 => write!(self.out, "{mantissa}000{e}{}", exponent - 3),
            2 => write!(self.out, "{mantissa}.00{e}{exponent:03}"),
            _ => {
                let sign = if mantissa < 0 { "-" } else { "" };
                write!(self.out, "{sign}0.{:020}{e}{}", mantissa.unsigned_abs(), exponent + 20)
            }
        };
    }

    fn string(&mut self, string: &str) {
        self.out.push('"');
        for char in string.chars() {
            if self.choose(3) == 0 || matches!(char, '\0'..='\x1f' | '"' | '\\') {
                let upper_case = self.choose(2) == 1;
                for unit in char.encode_utf16(&mut [0; 2]) {
                    let _ = if upper_case {
                        write!(self.out, "\\u{unit:04X}")
                    } else {
                        write!(self.out, "\\u{unit:04x}")
                    };
                }
            } else {
                self.out.push(char);
            }
        }
        self.out.push('"');
    }
}

/// A copy of `json` with one change, picked by `choices`.
fn changed(json: &Json, choices: &mut impl Iterator<Item = usize>) -> Json {
    let choice = choices.next().unwrap_or(0);
    let mut json = json.clone();
    match &mut json {
        Json::Literal(literal) => *literal = if *literal == "null" { "true" } else { "null" },
        Json::Number { mantissa, exponent } if choice.is_multiple_of(2) => {
            return number(if *mantissa > 0 { *mantissa - 1 } else { *mantissa + 1 }, *exponent);
        }
        Json::Number { mantissa, .. } if *mantissa != 0 => *mantissa = -*mantissa,
        Json::Number { .. } => return Json::String("0".to_owned()),
        Json::String(string) => string.push('x'),
        Json::Array(items) => match items.len() {
            len if choice % (len + 1) < len => {
                let item = &mut items[choice % (len + 1)];
                *item = changed(item, choices);
            }
            _ => items.push(Json::Literal("null")),
        },
        Json::Object(members) => match members.len() {
            len if choice % (len + 1) < len => {
                let name = members.keys().nth(choice % (len + 1)).expect("in range").clone();
                if choices.next().unwrap_or(0).is_multiple_of(2) {
                    let value = members.remove(&name).expect("present");
                    members.insert(name + "name", value);
                } else {
                    let value = members.get_mut(&name).expect("present");
                    *value = changed(value, choices);
                }
            }
            _ => drop(members.insert("another".to_owned(), Json::Literal("null"))),
        },
    }
    json
}

/// The sign of a decimal number, its digits without leading and trailing zeros, and its power of
/// ten.
fn decimal(number: &str) -> (bool, String, i64) {
    let (mantissa, power) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole.trim_start_matches('-'), fraction].concat();
    let trimmed = digits.trim_end_matches('0');
    let power: i64 = power.parse().expect("a power");
    let power = power - i64::try_from(fraction.len()).expect("short");
    let power = power + i64::try_from(digits.len() - trimmed.len()).expect("short");
    match trimmed.trim_start_matches('0') {
        "" => (false, String::new(), 0),
        digits => (number.starts_with('-'), digits.to_owned(), power),
    }
}

proptest! {
    #[test]
    fn one_value_has_one_form(
        value in json(),
        left in vec(any::<u8>(), 1..40),
        right in vec(any::<u8>(), 1..40),
    ) {
        let (left, right) = (Writer::write(&value, &left), Writer::write(&value, &right));
        let form = form(&left);
        prop_assert!(form.is_some(), "{left}");
        prop_assert_eq!(&form, &self::form(&right), "{} and {}", left, right);
        prop_assert_eq!(&form, &self::form(form.as_deref().unwrap_or_default()));
    }

    #[test]
    fn another_value_has_another_form(
        value in json(),
        change in vec(any::<usize>(), 8),
        left in vec(any::<u8>(), 1..40),
        right in vec(any::<u8>(), 1..40),
    ) {
        let other = changed(&value, &mut change.into_iter());
        prop_assert_ne!(&value, &other);
        let (left, right) = (Writer::write(&value, &left), Writer::write(&other, &right));
        prop_assert!(form(&left) != form(&right), "{left} and {right}");
    }

    #[test]
    fn forms_are_equal_if_and_only_if_values_are(
        left in json(),
        right in json(),
        choices in vec(any::<u8>(), 1..40),
    ) {
        let forms = (form(&Writer::write(&left, &choices)), form(&Writer::write(&right, &choices)));
        prop_assert_eq!(left == right, forms.0 == forms.1);
    }

    /// A number has a form if and only if what a double prints has the same value, and that is its
    /// form.
    #[test]
    fn a_form_has_the_value_of_its_number(
        number in "-?(0|[1-9][0-9]{0,22})(\\.[0-9]{1,22})?([eE][+-]?[0-9]{1,3})?",
    ) {
        let double: f64 = number.parse().expect("a number");
        match form(&number) {
            Some(form) => {
                prop_assert_eq!(decimal(&number), decimal(&form));
                prop_assert_eq!(form.parse::<f64>().ok(), Some(double));
            }
            None if double.is_infinite() => {}
            None => prop_assert_ne!(decimal(&number), decimal(&printed(double))),
        }
    }

    #[test]
    fn every_double_is_kept_as_it_prints(bits in any::<u64>()) {
        let double = f64::from_bits(bits);
        prop_assume!(double.is_finite());
        let printed = printed(double);
        prop_assert_eq!(form(&printed), Some(printed));
    }

    /// `serde_json` agrees on what is JSON; and nothing panics.
    #[test]
    fn what_has_a_form_is_json(
        body in concat!(
            "([\\[\\]{},: \\n]|\"[ab]?\"|\"\\\\u(d83d|de00|0061)\"",
            "|-?0|1|2|\\.5|e3|\\\\|null|true|é){0,12}",
        ),
    ) {
        let read = serde_json::from_str::<serde::de::IgnoredAny>(&body);
        if form(&body).is_some() {
            prop_assert!(read.is_ok(), "{body}");
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(body in vec(any::<u8>(), 0..64)) {
        let form = canonical(&body);
        prop_assert!(form.is_none_or(|form| canonical(&form) == Some(form.clone())));
    }

    /// A valid body with bytes changed, removed or added.
    #[test]
    fn a_damaged_body_is_read_without_panic(
        value in json(),
        choices in vec(any::<u8>(), 1..40),
        at in any::<proptest::sample::Index>(),
        removed in 0_usize..3,
        added in "[\\\\\"{}\\[\\],:0-9eu]{0,3}",
    ) {
        let mut body = Writer::write(&value, &choices).into_bytes();
        let start = at.index(body.len() + 1);
        let end = (start + removed).min(body.len());
        body.splice(start..end, added.bytes());
        if let Some(form) = canonical(&body) {
            prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok());
            prop_assert_eq!(canonical(&form), Some(form));
        }
    }
}
