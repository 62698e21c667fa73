//! Bodies of posts for the benchmarks of the intake.

use std::fmt::Write;

use hydrant::demo::Fleet;
use hydrant::event::Draft;

/// `count` events as one array.
pub(super) fn array(count: usize, size: usize) -> Vec<u8> {
    let texts: Vec<String> = events(count, size).collect();
    format!("[{}]", texts.join(",")).into_bytes()
}

/// `count` events of about `size` bytes each: objects of the simulated fleet, filled up with text of others.
pub(super) fn events(count: usize, size: usize) -> impl Iterator<Item = String> {
    let mut fleet = Fleet::new(1, 50);
    let objects: Vec<String> = (0..4_000).map(|_| fleet.step().object).collect();
    // What the envelope and the other members take.
    let room = size - 250;
    let mut fitting: Vec<String> = objects.iter().filter(|object| object.len() <= room).cloned().collect();
    fitting.sort_by_key(|object| std::cmp::Reverse(object.len()));
    let text = objects.iter().rev().flat_map(|object| object.chars());
    let text: Vec<char> =
        text.filter(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\')).take(room + 8_192).collect();
    (0..count).map(move |sequence| event(sequence, &fitting[sequence % fitting.len()], &text[sequence * 97..], room))
}

fn event(sequence: usize, object: &str, text: &[char], room: usize) -> String {
    let mut whole = format!(r#"{{"Sequence":"{sequence:012}","Object":{object}"#);
    let pad: String = text.iter().take(room - object.len()).collect();
    write!(whole, r#","Pad":"{pad}"}}"#).expect("memory takes everything");
    let key = format!("{sequence:012}");
    let mut draft = Draft::new("bench", "update", &key);
    draft.time = Some("2026-01-02T03:04:05.678901234Z".into());
    draft.object = &whole;
    draft.seal(jiff::Timestamp::UNIX_EPOCH).json().to_owned()
}
