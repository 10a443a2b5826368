//! What of a document filters look at, in a form whose comparisons the server makes exactly.
//!
//! The server compares numbers in ranges as 64-bit floating-point numbers, has no ranges over
//! text, reads dots and brackets in a key as a path, and rounds floating-point numbers when it
//! reads them back. So nothing is stored under its own key or as its own type. A value becomes a
//! *term* (a text that is equal exactly if field, type and value are) and a *sortable* (digits to
//! the base 2^48 whose order is the value's order; integers that small are compared exactly).

use std::fmt::Write as _;

use dbmanager_core::model::{Document, Field, Scalar};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Longer fields and values stand in a term as their SHA-256, so that an index entry stays small.
const MAX_PLAIN_BYTES: usize = 256;
/// Bytes of a text in one digit.
const DIGIT_BYTES: usize = 6;
/// Digits of a sortable. A text with more bytes than these hold is cut.
const MAX_DIGITS: usize = 8;
/// The longest text that texts can be compared with: with its end it fits into the digits, so
/// that what was cut off a stored one makes no difference.
pub(super) const MAX_BOUND_BYTES: usize = MAX_DIGITS * DIGIT_BYTES - 1;

/// What filters look at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Sorted, each once.
    pub(super) terms: Vec<String>,
    /// Sorted, each once: field with type, and the value's digits.
    pub(super) sortables: Vec<(String, Vec<i64>)>,
}

impl Facts {
    pub(super) fn of(document: &Document) -> Self {
        let mut facts = Self::default();
        let texts = [
            (Field::Id, Some(document.id.as_str())),
            (Field::Title, Some(document.title.as_str())),
            (Field::DocumentType, document.document_type.as_deref()),
            (Field::FilePath, document.file_path.as_deref()),
        ];
        for (field, text) in texts {
            if let (Some(name), Some(text)) = (field_name(&field), text) {
                facts.present(&name);
                facts.text(&name, text);
            }
        }
        if let (Some(name), Some(time)) = (field_name(&Field::CreatedAt), document.created_at) {
            facts.present(&name);
            facts.text(&name, &time.to_string());
        }
        let mut path = Vec::new();
        for (key, value) in &document.metadata {
            facts.metadata(&mut path, key, value);
        }
        facts.terms.sort_unstable();
        facts.terms.dedup();
        facts.sortables.sort_unstable();
        facts.sortables.dedup();
        facts
    }

    /// Roughly how many bytes they take in a request.
    pub(super) fn bytes(&self) -> usize {
        let terms: usize = self.terms.iter().map(|term| term.len() + 8).sum();
        let sortables = self.sortables.iter();
        let sortables: usize = sortables
            .map(|(key, d)| key.len() + 16 * d.len() + 16)
            .sum();
        terms + sortables
    }

    fn metadata<'a>(&mut self, path: &mut Vec<&'a str>, key: &'a str, value: &'a Value) {
        if value.is_null() {
            return;
        }
        path.push(key);
        let name = metadata_name(path);
        self.present(&name);
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    self.metadata(path, key, value);
                }
            }
            Value::Array(elements) => {
                for element in elements {
                    self.single(&name, element);
                }
            }
            single => self.single(&name, single),
        }
        path.pop();
    }

    fn single(&mut self, name: &str, value: &Value) {
        match value {
            Value::Bool(value) => self.terms.push(term(name, &Scalar::Bool(*value))),
            Value::String(text) => self.text(name, text),
            Value::Number(number) => {
                let scalar = match (number.as_i64(), number.as_f64()) {
                    (Some(integer), _) => Scalar::Integer(integer),
                    (None, Some(float)) => Scalar::Float(float),
                    (None, None) => return,
                };
                self.terms.push(term(name, &scalar));
                if let Some(digits) = number_digits(&scalar) {
                    self.sortables.push((number_key(name), digits));
                }
            }
            Value::Null | Value::Array(_) | Value::Object(_) => {}
        }
    }

    fn text(&mut self, name: &str, text: &str) {
        self.terms.push(term(name, &Scalar::Text(text.to_owned())));
        self.sortables.push((text_key(name), text_digits(text)));
    }

    fn present(&mut self, name: &str) {
        self.terms.push(presence(name));
    }
}

/// How a field is named in terms; `None` for one that this version does not know.
pub(super) fn field_name(field: &Field) -> Option<String> {
    Some(match field {
        Field::Id => "id".to_owned(),
        Field::Title => "title".to_owned(),
        Field::DocumentType => "document_type".to_owned(),
        Field::CreatedAt => "created_at".to_owned(),
        Field::FilePath => "file_path".to_owned(),
        Field::Metadata(path) => metadata_name(path),
        _ => return None,
    })
}

/// A JSON list of the keys, which no other path and no fact's name is equal to.
fn metadata_name<K: AsRef<str>>(path: &[K]) -> String {
    let keys = path.iter().map(|key| Value::from(key.as_ref()));
    short(Value::Array(keys.collect()).to_string())
}

/// The term that says that a field is there and not null.
pub(super) fn presence(name: &str) -> String {
    format!("{name}?")
}

/// The term of a value. Equal numbers have equal terms, whatever their type.
pub(super) fn term(name: &str, value: &Scalar) -> String {
    let value = match value {
        Scalar::Bool(value) => value.to_string(),
        Scalar::Integer(integer) => integer.to_string(),
        Scalar::Float(float) => match whole(*float) {
            Some(integer) => integer.to_string(),
            None => format!("{float:e}"),
        },
        Scalar::Text(text) => short(Value::from(text.as_str()).to_string()),
        _ => "unknown".to_owned(),
    };
    format!("{name}={value}")
}

/// The integer that a floating-point number is.
fn whole(float: f64) -> Option<i64> {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    ((-TWO_TO_63..TWO_TO_63).contains(&float) && float.trunc() == float).then_some(float as i64)
}

fn short(text: String) -> String {
    if text.len() <= MAX_PLAIN_BYTES {
        return text;
    }
    let mut hash = "sha256:".to_owned();
    for byte in Sha256::digest(text.as_bytes()) {
        // Writing to a string does not fail.
        let _ = write!(hash, "{byte:02x}");
    }
    hash
}

/// Under which key a field's numbers are sorted.
pub(super) fn number_key(name: &str) -> String {
    format!("number {name}")
}

/// Under which key a field's texts are sorted.
pub(super) fn text_key(name: &str) -> String {
    format!("text {name}")
}

/// Digits in the order of the text's bytes. The end of the text is a zero byte, below every byte
/// of a text (which has none); what is beyond the last digit is cut.
pub(super) fn text_digits(text: &str) -> Vec<i64> {
    let count = (text.len() / DIGIT_BYTES + 1).min(MAX_DIGITS);
    let mut bytes = text.bytes().chain(std::iter::repeat(0));
    (0..count)
        .map(|_| {
            let digit = bytes.by_ref().take(DIGIT_BYTES);
            digit.fold(0, |number, byte| number << 8 | i64::from(byte))
        })
        .collect()
}

/// Digits in the order of the numbers, integers and floating-point ones together, exactly: the
/// nearest floating-point number that is not above, and how far the number is above it. `None`
/// for what is no number (a NaN has no place in the order).
pub(super) fn number_digits(number: &Scalar) -> Option<Vec<i64>> {
    let (below, rest) = match number {
        Scalar::Integer(integer) => below(*integer),
        Scalar::Float(float) if !float.is_nan() => (*float, 0),
        _ => return None,
    };
    // Adding zero turns -0.0, which is equal to 0.0, into it.
    let bits = (below + 0.0).to_bits();
    let ordered = if bits >> 63 == 1 {
        !bits
    } else {
        bits | 1 << 63
    };
    // 48 bits, then 16 bits and the at most 10 bits of the rest.
    Some(vec![
        (ordered >> 16) as i64,
        ((ordered & 0xffff) << 11) as i64 | rest,
    ])
}

/// The highest floating-point number that is at most `integer`, and what is left of it: below
/// 2^10, for a floating-point number has 53 bits and an integer 63.
fn below(integer: i64) -> (f64, i64) {
    let nearest = integer as f64;
    let below = if nearest as i128 > i128::from(integer) {
        nearest.next_down()
    } else {
        nearest
    };
    (below, (i128::from(integer) - below as i128) as i64)
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use dbmanager_core::model::{Comparison, Filter};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn number() -> impl Strategy<Value = Scalar> {
        let near = |middle: i64| (-3_i64..4).prop_map(move |by| middle.saturating_add(by));
        prop_oneof![
            any::<i64>().prop_map(Scalar::Integer),
            prop::sample::select(vec![0, 1 << 53, -(1 << 53), 1 << 62, i64::MAX, i64::MIN])
                .prop_flat_map(near)
                .prop_map(Scalar::Integer),
            any::<f64>().prop_map(Scalar::Float),
            prop::sample::select(vec![0.0, -0.0, 0.5, 1.0, 9.007_199_254_740_992e15, 9.3e18])
                .prop_map(Scalar::Float),
        ]
    }

    /// The order by the meaning of the filter language.
    fn order(left: &Scalar, right: &Scalar) -> Option<Ordering> {
        let value = match left {
            Scalar::Integer(integer) => json!(integer),
            Scalar::Float(float) if float.is_finite() => json!(float),
            Scalar::Text(text) => json!(text),
            _ => return None,
        };
        let document = Document::new("a").metadata("v", value);
        let holds = |comparison| {
            Filter::Compare {
                field: Field::Metadata(vec!["v".to_owned()]),
                comparison,
                value: right.clone(),
            }
            .matches(&document)
        };
        [
            (Comparison::Lt, Ordering::Less),
            (Comparison::Eq, Ordering::Equal),
            (Comparison::Gt, Ordering::Greater),
        ]
        .into_iter()
        .find_map(|(comparison, order)| holds(comparison).then_some(order))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn digits_of_numbers_are_in_the_order_of_the_numbers(a in number(), b in number()) {
            if let Some(expected) = order(&a, &b) {
                let digits = |n| number_digits(n).unwrap();
                prop_assert_eq!(digits(&a).cmp(&digits(&b)), expected, "{:?} and {:?}", a, b);
                prop_assert_eq!(term("v", &a) == term("v", &b), expected == Ordering::Equal);
            }
            for digit in number_digits(&a).into_iter().flatten() {
                prop_assert!((0..1 << 48).contains(&digit));
            }
        }

        #[test]
        fn digits_of_texts_are_in_the_order_of_the_bytes(
            stored in "[\u{1}a-c\u{e4}\u{ffff}]{0,60}",
            bound in "[\u{1}a-c\u{e4}]{0,15}",
        ) {
            let (left, right) = (text_digits(&stored), text_digits(&bound));
            let expected = stored.as_bytes().cmp(bound.as_bytes());
            // A condition looks at as many digits as the bound has.
            let seen = &left[..left.len().min(right.len())];
            prop_assert_eq!(seen.cmp(&right[..]), expected);
            prop_assert!(left.iter().all(|digit| (0..1 << 48).contains(digit)));
        }
    }

    #[test]
    fn the_longest_bound_fits_with_its_end() {
        let longest = "x".repeat(MAX_BOUND_BYTES);
        assert_eq!(text_digits(&longest).len(), MAX_DIGITS);
        assert_eq!(text_digits(&longest).last().unwrap() & 0xff, 0);
        assert!(text_digits(&longest) < text_digits(&format!("{longest}x")));
        assert_eq!(text_digits(""), [0]);
        assert_eq!(text_digits("123456").len(), 2);
    }

    #[test]
    fn infinities_are_beyond_every_number() {
        let digits = |float| number_digits(&Scalar::Float(float)).unwrap();
        assert!(digits(f64::MAX) < digits(f64::INFINITY));
        assert!(digits(f64::MIN) > digits(f64::NEG_INFINITY));
        assert_eq!(number_digits(&Scalar::Float(f64::NAN)), None);
    }

    #[test]
    fn fields_and_types_have_terms_of_their_own() {
        let document = Document::new("a")
            .metadata("a.b", 1)
            .metadata("a", json!({"b": "1", "n": null}))
            .metadata("list", json!([1.0, "x", null, [2], {"y": 3}]))
            .metadata("id", "a");
        let facts = Facts::of(&document);
        let expected = [
            r#"["a","b"]="1""#,
            r#"["a","b"]?"#,
            r#"["a"]?"#,
            r#"["a.b"]=1"#,
            r#"["a.b"]?"#,
            r#"["id"]="a""#,
            r#"["id"]?"#,
            r#"["list"]="x""#,
            r#"["list"]=1"#,
            r#"["list"]?"#,
            r#"id="a""#,
            "id?",
            r#"title="""#,
            "title?",
        ];
        assert_eq!(facts.terms, expected);
    }

    #[test]
    fn long_values_stay_apart() {
        let text = |end: &str| Scalar::Text("x".repeat(1_000) + end);
        assert_ne!(term("title", &text("a")), term("title", &text("b")));
        assert!(term("title", &text("a")).len() < 100);
        assert_ne!(
            metadata_name(&["k".repeat(300)]),
            metadata_name(&["k".repeat(301)])
        );
    }
}
