//! Taking Server-Sent Events apart. Pure.
//!
//! Contract: bytes go in as they come, messages come out whole and in order. A message longer than the bound is thrown
//! away as it comes and only counted, so memory is bounded by it. Comments, unknown fields and messages without data
//! are passed over, as the specification has it (HTML, section 9.2.6); lines end with LF or CRLF.

/// One message.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Its name; empty for an ordinary one.
    pub(super) event: String,
    pub(super) data: String,
    /// The id that it brought, if it brought one.
    pub(super) id: Option<String>,
    /// How long it was, if it was too long to be kept.
    pub(super) skipped: Option<u64>,
}

/// What has come of a stream, and the message that is being put together.
#[derive(Debug)]
pub(super) struct Parser {
    /// Most bytes of a message.
    most: usize,
    /// What has come and is not read yet, from `at` on.
    input: Vec<u8>,
    at: usize,
    /// Up to here there is no line break.
    searched: usize,
    message: Message,
    /// Whether there was a line of data.
    has_data: bool,
    /// Whether the rest of the line at hand is thrown away.
    in_long_line: bool,
}

impl Parser {
    pub(super) fn new(most: usize) -> Self {
        let message = Message::default();
        Self { most, input: Vec::new(), at: 0, searched: 0, message, has_data: false, in_long_line: false }
    }

    /// Takes what has come.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.input.drain(..self.at);
        self.searched -= self.at;
        self.at = 0;
        self.input.extend_from_slice(bytes);
    }

    /// Returns the next complete message.
    pub(super) fn next(&mut self) -> Option<Message> {
        loop {
            let Some(found) = memchr::memchr(b'\n', &self.input[self.searched..]) else {
                self.searched = self.input.len();
                self.bound_line();
                return None;
            };
            let (start, end) = (self.at, self.searched + found);
            (self.at, self.searched) = (end + 1, end + 1);
            if std::mem::take(&mut self.in_long_line) {
                self.skip(end - start);
                continue;
            }
            let line = &self.input[start..end];
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
            if !line.is_empty() {
                self.field(&line);
            } else if let Some(message) = self.dispatch() {
                return Some(message);
            }
        }
    }

    /// Throws away the beginning of a line that is too long already.
    fn bound_line(&mut self) {
        let length = self.input.len() - self.at;
        if self.in_long_line || length > self.most {
            self.skip(length);
            self.in_long_line = true;
            (self.at, self.searched) = (0, 0);
            self.input.clear();
        }
    }

    fn skip(&mut self, bytes: usize) {
        let before = self.message.skipped.unwrap_or(self.message.data.len() as u64);
        self.message.skipped = Some(before + bytes as u64);
        self.message.data = String::new();
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" if self.message.skipped.is_some() || self.message.data.len() + value.len() > self.most => {
                self.skip(value.len());
            }
            "data" => {
                if self.has_data {
                    self.message.data.push('\n');
                }
                self.message.data.push_str(value);
                self.has_data = true;
            }
            "event" => value.clone_into(&mut self.message.event),
            "id" if !value.contains('\0') => self.message.id = Some(value.to_owned()),
            _ => {}
        }
    }

    /// Returns the message that an empty line ends, if it has data.
    fn dispatch(&mut self) -> Option<Message> {
        let message = std::mem::take(&mut self.message);
        let has_data = std::mem::take(&mut self.has_data);
        (has_data || message.skipped.is_some()).then_some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pieces: &[&[u8]], most: usize) -> Vec<Message> {
        let mut parser = Parser::new(most);
        let mut all = Vec::new();
        for piece in pieces {
            parser.push(piece);
            all.extend(std::iter::from_fn(|| parser.next()));
        }
        all
    }

    fn message(event: &str, data: &str, id: Option<&str>) -> Message {
        let text = str::to_owned;
        Message { event: text(event), data: text(data), id: id.map(text), skipped: None }
    }

    #[test]
    fn messages_come_out_whole_wherever_the_bytes_are_cut() {
        let text =
            ":\n\nid: a:1\ndata: {\"x\":1}\n\nevent: close\ndata: {}\n\nretry: 9\r\ndata:a\r\ndata: b\r\n\r\nid: 7\n\n";
        let expected =
            [message("", r#"{"x":1}"#, Some("a:1")), message("close", "{}", None), message("", "a\nb", None)];
        assert_eq!(parse(&[text.as_bytes()], 100), expected);
        for at in 0..text.len() {
            let (a, b) = text.as_bytes().split_at(at);
            assert_eq!(parse(&[a, b], 100), expected, "{at}");
        }
        let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(parse(&single, 100), expected);
    }

    #[test]
    fn what_is_too_long_is_thrown_away_and_counted() {
        let text = format!("id: 1\ndata: {}\n\ndata: b\n\n", "x".repeat(1000));
        for size in [1, 7, 4096] {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let all = parse(&pieces, 100);
            assert!(all[0].skipped.is_some_and(|bytes| (1000..=1006).contains(&bytes)), "{size}: {all:?}");
            assert_eq!((all[0].id.as_deref(), all[0].data.as_str()), (Some("1"), ""));
            assert_eq!(all[1..], [message("", "b", None)]);
        }
        let mut parser = Parser::new(100);
        for _ in 0..1000 {
            parser.push(&[b'x'; 100]);
            assert!(parser.next().is_none() && parser.input.len() <= 200);
        }
    }
}
