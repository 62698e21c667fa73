//! Tests of everything that walks over JSON: known answers, and comparisons with a walk byte by byte.

use proptest::prelude::*;

use super::*;

fn compacted(text: &str) -> String {
    let mut out = b"before".to_vec();
    compact(text, &mut out);
    String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
}

/// A reference implementation of [`compact`], byte by byte.
fn compacted_slowly(text: &str) -> String {
    let (mut out, mut in_string, mut escaped) = (String::new(), false, false);
    for c in text.chars() {
        if in_string || !matches!(c, ' ' | '\t' | '\n' | '\r') {
            out.push(c);
        }
        if in_string {
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
        } else {
            in_string = c == '"';
        }
    }
    out
}

/// White space as JSON defines it.
fn space() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 2 => "[ \t\r\n]{1,3}", 1 => "[ ]{50,140}"]
}

/// A string with its quotes: escapes, runs of backslashes, characters of several bytes and fragments that look like
/// JSON, with lengths that place them anywhere in a block.
fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z ]{0,20}",
        "[{}\\[\\],: ]{1,5}",
        "[éü€漢🚒]{1,8}",
        proptest::sample::select(vec![r"\\", r#"\""#, r"\/", r"\n", r"\u00e9", r"\ud83d\ude92"])
            .prop_map(str::to_owned),
        (1_usize..40).prop_map(|pairs| r"\\".repeat(pairs)),
        (0_usize..40).prop_map(|pairs| format!(r#"{}\""#, r"\\".repeat(pairs))),
        (1_usize..70).prop_map(|length| "x".repeat(length)),
    ];
    proptest::collection::vec(piece, 0..5).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// Any JSON text, with white space anywhere.
fn any_json() -> impl Strategy<Value = String> {
    let names = ["null", "true", "false", "0", "-1.5e+3", "12345678901234567890123"];
    let leaf = prop_oneof![string(), proptest::sample::select(names.to_vec()).prop_map(str::to_owned)];
    let value = leaf.prop_recursive(4, 40, 6, |inner| {
        let padded = (space(), inner, space()).prop_map(|(before, value, after)| before + &value + &after).boxed();
        let member = (space(), string(), space(), padded.clone())
            .prop_map(|(before, name, after, value)| format!("{before}{name}{after}:{value}"));
        let list = |items: Vec<String>, space: String| if items.is_empty() { space } else { items.join(",") };
        prop_oneof![
            (proptest::collection::vec(padded, 0..6), space()).prop_map(move |(e, s)| format!("[{}]", list(e, s))),
            (proptest::collection::vec(member, 0..6), space()).prop_map(move |(m, s)| format!("{{{}}}", list(m, s))),
        ]
    });
    (space(), value, space()).prop_map(|(before, value, after)| before + &value + &after)
}

/// Asserts that tokens find the same values, at every depth, as a walk over the text.
fn assert_found(value: &Value<'_, '_>) {
    let text = value.text();
    assert_eq!((value.is_object(), value.is_array()), (text.starts_with('{'), text.starts_with('[')), "{text}");
    let walked: Vec<(&str, &str)> = members(text).map(|m| (m.name, m.value)).collect();
    let found: Vec<(&str, &str)> = value.members().map(|m| (m.name, m.value)).collect();
    assert_eq!(found, walked, "{text}");
    for member in value.members() {
        assert!(value.whole()[member.offset..].starts_with(member.value), "{text}");
    }
    let walked: Vec<&str> = elements(text).collect();
    let found: Vec<&str> = value.elements().map(|e| e.text()).collect();
    assert_eq!(found, walked, "{text}");
    value.elements().for_each(|element| assert_found(&element));
}

proptest! {
    #[test]
    fn values_are_found_as_by_a_walk(text in any_json()) {
        let mut validator = Validator::default();
        let value = validator.read(text.as_bytes()).unwrap();
        prop_assert_eq!(value.text(), text.trim());
        assert_found(&value);
        // Objects deeper down are reached through arrays only; each member is read as a text of its own too.
        let objects: Vec<&str> = value.members().map(|member| member.value).collect();
        objects.into_iter().for_each(|text| assert_found(&validator.read(text.as_bytes()).unwrap()));
    }

    #[test]
    fn compaction_is_that_of_a_walk(text in any_json()) {
        prop_assert_eq!(compacted(&text), compacted_slowly(&text));
    }

    #[test]
    fn quoting_is_that_of_serde(text in r"\PC{0,80}|[\x00-\x22\x5b-\x7fé]{0,3}[a-z]{0,70}|[\x00-\x7f]{0,40}") {
        let mut out = b"before".to_vec();
        quote(&text, &mut out);
        prop_assert_eq!(String::from_utf8(out).unwrap(), format!("before{}", serde_json::to_string(&text).unwrap()));
    }

    #[test]
    fn texts_that_are_no_json_do_no_harm(text in "[\\[\\]{}\",:\\\\ a1é\n]{0,200}") {
        compact(&text, &mut Vec::new());
        members(&text).for_each(drop);
        elements(&text).for_each(drop);
        Validator::lend(|validator| drop(validator.read(text.as_bytes()).map(|value| assert_found(&value))));
    }
}

/// Compaction treats exactly the bytes that can occur between tokens as white space.
#[test]
fn no_other_control_character_is_white_space() {
    let mut validator = Validator::default();
    for byte in (0..=b' ').chain([0x7f]) {
        let c = char::from(byte);
        for text in [
            format!("{c}{{\"a\":1}}"),
            format!("{{{c}\"a\":1}}"),
            format!("{{\"a\"{c}:1}}"),
            format!("{{\"a\":{c}1}}"),
            format!("{{\"a\":1{c}}}"),
            format!("{{\"a\":null{c},\"b\":\"\"{c}}}"),
            format!("[true{c},[]{c},{{}}]{c}"),
            format!("1{c}"),
        ] {
            let is_space = b" \t\n\r".contains(&byte);
            assert_eq!(validator.validate(text.as_bytes()).is_ok(), is_space, "{text:?}");
        }
        // Only the space can occur in a string.
        assert_eq!(validator.validate(format!("\"{c}\"").as_bytes()).is_ok(), byte >= b' ', "{byte}");
    }
}

#[test]
fn compaction_keeps_strings_and_digits() {
    let text = " { \"a b\" : [ 1 , 12345678901234567890123 ,\t\"x \\\" y\" ] ,\r\n \"n\":1.0 } ";
    assert_eq!(compacted(text), r#"{"a b":[1,12345678901234567890123,"x \" y"],"n":1.0}"#);
}

#[test]
fn members_keep_order_and_duplicates() {
    let text = r#" { "a" : {"b":[1,{"c":"}"}]} , "a":null, "\u0062" : "x,y" , "e":{} ,"n":-1.5e3}"#;
    let found: Vec<(String, &str)> = members(text).map(|m| (m.name().into_owned(), m.value)).collect();
    let expected = [("a", r#"{"b":[1,{"c":"}"}]}"#), ("a", "null"), ("b", r#""x,y""#), ("e", "{}"), ("n", "-1.5e3")];
    assert_eq!(found, expected.map(|(n, v)| (n.to_owned(), v)));
    for member in members(text) {
        assert!(text[member.offset..].starts_with(member.value));
    }
}

#[test]
fn members_of_something_else_are_none() {
    for text in ["null", "[]", "1", "\"{\"", "", "{}", "{ }"] {
        assert_eq!(members(text).count(), 0, "{text}");
    }
}

#[test]
fn elements_are_found_at_their_depth() {
    let text = r#" [ 1 , [2,[3]] , "]" , {"a":[]} ,null] "#;
    let found: Vec<&str> = elements(text).collect();
    assert_eq!(found, ["1", "[2,[3]]", "\"]\"", r#"{"a":[]}"#, "null"]);
    assert_eq!(elements("[]").count(), 0);
    assert_eq!(elements("{}").count(), 0);
}

#[test]
fn validation_names_the_place() {
    let mut validator = Validator::default();
    assert!(validator.validate(br#"{"a":123456789012345678901234567890}"#).is_ok());
    assert!(validator.validate(br#"{"a":}"#).is_err());
    assert!(validator.validate(b"").is_err());
    assert_eq!(validator.validate(b"\"\xff\"").unwrap_err().offset, 1);
    let deep = "[".repeat(20_000);
    assert!(validator.validate(deep.as_bytes()).is_err());
}

#[test]
fn strings_are_decoded_and_encoded() {
    assert_eq!(unquote(r#""a\u00e9\n""#), "aé\n");
    assert_eq!(as_string("12"), None);
    let mut out = Vec::new();
    quote("a\"\n<", &mut out);
    assert_eq!(out, br#""a\"\n<""#);
}
