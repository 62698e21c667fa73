//! One self-contained HTML page: no script, no font, no request; for light, dark and print.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::Chart;
use super::page::LEFT_OUT;
use super::{Page, Section, Table, Verdict};

const STYLE: &str = include_str!("page.css");

/// Returns the whole page.
pub(super) fn document(page: &Page) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (page.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { (page.title) }
                    @if let Some(Verdict { good, text }) = &page.verdict {
                        p class={ "verdict " @if *good { "good" } @else { "bad" } } { (text) }
                    }
                    dl {
                        @for (name, value) in &page.facts { dt { (name) } dd { (value) } }
                    }
                    @for part in &page.sections { (section(part)) }
                }
            }
        }
        "\n"
    };
    markup.into_string()
}

fn section(section: &Section) -> Markup {
    html! {
        section {
            h2 { (section.title) }
            @for fault in &section.faults { p.fault { (fault) } }
            @for note in &section.notes { p { (note) } }
            @for drawing in section.charts.iter().filter_map(Chart::svg) { (drawing) }
            @if let Some(shown) = &section.table { (table(shown)) }
        }
    }
}

fn table(table: &Table) -> Markup {
    let right: Vec<bool> = (0..table.head.len()).map(|at| table.is_of_figures(at)).collect();
    html! {
        div.wide {
            table {
                thead {
                    tr {
                        @for (head, right) in table.head.iter().zip(&right) {
                            th scope="col" class=[right.then_some("n")] { (head) }
                        }
                    }
                }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for ((text, head), right) in row.iter().zip(&table.head).zip(&right) {
                                (cell(text, head, *right))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Returns a cell. Faults and regressions are highlighted; the spread of a figure is dimmed.
fn cell(text: &str, head: &str, right: bool) -> Markup {
    let is_fault = matches!(head, "faults" | "missing") && text != "0";
    let mark = match text {
        "REGRESSION" => Some("bad"),
        "better" => Some("good"),
        "-" | LEFT_OUT => Some("none"),
        _ if is_fault => Some("bad"),
        _ => None,
    };
    let classes: Vec<&str> = right.then_some("n").into_iter().chain(mark).collect();
    let class = (!classes.is_empty()).then(|| classes.join(" "));
    html! {
        td class=[class] {
            @match text.split_once(" (") {
                Some((figure, spread)) if right => { (figure) " " span.spread { "(" (spread) } }
                _ => (text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Machine;

    #[test]
    fn what_is_wrong_is_marked() {
        assert_eq!(cell("0", "faults", true).into_string(), "<td class=\"n\">0</td>");
        assert_eq!(cell("7", "faults", true).into_string(), "<td class=\"n bad\">7</td>");
        assert_eq!(cell("REGRESSION", "verdict", false).into_string(), "<td class=\"bad\">REGRESSION</td>");
        assert_eq!(
            cell("1 (0 .. 2)", "us", true).into_string(),
            "<td class=\"n\">1 <span class=\"spread\">(0 .. 2)</span></td>"
        );
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
