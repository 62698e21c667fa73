//! Finds where the arguments of an operator end.

/// Returns the offset of the comma or parenthesis that ends a value: the first outside quotes and brackets. A backslash
/// escapes the character after it.
pub(super) fn argument_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut quoted) = (0, 0_usize, false);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b',' | b')' if depth == 0 => return Some(at),
            b'[' | b'{' | b'(' => depth += 1,
            b']' | b'}' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Decodes a pattern written as a JSON string. Returns it with the offset of the parenthesis after it.
pub(super) fn quoted_pattern(text: &str) -> Option<(String, usize)> {
    let trimmed = text.trim_start();
    if !trimmed.starts_with('"') {
        return None;
    }
    let mut strings = serde_json::Deserializer::from_str(trimmed).into_iter::<String>();
    let pattern = strings.next()?.ok()?;
    let tail = &trimmed[strings.byte_offset()..];
    let closed = tail.trim_start().starts_with(')');
    closed.then(|| (pattern, text.len() - tail.trim_start().len()))
}

/// Returns the offset of the parenthesis that ends a bare pattern: the first one without a partner. Parentheses in
/// classes and between `\Q` and `\E` are not counted unless no end is found otherwise, as in the broken `Re([)`.
pub(super) fn pattern_end(text: &str) -> Option<usize> {
    balanced(text, true).or_else(|| balanced(text, false))
}

/// Removes the white space around a bare pattern, but not a character at its end that a backslash escapes.
pub(super) fn trimmed_pattern(text: &str) -> &str {
    let text = text.trim_start();
    let kept = text.trim_end();
    let backslashes = kept.len() - kept.trim_end_matches('\\').len();
    let escaped = text[kept.len()..].chars().next().filter(|_| backslashes % 2 == 1);
    &text[..kept.len() + escaped.map_or(0, char::len_utf8)]
}

fn balanced(text: &str, skip_classes: bool) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if skip_classes && text[at..].starts_with("\\Q") => at += quoted_width(&text[at..]),
            b'\\' => at += 1,
            b'[' if skip_classes => at = class_end(bytes, at)?,
            b'(' => depth += 1,
            b')' if depth == 0 => return Some(at),
            b')' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Returns the number of bytes before the last one of `\Q...\E`; 1 if it is not closed.
fn quoted_width(text: &str) -> usize {
    text.find("\\E").map_or(1, |end| end + 1)
}

/// Returns the offset of the bracket that closes the class at `open`.
fn class_end(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    at += usize::from(bytes.get(at) == Some(&b'^'));
    at += usize::from(bytes.get(at) == Some(&b']'));
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b']' => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}
