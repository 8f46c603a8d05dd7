//! JSON text as Python's `json` writes it, so that equal content gives equal files.

use std::fmt::Write as _;

use serde_json::Value;

/// A number as Python writes it.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:?}");
    match text.split_once('e') {
        None => text,
        Some((digits, power)) => {
            let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
            format!("{digits}e{sign}{power:0>2}")
        }
    }
}

/// A string with the characters of ASCII.
pub(super) fn string(text: &str) -> String {
    let mut escaped = String::new();
    for char in Value::from(text).to_string().chars() {
        match char {
            ' '..='~' => escaped.push(char),
            _ => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    // Writing to a string does not fail.
                    let _ = write!(escaped, "\\u{unit:04x}");
                }
            }
        }
    }
    escaped
}

/// A list.
pub(super) fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(","))
}

/// An object.
pub(super) fn object<'a>(items: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let item = |(key, value): (&str, String)| format!("{}:{value}", string(key));
    format!("{{{}}}", items.into_iter().map(item).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::{list, number, object, string};

    #[test]
    fn text_is_as_python_writes_it() {
        let numbers = [
            (0.1, "0.1"),
            (1.0, "1.0"),
            (1e-8, "1e-08"),
            (1e-5, "1e-05"),
            (1e-4, "0.0001"),
            (1.5e-120, "1.5e-120"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.25e300, "1.25e+300"),
        ];
        for (value, expected) in numbers {
            assert_eq!(number(value), expected);
        }
        assert_eq!(string("a\"\\\n\u{1}é😀"), r#""a\"\\\n\u0001\u00e9\ud83d\ude00""#);
        let items = [("a", list([number(1.0), "true".to_owned()])), ("b", object([]))];
        assert_eq!(object(items), r#"{"a":[1.0,true],"b":{}}"#);
    }
}
