//! One HTML page that needs nothing else: no script, no font, no request; light, dark and on paper.

use std::fmt::Write as _;

use super::chart::{Chart, escaped};
use super::page::LEFT_OUT;
use super::{Page, Section, Table, Verdict};

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub(super) fn document(page: &Page) -> String {
    let title = escaped(&page.title);
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    );
    if let Some(Verdict { good, text }) = &page.verdict {
        let class = if *good { "good" } else { "bad" };
        let _ = writeln!(html, "<p class=\"verdict {class}\">{}</p>", escaped(text));
    }
    html.push_str("<dl>\n");
    for (name, value) in &page.facts {
        let _ = writeln!(html, "<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(value));
    }
    html.push_str("</dl>\n");
    for part in &page.sections {
        html.push_str(&section(part));
    }
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

fn section(section: &Section) -> String {
    let mut html = format!("<section>\n<h2>{}</h2>\n", escaped(&section.title));
    for fault in &section.faults {
        let _ = writeln!(html, "<p class=\"fault\">{}</p>", escaped(fault));
    }
    for note in &section.notes {
        let _ = writeln!(html, "<p>{}</p>", escaped(note));
    }
    for drawing in section.charts.iter().filter_map(Chart::svg) {
        html.push_str(&drawing);
        html.push('\n');
    }
    if let Some(shown) = &section.table {
        html.push_str(&table(shown));
    }
    html.push_str("</section>\n");
    html
}

fn table(table: &Table) -> String {
    let right: Vec<bool> = (0..table.head.len()).map(|at| table.is_of_figures(at)).collect();
    let mut html = "<div class=\"wide\"><table>\n<thead><tr>".to_owned();
    for (head, right) in table.head.iter().zip(&right) {
        let class = if *right { " class=\"n\"" } else { "" };
        let _ = write!(html, "<th scope=\"col\"{class}>{}</th>", escaped(head));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        html.push_str("<tr>");
        for ((text, head), right) in row.iter().zip(&table.head).zip(&right) {
            html.push_str(&cell(text, head, *right));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table></div>\n");
    html
}

/// What is wrong, and what has become worse, is marked; the spread of a figure steps back.
fn cell(text: &str, head: &str, right: bool) -> String {
    let is_fault = matches!(head, "faults" | "missing") && text != "0";
    let marks = match text {
        "REGRESSION" => " bad",
        "better" => " good",
        "-" | LEFT_OUT => " none",
        _ if is_fault => " bad",
        _ => "",
    };
    let classes = format!("{}{marks}", if right { "n" } else { "" });
    let class = if classes.is_empty() { String::new() } else { format!(" class=\"{}\"", classes.trim()) };
    match text.split_once(" (") {
        Some((figure, spread)) if right => {
            format!("<td{class}>{} <span class=\"spread\">({}</span></td>", escaped(figure), escaped(spread))
        }
        _ => format!("<td{class}>{}</td>", escaped(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Machine;

    #[test]
    fn what_is_wrong_is_marked() {
        assert_eq!(cell("0", "faults", true), "<td class=\"n\">0</td>");
        assert_eq!(cell("7", "faults", true), "<td class=\"n bad\">7</td>");
        assert_eq!(cell("REGRESSION", "verdict", false), "<td class=\"bad\">REGRESSION</td>");
        assert_eq!(cell("1 (0 .. 2)", "us", true), "<td class=\"n\">1 <span class=\"spread\">(0 .. 2)</span></td>");
        for (good, class) in [(true, "verdict good"), (false, "verdict bad")] {
            let mut page = Page::new("a", &Machine::here());
            page.verdict = Some(Verdict::of_faults(good));
            assert!(document(&page).contains(class));
        }
    }

    #[test]
    fn the_page_is_whole_and_asks_nobody_for_anything() {
        let mut page = Page::new("a <b>", &Machine::here());
        let mut part = Section::new("s");
        let mut figures = Table::new("x|y");
        figures.row(vec!["<script>".to_owned(), "5".to_owned()]);
        part.table = Some(figures);
        part.fault("lost & gone");
        page.sections.push(part);
        let html = document(&page);
        assert!(
            html.contains("<h1>a &lt;b&gt;</h1>") && html.contains("lost &amp; gone") && html.ends_with("</html>\n")
        );
        for foreign in ["http://", "https://", "<script", "url(", "@import", "src="] {
            assert!(!html.contains(foreign), "{foreign}");
        }
    }
}
