//! A benchmark's rows: a table for people, the same rows as JSON in `target/figures`.

use std::fmt::Write;
use std::path::Path;

/// One figure of ours beside the peer's.
pub(crate) struct Row {
    /// What was measured.
    pub(crate) row: String,
    /// In what.
    pub(crate) unit: &'static str,
    /// Ours.
    pub(crate) ours: f64,
    /// The peer's, in the same run.
    pub(crate) peer: f64,
    /// Who the peer is.
    pub(crate) peer_name: &'static str,
}

/// Prints the table and writes `target/figures/NAME.json`. Lower is better in all rows. A benchmark with a
/// table of another shape gives it as Markdown, which goes to `NAME.md` beside the rows.
pub(crate) fn publish(name: &str, rows: &[Row], table: Option<&str>) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/figures");
    std::fs::create_dir_all(&folder)?;
    match table {
        None => print(name, rows),
        Some(table) => {
            println!("\n{table}");
            std::fs::write(folder.join(format!("{name}.md")), table)?;
        }
    }
    let file = folder.join(format!("{name}.json"));
    std::fs::write(&file, json(rows))?;
    println!("\nwritten to {}", file.display());
    Ok(())
}

fn print(name: &str, rows: &[Row]) {
    let width = rows.iter().map(|row| row.row.chars().count()).max().unwrap_or(0);
    let peer_name = rows.first().map_or("", |row| row.peer_name);
    println!("\n{:width$}  {:>12}  {peer_name:>12}  {:>6}", name, "cubie", "ratio");
    for Row { row, ours, peer, unit, .. } in rows {
        println!("{row:width$}  {ours:>12.0}  {peer:>12.0}  {:>6.2}  {unit}", ours / peer);
    }
}

fn json(rows: &[Row]) -> String {
    let mut text = String::from("[\n");
    for (i, Row { row, unit, ours, peer, peer_name }) in rows.iter().enumerate() {
        let comma = if i + 1 < rows.len() { "," } else { "" };
        // Names are ours and hold nothing that JSON would have to escape.
        let _ = writeln!(
            text,
            r#"  {{"row": "{row}", "unit": "{unit}", "ours": {ours}, "peer": {peer}, "peer_name": "{peer_name}", "better": "lower"}}{comma}"#
        );
    }
    text + "]\n"
}
