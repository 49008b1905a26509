//! Kernel modules: where they lie, what they need, and in which order they load.
//!
//! Debian's packages carry no `modules.dep` (depmod makes it at installation), so the dependencies are read
//! from where depmod reads them too: the `.modinfo` section of each module.

use anyhow::{Context, Result, anyhow, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::elf;

/// The modules of one kernel, by name.
#[derive(Debug)]
pub struct ModuleTree {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

/// One module, unpacked, with what its `.modinfo` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The name with underscores, as `lsmod` shows it.
    pub name: String,
    /// The ELF object, as init_module(2) takes it.
    pub bytes: Vec<u8>,
    /// Names of the modules that must be loaded first.
    pub depends: Vec<String>,
    /// Patterns by which the kernel asks for it, such as `fs-ext4`.
    pub aliases: Vec<String>,
}

impl ModuleTree {
    /// Reads the names in `root/lib/modules/VERSION`.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open(root: &Path, version: &str) -> Result<ModuleTree> {
        let folder = root.join("lib/modules").join(version);
        let mut files = BTreeMap::new();
        collect(&folder, &mut files)
            .with_context(|| format!("reading the modules in {}", folder.display()))?;
        let list = folder.join("modules.builtin");
        let list =
            fs::read_to_string(&list).with_context(|| format!("reading {}", list.display()))?;
        let builtin = list.lines().filter_map(|line| module_name(Path::new(line))).collect();
        Ok(ModuleTree { files, builtin })
    }

    /// The module's file, which may be compressed; `None` when it is built in or unknown.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&Path> {
        self.files.get(&name.replace('-', "_")).map(PathBuf::as_path)
    }

    /// Every module with its file, read one at a time: together they are some 300 MB.
    pub fn all(&self) -> impl Iterator<Item = Result<(&Path, Module)>> {
        self.files.iter().map(|(name, file)| {
            let module = Module::read(name, file).with_context(|| file.display().to_string())?;
            Ok((file.as_path(), module))
        })
    }

    /// `names` and all that they need, dependencies first, without what is built into the kernel.
    ///
    /// # Errors
    /// When a module is neither there nor built in, is not a module, or depends on itself.
    pub fn load_order(&self, names: &[&str]) -> Result<Vec<Module>> {
        let mut order = Vec::new();
        for name in names {
            self.visit(&name.replace('-', "_"), &mut Vec::new(), &mut order)?;
        }
        Ok(order)
    }

    fn visit(&self, name: &str, above: &mut Vec<String>, order: &mut Vec<Module>) -> Result<()> {
        if self.builtin.contains(name) || order.iter().any(|module| module.name == name) {
            return Ok(());
        }
        if above.iter().any(|user| user == name) {
            bail!("the kernel module {name} depends on itself");
        }
        let file = self.files.get(name);
        let file = file.ok_or_else(|| anyhow!("the kernel has no module {name}"))?;
        let module = Module::read(name, file).with_context(|| file.display().to_string())?;
        above.push(name.to_owned());
        for needed in &module.depends {
            self.visit(needed, above, order)?;
        }
        above.pop();
        order.push(module);
        Ok(())
    }
}

impl Module {
    fn read(name: &str, file: &Path) -> Result<Module> {
        let packed = fs::read(file)?;
        let mut bytes = Vec::new();
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("xz") => {
                lzma_rust2::XzReader::new(packed.as_slice(), true).read_to_end(&mut bytes)?;
            }
            _ => bytes = packed,
        }
        let info = elf::section(&bytes, ".modinfo").context("not a kernel module")?;
        let depends = values(info, "depends=");
        let depends = depends.flat_map(|list| list.split(',')).filter(|name| !name.is_empty());
        let depends = depends.map(|name| name.replace('-', "_")).collect();
        let aliases = values(info, "alias=").map(str::to_owned).collect();
        Ok(Module { name: name.to_owned(), depends, aliases, bytes })
    }
}

/// The values of `key` in a `.modinfo` section, which is a list of NUL-ended `key=value`.
fn values<'a>(info: &'a [u8], key: &'a str) -> impl Iterator<Item = &'a str> {
    let entries = info.split(|&byte| byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok());
    entries.filter_map(move |entry| entry.strip_prefix(key))
}

fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else if let Some(name) = module_name(&entry.path()) {
            files.insert(name, entry.path());
        }
    }
    Ok(())
}

/// `virtio_rng` for `…/virtio-rng.ko` and `…/virtio-rng.ko.xz`.
fn module_name(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let stem = name.strip_suffix(".ko").or_else(|| name.strip_suffix(".ko.xz"))?;
    Some(stem.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel whose modules are `(file, .modinfo)`.
    fn tree(modules: &[(&str, &str)], builtin: &str) -> (tempfile::TempDir, ModuleTree) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("lib/modules/6.1/kernel");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("../modules.builtin"), builtin).unwrap();
        for (file, info) in modules {
            fs::write(folder.join(file), elf::tests::with_section(".modinfo", info.as_bytes()))
                .unwrap();
        }
        let tree = ModuleTree::open(root.path(), "6.1").unwrap();
        (root, tree)
    }

    fn names(order: &[Module]) -> Vec<&str> {
        order.iter().map(|module| module.name.as_str()).collect()
    }

    #[test]
    fn dependencies_load_first_and_once() {
        let modules = [
            ("virtio_net.ko", "license=GPL\0depends=net_failover,crc-x\0"),
            ("net_failover.ko", "depends=failover\0"),
            ("failover.ko", "depends=\0"),
            ("crc-x.ko", "depends=virtio\0"),
        ];
        let (_root, tree) = tree(&modules, "kernel/drivers/virtio/virtio.ko\n");
        let order = tree.load_order(&["virtio-net", "failover"]).unwrap();
        assert_eq!(names(&order), ["failover", "net_failover", "crc_x", "virtio_net"]);
    }

    #[test]
    fn aliases_are_kept_for_modules_alias() {
        let (_root, tree) = tree(&[("ext4.ko", "alias=fs-ext4\0alias=fs-ext2\0depends=\0")], "");
        let order = tree.load_order(&["ext4"]).unwrap();
        assert_eq!(order[0].aliases, ["fs-ext4", "fs-ext2"]);
    }

    #[test]
    fn a_missing_dependency_is_named() {
        let (_root, tree) = tree(&[("ext4.ko", "depends=jbd2\0")], "");
        let error = tree.load_order(&["ext4"]).unwrap_err();
        assert!(error.to_string().contains("no module jbd2"), "{error}");
    }

    #[test]
    fn a_circle_of_dependencies_is_an_error() {
        let (_root, tree) = tree(&[("a.ko", "depends=b\0"), ("b.ko", "depends=a\0")], "");
        tree.load_order(&["a"]).unwrap_err();
    }

    #[test]
    fn a_file_that_is_no_module_is_an_error() {
        let (root, tree) = tree(&[("a.ko", "")], "");
        fs::write(root.path().join("lib/modules/6.1/kernel/a.ko"), b"junk").unwrap();
        tree.load_order(&["a"]).unwrap_err();
    }
}
