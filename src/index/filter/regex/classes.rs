//! The named character classes of RE2, as items of a Rust class.

/// A class that matches nothing, as an item of another.
pub(super) const EMPTY: &str = r"[^\x{0}-\x{10FFFF}]";

/// The maximum cost of a pattern's large classes together. A table of Unicode takes 10 microseconds to write out, and
/// with `(?i)` up to a millisecond for every class that contains it.
pub(super) const MOST: u32 = 64;

/// Returns the cost of a class with these items.
pub(super) fn cost(items: &str, fold: bool) -> u32 {
    let tables = items.matches(r"\p{").count() + items.matches(r"\P{").count();
    let nested = items.matches("[^").count();
    let beyond_ascii = items.split(r"\x{").skip(1).any(|code| code.find('}').is_some_and(|digits| digits > 2));
    let folded = if fold && (tables + nested > 0 || beyond_ascii) { 32 * (1 + nested) } else { 0 };
    u32::try_from(tables + folded).unwrap_or(u32::MAX)
}

/// Ranges of the POSIX classes (`[:alpha:]`), written as between brackets.
const POSIX: [(&str, &str); 14] = [
    ("alnum", "0-9A-Za-z"),
    ("alpha", "A-Za-z"),
    ("ascii", r"\x00-\x7F"),
    ("blank", r"\t "),
    ("cntrl", r"\x00-\x1F\x7F"),
    ("digit", "0-9"),
    ("graph", r"\x21-\x7E"),
    ("lower", "a-z"),
    ("print", r"\x20-\x7E"),
    ("punct", r"\x21-\x2F\x3A-\x40\x5B-\x60\x7B-\x7E"),
    ("space", r"\t-\r "),
    ("upper", "A-Z"),
    ("word", "0-9A-Za-z_"),
    ("xdigit", "0-9A-Fa-f"),
];

/// General categories, with both spellings where there is a long one, as Go normalizes names (see [`canonical_name`]).
const CATEGORIES: [(&str, &str); 80] = [
    ("C", "C"),
    ("Cc", "Cc"),
    ("Cf", "Cf"),
    ("Cn", "Cn"),
    ("Co", "Co"),
    ("L", "L"),
    ("Ll", "Ll"),
    ("Lm", "Lm"),
    ("Lo", "Lo"),
    ("Lt", "Lt"),
    ("Lu", "Lu"),
    ("M", "M"),
    ("Mc", "Mc"),
    ("Me", "Me"),
    ("Mn", "Mn"),
    ("N", "N"),
    ("Nd", "Nd"),
    ("Nl", "Nl"),
    ("No", "No"),
    ("P", "P"),
    ("Pc", "Pc"),
    ("Pd", "Pd"),
    ("Pe", "Pe"),
    ("Pf", "Pf"),
    ("Pi", "Pi"),
    ("Po", "Po"),
    ("Ps", "Ps"),
    ("S", "S"),
    ("Sc", "Sc"),
    ("Sk", "Sk"),
    ("Sm", "Sm"),
    ("So", "So"),
    ("Z", "Z"),
    ("Zl", "Zl"),
    ("Zp", "Zp"),
    ("Zs", "Zs"),
    ("Closepunctuation", "Pe"),
    ("Combiningmark", "M"),
    ("Connectorpunctuation", "Pc"),
    ("Control", "Cc"),
    ("Cntrl", "Cc"),
    ("Currencysymbol", "Sc"),
    ("Dashpunctuation", "Pd"),
    ("Decimalnumber", "Nd"),
    ("Digit", "Nd"),
    ("Enclosingmark", "Me"),
    ("Finalpunctuation", "Pf"),
    ("Format", "Cf"),
    ("Initialpunctuation", "Pi"),
    ("Letter", "L"),
    ("Letternumber", "Nl"),
    ("Lineseparator", "Zl"),
    ("Lowercaseletter", "Ll"),
    ("Mark", "M"),
    ("Mathsymbol", "Sm"),
    ("Modifierletter", "Lm"),
    ("Modifiersymbol", "Sk"),
    ("Nonspacingmark", "Mn"),
    ("Number", "N"),
    ("Openpunctuation", "Ps"),
    ("Other", "C"),
    ("Otherletter", "Lo"),
    ("Othernumber", "No"),
    ("Otherpunctuation", "Po"),
    ("Othersymbol", "So"),
    ("Paragraphseparator", "Zp"),
    ("Privateuse", "Co"),
    ("Punctuation", "P"),
    ("Punct", "P"),
    ("Separator", "Z"),
    ("Spaceseparator", "Zs"),
    ("Spacingmark", "Mc"),
    ("Symbol", "S"),
    ("Titlecaseletter", "Lt"),
    ("Unassigned", "Cn"),
    ("Uppercaseletter", "Lu"),
    ("Lc", "LC"),
    ("Casedletter", "LC"),
    ("Cs", "Cs"),
    ("Surrogate", "Cs"),
];

/// Scripts by the names that Go 1.26 accepts; it refuses those of more than one word.
const SCRIPTS: &str = "Adlam Ahom Arabic Armenian Avestan Balinese Bamum Batak Bengali Bhaiksuki Bopomofo Brahmi \
    Braille Buginese Buhid Carian Chakma Cham Cherokee Chorasmian Common Coptic Cuneiform Cypriot Cyrillic Deseret \
    Devanagari Dogra Duployan Elbasan Elymaic Ethiopic Georgian Glagolitic Gothic Grantha Greek Gujarati Gurmukhi Han \
    Hangul Hanunoo Hatran Hebrew Hiragana Inherited Javanese Kaithi Kannada Katakana Kawi Kharoshthi Khmer Khojki \
    Khudawadi Lao Latin Lepcha Limbu Lisu Lycian Lydian Mahajani Makasar Malayalam Mandaic Manichaean Marchen \
    Medefaidrin Miao Modi Mongolian Mro Multani Myanmar Nabataean Nandinagari Newa Nko Nushu Ogham Oriya Osage Osmanya \
    Palmyrene Phoenician Rejang Runic Samaritan Saurashtra Sharada Shavian Siddham Sinhala Sogdian Soyombo Sundanese \
    Syriac Tagalog Tagbanwa Takri Tamil Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Toto Ugaritic Vai \
    Vithkuqi Wancho Yezidi Yi";

/// Returns the items of the POSIX class `name`.
pub(super) fn posix(name: &str) -> Option<&'static str> {
    POSIX.iter().find(|(known, _)| *known == name).map(|(_, items)| *items)
}

/// Returns the items of `\d`, `\s` or `\w`.
pub(super) fn perl(letter: u8) -> Option<&'static str> {
    match letter.to_ascii_lowercase() {
        b'd' => Some("0-9"),
        b's' => Some(r"\t\n\f\r "),
        b'w' => Some("0-9A-Za-z_"),
        _ => None,
    }
}

/// Returns the items of the Unicode class `name`, or `None` if Go does not know it.
pub(super) fn unicode(name: &str) -> Option<String> {
    let name = canonical_name(name);
    match name.as_str() {
        "Any" => return Some(r"\x{0}-\x{10FFFF}".to_owned()),
        "Ascii" => return Some(r"\x00-\x7F".to_owned()),
        "Assigned" => return Some(r"\P{Cn}".to_owned()),
        _ => {}
    }
    if let Some((_, category)) = CATEGORIES.iter().find(|(known, _)| *known == name) {
        return Some(match *category {
            "LC" => r"\p{Lu}\p{Ll}\p{Lt}".to_owned(),
            // Valid text has no surrogates, so this is the empty class.
            "Cs" => EMPTY.to_owned(),
            plain => format!(r"\p{{gc={plain}}}"),
        });
    }
    SCRIPTS.split_whitespace().any(|script| script == name).then(|| format!(r"\p{{sc={name}}}"))
}

/// Normalizes a class name as Go does: no `_`, `-` or space, first letter in upper case and the rest in lower case.
fn canonical_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')) {
        out.push(if out.is_empty() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() });
    }
    out
}
