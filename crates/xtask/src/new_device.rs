//! A new device: a crate that works, with the usual doors, and what the workspace must know of it.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::shell::{cargo, root, run};

/// The files of `templates/new-device` by their paths in a crate. They are a device called new-device, and
/// become another by its name alone.
const TEMPLATES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("../templates/new-device/Cargo.toml")),
    ("README.md", include_str!("../templates/new-device/README.md")),
    ("src/lib.rs", include_str!("../templates/new-device/src/lib.rs")),
    ("src/device.rs", include_str!("../templates/new-device/src/device.rs")),
    ("src/handler.rs", include_str!("../templates/new-device/src/handler.rs")),
    ("src/protocol.rs", include_str!("../templates/new-device/src/protocol.rs")),
    ("src/backend/mod.rs", include_str!("../templates/new-device/src/backend/mod.rs")),
    ("src/backend/in_memory.rs", include_str!("../templates/new-device/src/backend/in_memory.rs")),
    ("tests/guest.rs", include_str!("../templates/new-device/tests/guest.rs")),
    ("tests/suites.rs", include_str!("../templates/new-device/tests/suites.rs")),
];

/// Where the workspace lists its devices, one a line.
const MANIFEST: &str = "Cargo.toml";
const FLOORS: &str = "crates/xtask/src/floors.rs";

/// Words that cannot name a module, such as that of a façade.
const KEYWORDS: &str = "abstract as async await become box break const continue crate do dyn else enum \
    extern false final fn for gen if impl in let loop macro match mod move mut override priv pub ref \
    return self static struct super trait true try type typeof unsafe unsized use virtual where while yield";

const LONGEST_NAME: usize = 32;

/// Makes `crates/virtio-NAME`, and says what to do with it.
pub(crate) fn new_device(name: &str) -> anyhow::Result<()> {
    let name = Name::new(name)?;
    let folder = make(root(), &name)?;
    run("format", &mut cargo(&format!("fmt -p {}", name.package())))?;
    let package = name.package();
    println!("\nmade {}, a device that works:", folder.display());
    TEMPLATES.iter().for_each(|(path, _)| println!("  {path}"));
    println!("added a line to {MANIFEST} and, for its floor, to {FLOORS}");
    println!("\nnext:");
    println!("  cargo test -p {package}");
    println!("  cargo doc -p {package} --open");
    println!("  docs/your-device.md: what to change, door by door");
    Ok(())
}

/// What a device is called, `speed-meter` here, in all its spellings.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    /// `speed-meter`
    kebab: String,
    /// `speed_meter`
    snake: String,
    /// `SpeedMeter`
    camel: String,
}

impl Name {
    fn new(name: &str) -> anyhow::Result<Self> {
        let form = "a device's name is lower-case words joined by hyphens, such as speed-meter";
        let word = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_lowercase())
                && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        };
        ensure!(name.split('-').all(word), "«{name}» is no name: {form}");
        ensure!(!name.starts_with("virtio-"), "«{name}»: leave «virtio-» out, it is added");
        ensure!(name.len() <= LONGEST_NAME, "«{name}» is longer than {LONGEST_NAME} letters");
        let keyword = KEYWORDS.split_whitespace().any(|keyword| keyword == name);
        ensure!(!keyword, "«{name}» is a keyword of Rust: choose another name");
        let name = Self { kebab: name.into(), snake: name.replace('-', "_"), camel: camel(name) };
        let taken = TEMPLATES.iter().any(|(_, text)| has_word(text, &name.camel));
        ensure!(!taken, "«{}» is a word of the skeleton: choose another name", name.camel);
        Ok(name)
    }

    fn package(&self) -> String {
        format!("cubie-virtio-{}", self.kebab)
    }

    /// The template's text, of this device.
    fn fill_in(&self, template: &str) -> String {
        let text = template.replace("new-device", &self.kebab);
        text.replace("new_device", &self.snake).replace("NewDevice", &self.camel)
    }
}

fn camel(name: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('-').map(capital).collect()
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

/// Writes the crate into the workspace at `root`, and the lines about it. All of it, or nothing.
fn make(root: &Path, name: &Name) -> anyhow::Result<PathBuf> {
    let folder = PathBuf::from(format!("crates/virtio-{}", name.kebab));
    if root.join(&folder).exists() {
        bail!("{} is there already: choose another name", folder.display());
    }
    let package = name.package();
    let dependency = format!("{package} = {{ path = \"{}\" }}", folder.display());
    let listed = [
        (MANIFEST, "{ path = \"crates/virtio-", dependency),
        (FLOORS, "(\"cubie-virtio-", format!("    (\"{package}\", 4),")),
    ];
    let mut old = vec![];
    for (file, like, line) in listed {
        let text = fs::read_to_string(root.join(file)).context(file)?;
        let new = add_line(&text, like, &line)
            .with_context(|| format!("{file} lists no devices: no line has «{like}»"))?;
        old.push((file, text, new));
    }
    let written = write_crate(&root.join(&folder), name).and_then(|()| {
        old.iter().try_for_each(|(file, _, new)| fs::write(root.join(file), new).context(*file))
    });
    if written.is_err() {
        // As it was, as far as the disk allows: the first error is the one that counts.
        let _ = fs::remove_dir_all(root.join(&folder));
        for (file, text, _) in old {
            let _ = fs::write(root.join(file), text);
        }
    }
    written.map(|()| folder)
}

fn write_crate(folder: &Path, name: &Name) -> anyhow::Result<()> {
    for (path, template) in TEMPLATES {
        let path = folder.join(path);
        let parent = path.parent().expect("a file in a folder");
        fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        fs::write(&path, name.fill_in(template)).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// `text` with `line` behind the last line that has `like` in it; `None` if there is none.
fn add_line(text: &str, like: &str, line: &str) -> Option<String> {
    let mut lines: Vec<_> = text.lines().collect();
    let last = lines.iter().rposition(|line| line.contains(like))?;
    lines.insert(last + 1, line);
    Some(lines.join("\n") + "\n")
}

/// The text of the file `path` in the crate of a device called `name`, but for its format.
pub(crate) fn text(name: &str, path: &str) -> Option<String> {
    let (_, template) = TEMPLATES.iter().find(|(there, _)| *there == path)?;
    Some(Name::new(name).ok()?.fill_in(template))
}

/// A device made from the skeleton passes what every change must: in a workspace of links to this one, so
/// that this one stays as it is.
pub(crate) fn check() -> anyhow::Result<()> {
    let there = root().join("target/new-device");
    if there.exists() {
        fs::remove_dir_all(&there)?;
    }
    mirror(root(), &there)?;
    let name = Name::new("speed-meter")?;
    make(&there, &name)?;
    let package = name.package();
    for (what, args) in [
        ("format", format!("fmt -p {package}")),
        ("tests", format!("test --offline -p {package}")),
        ("lints", format!("clippy --offline -p {package} --all-targets -- -D warnings")),
    ] {
        run(&format!("{what} of a new device"), cargo(&args).current_dir(&there))?;
    }
    Ok(())
}

/// Makes `to` look like the workspace `from`, with files of its own where a new device changes them.
fn mirror(from: &Path, to: &Path) -> anyhow::Result<()> {
    let own = [MANIFEST, "Cargo.lock", FLOORS].map(|file| from.join(file));
    mirror_folder(from, to, &own).with_context(|| to.display().to_string())
}

fn mirror_folder(from: &Path, to: &Path, own: &[PathBuf]) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let (name, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
        let there = to.join(&name);
        if own.contains(&path) {
            fs::copy(&path, there)?;
        } else if own.iter().any(|own| own.starts_with(&path)) {
            mirror_folder(&path, &there, own)?;
        } else if !name.to_string_lossy().starts_with('.') {
            symlink(path, there)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A copy of this workspace that a test may change.
    fn workspace() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("cubie");
        mirror(root(), &there).unwrap();
        (folder, there)
    }

    fn crates(workspace: &Path) -> usize {
        fs::read_dir(workspace.join("crates")).unwrap().count()
    }

    fn name(name: &str) -> Name {
        Name::new(name).unwrap()
    }

    #[test]
    fn a_name_has_three_spellings() {
        let spellings = ["speed-meter", "speed_meter", "SpeedMeter"].map(String::from);
        let [kebab, snake, camel] = spellings;
        assert_eq!(name("speed-meter"), Name { kebab, snake, camel });
    }

    #[test]
    fn bad_names_get_one_line_that_says_why() {
        let long = "x".repeat(33);
        for (bad, why) in [
            ("", "«» is no name: a device's name is lower-case words joined by hyphens"),
            ("speed meter", "«speed meter» is no name"),
            ("Speed", "«Speed» is no name"),
            ("speed_meter", "«speed_meter» is no name"),
            ("-speed", "«-speed» is no name"),
            ("speed--meter", "«speed--meter» is no name"),
            ("3d", "«3d» is no name"),
            ("../speed", "«../speed» is no name"),
            ("größe", "«größe» is no name"),
            ("virtio-speed", "leave «virtio-» out"),
            (&long, "is longer than 32 letters"),
            ("type", "«type» is a keyword of Rust"),
            ("config", "«Config» is a word of the skeleton"),
        ] {
            let said = Name::new(bad).unwrap_err().to_string();
            assert!(said.contains(why) && !said.contains('\n'), "{bad}: {said}");
        }
    }

    #[test]
    fn a_new_device_is_a_crate_and_a_line_in_two_lists() {
        let (_folder, there) = workspace();
        let before = [MANIFEST, FLOORS].map(|file| fs::read_to_string(there.join(file)).unwrap());
        let made = make(&there, &name("speed-meter")).unwrap();
        assert_eq!(made, Path::new("crates/virtio-speed-meter"));
        let after = [MANIFEST, FLOORS].map(|file| fs::read_to_string(there.join(file)).unwrap());
        let lines = [
            "cubie-virtio-speed-meter = { path = \"crates/virtio-speed-meter\" }\n",
            "    (\"cubie-virtio-speed-meter\", 4),\n",
        ];
        for ((before, after), line) in before.iter().zip(&after).zip(lines) {
            assert_eq!(after.replacen(line, "", 1), *before, "only this line is new: {line}");
        }
        assert!(after[0].find(lines[0]) < after[0].find("[workspace.lints"), "a dependency");
        let device = fs::read_to_string(there.join(&made).join("src/device.rs")).unwrap();
        assert!(device.contains("pub struct SpeedMeter<B: SpeedMeterBackend>"));
        for (path, _) in TEMPLATES {
            let text = fs::read_to_string(there.join(&made).join(path)).unwrap();
            let left = ["new-device", "new_device", "NewDevice"].map(|old| text.contains(old));
            assert_eq!(left, [false; 3], "{path}");
        }
    }

    #[test]
    fn what_cannot_be_made_leaves_nothing_behind() {
        let (_folder, there) = workspace();
        let before = crates(&there);
        let twice = make(&there, &name("rng")).unwrap_err().to_string();
        assert_eq!(twice, "crates/virtio-rng is there already: choose another name");
        fs::write(there.join(FLOORS), "no list").unwrap();
        let lost = make(&there, &name("speed-meter")).unwrap_err().to_string();
        assert!(lost.starts_with("crates/xtask/src/floors.rs lists no devices"), "{lost}");
        assert_eq!(crates(&there), before);
    }
}
