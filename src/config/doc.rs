//! Prints the reference and the file with all defaults from the declaration.

use std::fmt::Write;

use super::kind::DEMO_MACHINES;
use super::raw::{CONFIG_VARIABLE, Row};
use super::settings::rows;

/// Returns the reference, `docs/configuration.md`; a test holds that file to the output of `hydrant config doc`.
pub fn markdown() -> String {
    let mut out = format!(
        "# Configuration\n\n\
         After reading this page you know every setting, its default, and where it can be set.\n\
         `hydrant config doc` prints it; a test compares the two. Flags take precedence over environment\n\
         variables, these over the file, and that over the defaults. The file is named by `--config` or\n\
         `{CONFIG_VARIABLE}`; there is none by default. Unknown keys and unknown `HYDRANT_*` variables are errors.\n\
         `hydrant config check FILE` reports all errors at once, including those in the certificates and keys\n\
         that the file names. It exits with 64 if there are any. `hydrant config default` prints a file with all\n\
         defaults. Lists are arrays in the file and comma-separated elsewhere. `localhost` in an address means\n\
         127.0.0.1; other names are not resolved. Durations have a unit (`500ms`, `30s`, `5m`, `2h`, `7d`); sizes\n\
         may have one (`64KiB`, `16MiB`, `1GiB`). `--demo` without a number means {DEMO_MACHINES} machines.\n\n\
         A change of a setting takes effect after a restart. A running server applies changes in the files that\n\
         settings name: users, roles and tenants, the listener's certificate, key and client authorities, the\n\
         JWKS, and credentials and certificates for endpoints.\n"
    );
    let mut table = None;
    for row in rows() {
        let (own, name) = split(&row);
        if table != Some(own) {
            table = Some(own);
            let title = if own.is_empty() { "Top level".to_owned() } else { format!("`[{own}]`") };
            let _ = write!(out, "\n## {title}\n\n| Setting | Variable | Default | Meaning |\n|---|---|---|---|\n");
        }
        let default = if row.default.is_empty() { "-".to_owned() } else { format!("`{}`", row.default) };
        let (variable, doc, what) = (row.variable(), row.doc, row.what);
        let _ = writeln!(out, "| `{name}` | `{variable}` | {default} | {doc} Takes {what}. |");
    }
    out
}

/// Returns a file with every setting at its default; settings without a fixed default are commented out.
pub fn default_file() -> String {
    let mut out = String::from("# Every setting of hydrant at its default. `hydrant config doc` explains more.\n");
    let mut table = "";
    for row in rows() {
        let (own, name) = split(&row);
        if table != own {
            table = own;
            let _ = write!(out, "\n[{own}]\n");
        }
        let _ = writeln!(out, "# {}", row.doc);
        let off = if row.default.is_empty() && !row.toml.contains(&"array") { "# " } else { "" };
        let _ = writeln!(out, "{off}{name} = {}", literal(&row));
    }
    out
}

fn split(row: &Row) -> (&'static str, &'static str) {
    row.key.split_once('.').unwrap_or(("", row.key))
}

/// Returns the default as a TOML literal.
fn literal(row: &Row) -> String {
    let takes = |kind| row.toml.contains(&kind);
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty();
    let is_bare = takes("integer") && digits(row.default)
        || takes("float") && row.default.parse::<f64>().is_ok()
        || takes("boolean") && row.default.parse::<bool>().is_ok();
    if takes("array") {
        let items = row.default.split(row.separator).filter(|item| !item.is_empty()).map(|item| format!("\"{item}\""));
        format!("[{}]", items.collect::<Vec<_>>().join(", "))
    } else if is_bare {
        row.default.to_owned()
    } else {
        format!("\"{}\"", row.default)
    }
}
