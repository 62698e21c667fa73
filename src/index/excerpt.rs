//! Shows where in a registration or filter an error is.

/// Characters shown on either side.
const AROUND: usize = 60;

/// Returns the part of `text` around the byte at `offset`, on one line, and the column of that byte in it, counted from
/// one: the position of a caret on the line below.
pub fn excerpt(text: &str, offset: usize) -> (String, usize) {
    let column = text.char_indices().take_while(|(at, _)| *at < offset).count();
    let first = column.saturating_sub(AROUND);
    let part = text.chars().skip(first).take(2 * AROUND);
    (part.map(|c| if c.is_control() { ' ' } else { c }).collect(), column - first + 1)
}
