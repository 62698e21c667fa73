//! The canonical text of a JSON value: two values are equal exactly if their canonical texts are.
//!
//! Members are sorted by name (the last of equal names wins), numbers are written as in [`number`], strings with only
//! the escapes they need, and there is no white space. So equality is one comparison of bytes, and the text can be
//! hashed.
//!
//! Contract: expects valid JSON; for other bytes it still terminates. Two passes over the text and no recursion, so
//! neither nesting nor duplicate names cost more than their length.

use std::borrow::Cow;

use super::number;

/// Returns the canonical text of one valid JSON value without surrounding white space. Borrows most scalars.
pub fn canonical(raw: &[u8]) -> Cow<'_, [u8]> {
    match raw.first() {
        Some(b'{' | b'[') => Cow::Owned(Forest::read(raw).write()),
        Some(b'"') if raw.contains(&b'\\') => owned(raw, write_string),
        Some(b'-' | b'0'..=b'9') if !number::is_canonical(raw) => owned(raw, number::write_canonical),
        _ => Cow::Borrowed(raw),
    }
}

fn owned(raw: &[u8], write: fn(&[u8], &mut Vec<u8>)) -> Cow<'_, [u8]> {
    let mut out = Vec::with_capacity(raw.len());
    write(raw, &mut out);
    Cow::Owned(out)
}

/// Decodes a string with its quotes. A string that cannot be decoded (half a surrogate pair) is returned as it is.
pub fn decode(quoted: &[u8]) -> Cow<'_, [u8]> {
    let inner = quoted.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(quoted);
    if !inner.contains(&b'\\') {
        return Cow::Borrowed(inner);
    }
    serde_json::from_slice::<String>(quoted).map_or(Cow::Borrowed(inner), |text| Cow::Owned(text.into_bytes()))
}

fn write_string(quoted: &[u8], out: &mut Vec<u8>) {
    match serde_json::from_slice::<String>(quoted) {
        Ok(text) => crate::json::quote(&text, out),
        Err(_) => out.extend_from_slice(quoted),
    }
}

fn write_scalar(raw: &[u8], out: &mut Vec<u8>) {
    match raw.first() {
        Some(b'"') if raw.contains(&b'\\') => write_string(raw, out),
        Some(b'-' | b'0'..=b'9') => number::write_canonical(raw, out),
        _ => out.extend_from_slice(raw),
    }
}

/// Returns the offset after the scalar (or member name) that starts at `at`.
fn scalar_end(text: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    if text[at] == b'"' {
        while end < text.len() && text[end] != b'"' {
            end += 1 + usize::from(text[end] == b'\\');
        }
        return text.len().min(end + 1);
    }
    while end < text.len() && !matches!(text[end], b',' | b':' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r') {
        end += 1;
    }
    end
}

/// The kind of a node in the [`Forest`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Scalar,
    Array,
    Object,
}

/// One value; children are a linked list in the order of the text.
struct Node<'t> {
    kind: Kind,
    /// The text of a scalar; empty otherwise.
    text: &'t [u8],
    /// The name with its quotes, for a member of an object.
    name: Option<&'t [u8]>,
    first_child: Option<usize>,
    last_child: Option<usize>,
    next: Option<usize>,
}

/// The value as a tree in one list; the root is the first node.
struct Forest<'t> {
    nodes: Vec<Node<'t>>,
}

/// Something left to write.
enum Task<'t> {
    Node(usize),
    Name(&'t [u8]),
    Byte(u8),
}

impl<'t> Forest<'t> {
    fn read(text: &'t [u8]) -> Self {
        let mut forest = Self { nodes: Vec::new() };
        let mut open: Vec<usize> = Vec::new();
        let mut name = None;
        let mut at = 0;
        while at < text.len() {
            match text[at] {
                b'{' => open.push(forest.add(Kind::Object, &[], name.take(), open.last().copied())),
                b'[' => open.push(forest.add(Kind::Array, &[], name.take(), open.last().copied())),
                b'}' | b']' => drop(open.pop()),
                b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => {}
                _ => {
                    let end = scalar_end(text, at);
                    let parent = open.last().copied();
                    let in_object = parent.is_some_and(|parent| forest.nodes[parent].kind == Kind::Object);
                    if in_object && name.is_none() {
                        name = Some(&text[at..end]);
                    } else {
                        forest.add(Kind::Scalar, &text[at..end], name.take(), parent);
                    }
                    at = end;
                    continue;
                }
            }
            at += 1;
        }
        forest
    }

    fn add(&mut self, kind: Kind, text: &'t [u8], name: Option<&'t [u8]>, parent: Option<usize>) -> usize {
        let index = self.nodes.len();
        self.nodes.push(Node { kind, text, name, first_child: None, last_child: None, next: None });
        if let Some(parent) = parent {
            match self.nodes[parent].last_child.replace(index) {
                Some(last) => self.nodes[last].next = Some(index),
                None => self.nodes[parent].first_child = Some(index),
            }
        }
        index
    }

    fn children(&self, parent: usize) -> Vec<usize> {
        std::iter::successors(self.nodes[parent].first_child, |child| self.nodes[*child].next).collect()
    }

    /// Returns the members of an object sorted by name, only the last of each name.
    fn members(&self, object: usize) -> Vec<(Cow<'t, [u8]>, usize)> {
        let named = |child: usize| (decode(self.nodes[child].name.unwrap_or_default()), child);
        let mut members: Vec<_> = self.children(object).into_iter().map(named).collect();
        // Later ones first among equal names, so that the earlier duplicates are removed.
        members.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        members.dedup_by(|later, kept| later.0 == kept.0);
        members
    }

    fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut tasks = vec![Task::Node(0)];
        while let Some(task) = tasks.pop() {
            match task {
                Task::Byte(byte) => out.push(byte),
                Task::Name(name) => write_scalar(name, &mut out),
                Task::Node(index) => match self.nodes[index].kind {
                    Kind::Scalar => write_scalar(self.nodes[index].text, &mut out),
                    Kind::Array => self.queue_array(index, &mut tasks),
                    Kind::Object => self.queue_object(index, &mut tasks),
                },
            }
        }
        out
    }

    /// Queues the parts in reverse order, because tasks are popped from the end.
    fn queue_array(&self, array: usize, tasks: &mut Vec<Task<'t>>) {
        tasks.push(Task::Byte(b']'));
        for (position, child) in self.children(array).into_iter().enumerate().rev() {
            tasks.push(Task::Node(child));
            tasks.push(Task::Byte(if position == 0 { b'[' } else { b',' }));
        }
        if self.nodes[array].first_child.is_none() {
            tasks.push(Task::Byte(b'['));
        }
    }

    fn queue_object(&self, object: usize, tasks: &mut Vec<Task<'t>>) {
        tasks.push(Task::Byte(b'}'));
        for (position, (_, child)) in self.members(object).into_iter().enumerate().rev() {
            tasks.push(Task::Node(child));
            tasks.push(Task::Byte(b':'));
            tasks.push(Task::Name(self.nodes[child].name.unwrap_or_default()));
            tasks.push(Task::Byte(if position == 0 { b'{' } else { b',' }));
        }
        if self.nodes[object].first_child.is_none() {
            tasks.push(Task::Byte(b'{'));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(raw: &str) -> String {
        String::from_utf8(canonical(raw.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn equal_values_have_one_text() {
        for (raw, canon) in [
            (r#"{"b":1.0,"a":[1,{"z":null,"y":"\u00e9"}]}"#, r#"{"a":[1,{"y":"é","z":null}],"b":1}"#),
            (r#"{ "b" : [ ] , "a" : { } }"#, r#"{"a":{},"b":[]}"#),
            (r#"{"a":1,"\u0061":2,"a":{"x":1,"x":3}}"#, r#"{"a":{"x":3}}"#),
            (r#""a\/b\u0041\n\"""#, r#""a/bA\n\"""#),
            ("1.50", "1.5"),
            ("true", "true"),
            (r#"["a,]","\\"]"#, r#"["a,]","\\"]"#),
        ] {
            assert_eq!(text(raw), canon, "{raw}");
            assert_eq!(text(canon), canon, "stable");
        }
    }

    #[test]
    fn most_scalars_borrow() {
        for raw in ["null", "12", "-3", "\"plain é\""] {
            assert!(matches!(canonical(raw.as_bytes()), Cow::Borrowed(_)), "{raw}");
        }
    }

    #[test]
    fn deep_nesting_needs_no_stack() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(text(&deep), deep);
    }
}
