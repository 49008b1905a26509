//! The code that docs/your-device.md shows is there, in the example or in what `new-device` makes.

use std::fs;

use anyhow::{Context, bail};

use crate::new_device;
use crate::shell::root;

const PAGE: &str = "docs/your-device.md";

/// The device that the page makes, and its folder there.
const DEVICE: &str = "tally";
const FOLDER: &str = "crates/virtio-tally/";

/// How a block of code begins that is not a program of its own, which is compiled as one.
const EXCERPT: &str = "```rust,ignore";

pub(crate) fn check() -> anyhow::Result<()> {
    let page = fs::read_to_string(root().join(PAGE)).context(PAGE)?;
    match read(&page, source) {
        Ok(count) => eprintln!("== excerpts: ok, {count} in {PAGE}"),
        Err(wrong) => bail!("{PAGE} must be mended:\n{}", wrong.join("\n")),
    }
    Ok(())
}

/// The text of a file that the page names.
fn source(path: &str) -> Option<String> {
    match path.strip_prefix(FOLDER) {
        Some(path) => new_device::text(DEVICE, path),
        None => fs::read_to_string(root().join(path)).ok(),
    }
}

/// Counts the excerpts of `page`, or says which are not in their source, a line each. What the source is
/// stands in the line before: `<!-- path -->`.
fn read(page: &str, source: impl Fn(&str) -> Option<String>) -> Result<usize, Vec<String>> {
    let lines: Vec<_> = page.lines().collect();
    let (mut count, mut wrong) = (0, vec![]);
    for at in (0..lines.len()).filter(|&at| lines[at] == EXCERPT) {
        count += 1;
        let before = lines[at.saturating_sub(1)];
        let path = before.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
        let block = lines[at + 1..].iter().take_while(|line| **line != "```");
        let excerpt = words(block.copied());
        let what = match path.map(|path| (path, source(path))) {
            None => "no <!-- path --> before it".to_owned(),
            Some((path, None)) => format!("there is no file {path}"),
            Some((_, Some(text))) if words(text.lines()).contains(&excerpt) => continue,
            Some((path, Some(_))) => format!("{path} reads differently"),
        };
        wrong.push(format!("  line {}: {what}", at + 1));
    }
    if wrong.is_empty() { Ok(count) } else { Err(wrong) }
}

/// The text but for its layout, which depends on how long the device's name is.
fn words<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_that_is_not_in_its_source_is_told() {
        let source = |path: &str| (path == "a.rs").then(|| "fn a() {\n    b(c)\n}\n".to_owned());
        let page = |before: &str, code: &str| format!("{before}\n{EXCERPT}\n{code}\n```\n");
        assert_eq!(read(&page("<!-- a.rs -->", "b(c)\n}"), source), Ok(1));
        for (before, code, fault) in [
            ("<!-- a.rs -->", "b(d)", "  line 2: a.rs reads differently"),
            ("<!-- b.rs -->", "b(c)", "  line 2: there is no file b.rs"),
            ("See:", "b(c)", "  line 2: no <!-- path --> before it"),
        ] {
            assert_eq!(read(&page(before, code), source), Err(vec![fault.to_owned()]));
        }
    }

    #[test]
    fn the_page_of_this_workspace_shows_what_is_there() {
        check().unwrap();
    }
}
