//! `modules.dep` and `modules.alias`, which modprobe needs and depmod would make.

use crate::images::{LabImage, ModuleTree};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Writes both files beside the image's modules, once.
pub(super) fn write(image: &LabImage) -> Result<()> {
    let folder = image.modules.join("lib/modules").join(&image.version);
    let dependencies = folder.join("modules.dep"); // written last
    if dependencies.exists() {
        return Ok(());
    }
    let tree = ModuleTree::open(&image.modules, &image.version)?;
    let mut files = BTreeMap::new();
    let mut aliases = String::new();
    for module in tree.all() {
        let (file, module) = module?;
        let file = file.strip_prefix(&folder)?.to_owned();
        for alias in &module.aliases {
            writeln!(aliases, "alias {alias} {}", module.name)?;
        }
        files.insert(module.name, (file, module.depends));
    }
    replace(&folder.join("modules.alias"), &aliases)?;
    replace(&dependencies, &lines(&files))
}

/// A module's file and the names of what it needs directly.
type Files = BTreeMap<String, (PathBuf, Vec<String>)>;

/// One line a module: its file, and those that have to be loaded before it, the first one last.
fn lines(files: &Files) -> String {
    let mut text = String::new();
    for (name, (file, _)) in files {
        let mut order = Vec::new();
        visit(files, name, &mut BTreeSet::new(), &mut order);
        order.pop(); // the module itself
        text += &format!("{}:", file.display());
        order.iter().rev().for_each(|needed| text += &format!(" {}", needed.display()));
        text.push('\n');
    }
    text
}

/// Adds what `name` needs, and then its own file, to `order`; what is built into the kernel has no file.
fn visit<'a>(
    files: &'a Files,
    name: &'a str,
    seen: &mut BTreeSet<&'a str>,
    order: &mut Vec<&'a Path>,
) {
    if let (true, Some((file, needed))) = (seen.insert(name), files.get(name)) {
        needed.iter().for_each(|needed| visit(files, needed, seen, order));
        order.push(file);
    }
}

/// Nobody sees half a file, also when two processes write it.
fn replace(file: &Path, text: &str) -> Result<()> {
    let fresh = file.with_extension(std::process::id().to_string());
    let written = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, file));
    written.with_context(|| format!("writing {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_deepest_dependency_last_and_each_once() {
        let file = |needed: &[&str]| needed.iter().map(|name| (*name).to_owned()).collect();
        let files: Files = [("nat", vec!["ct", "nft"]), ("nft", vec!["ct"]), ("ct", vec!["crc"])]
            .map(|(name, needed)| {
                (name.to_owned(), (PathBuf::from(format!("net/{name}.ko")), file(&needed)))
            })
            .into();
        assert_eq!(
            lines(&files),
            "net/ct.ko:\nnet/nat.ko: net/nft.ko net/ct.ko\nnet/nft.ko: net/ct.ko\n"
        );
    }
}
