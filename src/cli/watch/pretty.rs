//! Indents JSON text. Numbers and the order of names are preserved, which decoding and encoding would not guarantee.

/// Appends `text`, indented by two spaces per level.
pub(super) fn indent(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, &byte) in bytes.iter().enumerate() {
        if in_string {
            out.push(byte);
            in_string = escaped || byte != b'"';
            escaped = byte == b'\\' && !escaped;
            continue;
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'{' | b'[' => {
                out.push(byte);
                depth += 1;
                if !closes_next(&bytes[at + 1..]) {
                    line(depth, out);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !matches!(out.last(), Some(b'{' | b'[')) {
                    line(depth, out);
                }
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                line(depth, out);
            }
            b':' => out.extend_from_slice(b": "),
            _ => {
                in_string = byte == b'"';
                out.push(byte);
            }
        }
    }
}

fn closes_next(rest: &[u8]) -> bool {
    rest.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| matches!(byte, b'}' | b']'))
}

fn line(depth: usize, out: &mut Vec<u8>) {
    out.push(b'\n');
    out.resize(out.len() + 2 * depth, b' ');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indented(text: &str) -> String {
        let mut out = Vec::new();
        indent(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn it_looks_as_serde_writes_it() {
        for text in [
            r#"{"b":[1,2,{"a":"x, {y}: [z]"}],"a":{},"e":[ ],"s":"\"q\\","n":null}"#,
            r#"[[],[[]],{"a":{"b":{}}}]"#,
            r#""only a string""#,
            r#"{"é":"\u00e9\\\""}"#,
        ] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            let back: serde_json::Value = serde_json::from_str(&indented(text)).unwrap();
            assert_eq!(back, value);
        }
        let text = r#"{"a":[1,{"b":[]}],"c":"d"}"#;
        assert_eq!(
            indented(text),
            serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(text).unwrap()).unwrap()
        );
    }

    #[test]
    fn digits_and_order_stay() {
        let text = indented(r#"{"z":12345678901234567890123,"a":1.0}"#);
        assert_eq!(text, "{\n  \"z\": 12345678901234567890123,\n  \"a\": 1.0\n}");
    }
}
