//! The pages in a real browser: nothing is wider than a phone, no text leaves its drawing or lies on another, and
//! everything can be read, light and dark. Needs chromium: `make page`.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser as _;
use hydrant_loadtest::args::Cli;
use serde_json::Value;

use crate::fake::{Fake, Fault};

/// Looks at the page from within, and leaves what it finds in an attribute of the body.
const LOOK: &str = r#"<script>
const found = [];
const root = document.documentElement;
if (root.scrollWidth > window.innerWidth)
  found.push(`the page is ${root.scrollWidth} wide, the window ${window.innerWidth}`);
const channels = colour => (colour.match(/[\d.]+/g) || []).map(Number);
const light = ([r, g, b]) => [r, g, b].map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
const ground = element => {
  for (; element; element = element.parentElement) {
    const colour = channels(getComputedStyle(element).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
};
const words = [...document.querySelectorAll("h1, h2, p, dt, dd, th, td, td span, figcaption, svg text")];
for (const word of words) {
  const style = getComputedStyle(word);
  const ink = channels(word.closest("svg") ? style.fill : style.color);
  const [a, b] = [light(ink), light(ground(word))].sort((a, b) => b - a);
  if ((a + 0.05) / (b + 0.05) < 4.5) found.push(`contrast of ${word.textContent}: ${(a + 0.05) / (b + 0.05)}`);
}
for (const drawing of document.querySelectorAll("svg")) {
  const edge = drawing.getBoundingClientRect(), texts = [...drawing.querySelectorAll("text")];
  const boxes = texts.map(text => text.getBoundingClientRect());
  boxes.forEach((box, at) => {
    const name = texts[at].textContent;
    if (box.left < edge.left - 1 || box.right > edge.right + 1 ||
        box.top < edge.top - 1 || box.bottom > edge.bottom + 1)
      found.push(`${name} leaves its drawing`);
    boxes.slice(at + 1).forEach((other, later) => {
      const wide = Math.min(box.right, other.right) - Math.max(box.left, other.left);
      const high = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top);
      if (wide > 1 && high > 4) found.push(`${name} lies on ${texts[at + 1 + later].textContent}`);
    });
  });
}
const dark = matchMedia("(prefers-color-scheme: dark)").matches;
document.body.setAttribute("data-found", JSON.stringify({ found, words: words.length, dark }));
</script>
</body>"#;

fn browser() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let all = std::env::split_paths(&path).flat_map(|place| names.map(|name| place.join(name)));
    all.into_iter().find(|program| program.is_file()).expect("a browser is installed: make page")
}

/// What is wrong with a page at that width.
fn look(page: &Path, width: u32, is_dark: bool) -> Vec<Value> {
    let home = tempfile::tempdir().unwrap();
    let copy = home.path().join("page.html");
    std::fs::write(&copy, std::fs::read_to_string(page).unwrap().replace("</body>", LOOK)).unwrap();
    let output = Command::new(browser())
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!("--user-data-dir={}", home.path().join("profile").display()))
        .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!is_dark)))
        .arg(format!("--window-size={width},1000"))
        .arg(format!("file://{}", copy.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8(output.stdout).unwrap();
    let (_, rest) = dom.split_once("data-found=\"").expect("the page was looked at");
    let json = rest.split('"').next().unwrap().replace("&quot;", "\"").replace("&amp;", "&");
    let seen: Value = serde_json::from_str(&json).unwrap();
    assert!(seen["words"].as_u64().unwrap() > 20 && seen["dark"] == is_dark, "{seen}");
    seen["found"].as_array().unwrap().clone()
}

fn check(page: &Path) {
    for width in [500, 1_400] {
        for is_dark in [false, true] {
            let found = look(page, width, is_dark);
            assert!(found.is_empty(), "{} at {width}, dark {is_dark}: {found:#?}", page.display());
        }
    }
}

/// Runs a subcommand; where its page and its JSON are.
fn page(directory: &Path, name: &str, line: &[&str]) -> [PathBuf; 2] {
    let files = ["html", "json"].map(|kind| directory.join(format!("{name}.{kind}")));
    let [html, json] = files.each_ref().map(|file| file.to_str().unwrap());
    let line = [&["hydrant-loadtest"], line, &["--html", html, "--json", json]].concat();
    hydrant_loadtest::run(&Cli::try_parse_from(line).unwrap(), &mut Vec::new()).unwrap();
    files
}

#[test]
#[ignore = "needs a browser: make page"]
fn pages_can_be_read_on_phones_and_in_the_dark() {
    let directory = tempfile::tempdir().unwrap();
    let (good, bad) = (Fake::start(Fault::None), Fake::start(Fault::Lose));
    let (url, bad, pid) = (good.url(), bad.url(), std::process::id().to_string());
    let here = ["--server-pid", &pid, "--no-pin"];
    let at = |url| [&["--endpoint", url], &here[..]].concat();
    let small = ["--connections", "3", "--turns", "3", "--rounds", "2"];
    let work: [(&str, Vec<&str>); 6] = [
        ("floor", [&["floor", "--no-pin"], &small[..]].concat()),
        ("burst", [&["burst", "--k", "1,8"], &small[..], &at(&url)].concat()),
        ("faults", [&["burst", "--k", "8", "--turn-timeout", "1"], &small[..], &at(&bad)].concat()),
        (
            "fleet",
            [
                &["fleet", "--scripts", "0", "--runners", "9", "--rate", "50,100", "--floor", "--seconds", "1"],
                &at(&url)[..],
            ]
            .concat(),
        ),
        ("stall", [&["stall", "--healthy", "3", "--stalled", "2", "--megabytes", "1"], &at(&url)[..]].concat()),
        ("idle", [&["idle", "--connections", "20", "--rest", "0"], &at(&url)[..]].concat()),
    ];
    let mut results = Vec::new();
    for (name, line) in &work {
        let [html, json] = page(directory.path(), name, line);
        check(&html);
        results.push(json);
    }
    let json = results[1].to_str().unwrap();
    check(&page(directory.path(), "report", &["report", json, json])[0]);
}
