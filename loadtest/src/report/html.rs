//! One HTML page that needs nothing else: no script, no font, no request; light, dark and on paper.

use std::fmt::Write as _;

use super::chart::escaped;
use super::{Page, Section, Table};

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub(super) fn document(page: &Page) -> String {
    let title = escaped(&page.title);
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n<dl>\n"
    );
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
    for chart in &section.charts {
        html.push_str(&chart.svg());
        html.push('\n');
    }
    if let Some(shown) = &section.table {
        html.push_str(&table(shown));
    }
    html.push_str("</section>\n");
    html
}

fn table(table: &Table) -> String {
    let mut html = "<div class=\"table\"><table>\n<thead><tr>".to_owned();
    for cell in &table.head {
        let _ = write!(html, "<th scope=\"col\">{}</th>", escaped(cell));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        html.push_str("<tr>");
        for cell in row {
            let class = if Table::is_figure(cell) { " class=\"n\"" } else { "" };
            let _ = write!(html, "<td{class}>{}</td>", escaped(cell));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table></div>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Machine;

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
