//! The READMEs' tables of figures, made from what the benchmarks have written.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::shell::root;

/// One figure of ours beside a peer's: a row of `target/figures/NAME.json`.
#[derive(Deserialize)]
struct Row {
    row: String,
    unit: String,
    ours: f64,
    peer: f64,
    peer_name: String,
}

/// What a table stands between; the first has the benchmark's name in it.
const BEGIN: &str = "<!-- figures: ";
const END: &str = "<!-- end of figures -->";

/// Puts the tables of all benchmarks that have been run on this machine into the READMEs, the workspace's
/// and each crate's.
pub(crate) fn into_readmes() -> anyhow::Result<()> {
    into_readme(&root().join("README.md"))?;
    for folder in fs::read_dir(root().join("crates"))? {
        let readme = folder?.path().join("README.md");
        if readme.exists() {
            into_readme(&readme)?;
        }
    }
    Ok(())
}

fn into_readme(path: &Path) -> anyhow::Result<()> {
    let readme = fs::read_to_string(path)?;
    let written = with_tables(&readme, measured).with_context(|| format!("{}", path.display()))?;
    if written != readme {
        fs::write(path, written)?;
        eprintln!("== {} has the new figures", path.display());
    }
    Ok(())
}

/// The table of a benchmark, if it has been run: its own, or one that its rows make.
fn measured(name: &str) -> anyhow::Result<Option<String>> {
    let file = |extension| root().join(format!("target/figures/{name}.{extension}"));
    if let Ok(table) = fs::read_to_string(file("md")) {
        // Markdown inside of HTML begins after an empty line.
        return Ok(Some(format!("\n{table}\n")));
    }
    let file = file("json");
    let Ok(text) = fs::read_to_string(&file) else { return Ok(None) };
    let rows: Vec<Row> = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
    Ok(Some(table(&rows)))
}

/// The text with each table replaced by the one that `table` knows, if it does.
fn with_tables(
    text: &str,
    table: impl Fn(&str) -> anyhow::Result<Option<String>>,
) -> anyhow::Result<String> {
    let mut written = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (name, after) = after.split_once(" -->").context("a begin of figures has no end")?;
        let (old, after) = after.split_once(END).with_context(|| format!("{name}: no {END}"))?;
        ensure!(!old.contains(BEGIN), "the figures of {name} have no end");
        let new = table(name)?.map(|table| format!("\n{table}"));
        written += &format!("{before}{BEGIN}{name} -->{}{END}", new.as_deref().unwrap_or(old));
        rest = after;
    }
    Ok(written + rest)
}

fn table(rows: &[Row]) -> String {
    let peer_name = rows.first().map_or("", |row| &row.peer_name);
    let mut text = format!("| | cubie | {peer_name} | ratio | |\n|---|---:|---:|---:|---|\n");
    for Row { row, unit, ours, peer, .. } in rows {
        text += &format!("| {row} | {ours:.0} | {peer:.0} | {:.2} | {unit} |\n", ours / peer);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_replaced_and_all_else_stays() {
        let text = |table| format!("a\n{BEGIN}boot -->{table}{END}\nb\n{BEGIN}other -->x{END}");
        let row = Row {
            row: "exits".into(),
            unit: "exits".into(),
            ours: 10.0,
            peer: 40.0,
            peer_name: "QEMU".into(),
        };
        let new = with_tables(&text("\nold\n"), |name| {
            Ok((name == "boot").then(|| table(std::slice::from_ref(&row))))
        });
        let table = "\n| | cubie | QEMU | ratio | |\n|---|---:|---:|---:|---|\n| exits | 10 | 40 | 0.25 | exits |\n";
        assert_eq!(new.unwrap(), text(table));
    }

    #[test]
    fn a_table_without_an_end_is_refused() {
        let text = format!("{BEGIN}boot -->\n{BEGIN}other -->\n{END}");
        with_tables(&text, |_| Ok(None)).unwrap_err();
        with_tables(&format!("{BEGIN}boot -->"), |_| Ok(None)).unwrap_err();
    }
}
