//! Debian's packages for ARM, fetched without installing anything and without being root.
//!
//! apt runs on a state folder of its own: the machine's sources, proxies and key rings, but our own package
//! lists, for arm64, armhf and amd64, and an empty list of installed packages. So the machine's architectures stay
//! as they are, apt checks signatures and checksums as always, and the dependency solver is at our disposal.

use anyhow::{Context, Result, bail};
use std::cell::Cell;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::say;

const CONFIG: &str = include_str!("apt.conf");

/// apt on a private state folder.
pub(super) struct Apt {
    folder: PathBuf,
    /// How often this run has fetched the package lists.
    updates: Cell<u32>,
}

/// Lists are fetched again when something is not found, but not for ever.
const MOST_UPDATES: u32 = 2;

impl Apt {
    /// Lays the state folder out in `folder`.
    pub(super) fn new(folder: PathBuf) -> Result<Apt> {
        for tool in ["apt-get", "apt-cache", "dpkg-deb"] {
            if super::tools::find(tool).is_none() {
                bail!(
                    "the images are made from Debian's packages, and this machine has no {tool}: \
                     make them on a Debian machine (`cargo xtask setup`) and copy its folder \
                     ~/.cache/cubie here, or give -k KERNEL and -i INITRD"
                );
            }
        }
        for part in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        fs::write(folder.join("status"), "")?;
        fs::write(folder.join("apt.conf"), CONFIG)?;
        Ok(Apt { folder, updates: Cell::new(0) })
    }

    /// The package that `package` stands for: `linux-image-6.1.0-NN-arm64` for `linux-image-arm64`.
    pub(super) fn dependency(&self, package: &str, prefix: &str) -> Result<String> {
        let show = ["show", "--no-all-versions", package];
        let shown = self.with_lists(|apt| apt.run("apt-cache", &show))?;
        let found = first_dependency(&shown, prefix);
        found.with_context(|| format!("the package {package} depends on no {prefix}…"))
    }

    /// `packages` and all that they depend on.
    pub(super) fn closure(&self, packages: &[&str]) -> Result<Vec<String>> {
        let mut command = vec!["install", "--simulate", "--no-install-recommends"];
        command.extend(packages);
        let plan = self.with_lists(|apt| apt.run("apt-get", &command))?;
        Ok(planned(&plan))
    }

    /// Downloads `packages` and unpacks them below `root`, which must exist.
    pub(super) fn unpack(&self, packages: &[String], root: &Path) -> Result<()> {
        let folder = tempfile::Builder::new().prefix("download-").tempdir_in(&self.folder)?;
        self.with_lists(|apt| {
            let names = packages.iter().map(String::as_str);
            let uris: Vec<_> =
                ["download", "--print-uris"].into_iter().chain(names.clone()).collect();
            let size = download_size(&apt.run("apt-get", &uris)?);
            say(&format!("downloading {} ({} MB)", summary(packages), size.div_ceil(1_000_000)));
            let download: Vec<_> = ["download"].into_iter().chain(names).collect();
            apt.run_in(folder.path(), "apt-get", &download)
        })?;
        say(&format!("unpacking {}", summary(packages)));
        for package in fs::read_dir(folder.path())? {
            let package = package?.path();
            let output = Command::new("dpkg-deb").arg("-x").arg(&package).arg(root).output()?;
            succeeded("dpkg-deb -x", &output)
                .with_context(|| format!("unpacking {}", package.display()))?;
        }
        Ok(())
    }

    /// Does `action` with package lists at hand; when it fails, once more with new ones.
    fn with_lists<T>(&self, action: impl Fn(&Apt) -> Result<T>) -> Result<T> {
        if self.updates.get() == 0 && !self.stamp().exists() {
            self.update()?;
        }
        match action(self) {
            Err(_) if self.updates.get() < MOST_UPDATES => {
                self.update()?;
                action(self)
            }
            outcome => outcome,
        }
    }

    /// Fetches the package lists. A mirror that is being updated fails in part: what arrived is used, and
    /// whether it is enough shows when the packages are looked up.
    fn update(&self) -> Result<()> {
        self.updates.set(self.updates.get() + 1);
        say("fetching Debian's package lists for arm64, armhf and amd64");
        match self.run("apt-get", &["update"]) {
            Ok(_) => fs::write(self.stamp(), "")?,
            Err(problem) => say(&format!("going on with the lists that arrived: {problem:#}")),
        }
        Ok(())
    }

    /// The file that says that package lists were once fetched whole.
    fn stamp(&self) -> PathBuf {
        self.folder.join("updated")
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.run_in(&self.folder, program, arguments)
    }

    fn run_in(&self, folder: &Path, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.args(self.options()).args(arguments).current_dir(folder).env("LC_ALL", "C");
        let output = command.output().with_context(|| format!("running {program}"))?;
        succeeded(&format!("{program} {}", arguments.join(" ")), &output)
    }

    /// Folders go on the command line, where any character is allowed in them.
    fn options(&self) -> Vec<OsString> {
        let mut options = vec!["-c".into(), self.folder.join("apt.conf").into_os_string()];
        let folders =
            [("Dir::State", "state"), ("Dir::State::status", "status"), ("Dir::Cache", "cache")];
        for (name, folder) in folders {
            let mut option = OsString::from(format!("{name}="));
            option.push(self.folder.join(folder));
            options.extend(["-o".into(), option]);
        }
        options
    }
}

/// The output, or the program's own complaint as an error.
fn succeeded(what: &str, output: &Output) -> Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let complaint = errors.lines().find(|line| line.starts_with("E: "));
    let complaint = complaint.or_else(|| errors.lines().last()).unwrap_or("no message");
    bail!("{what}: {} ({})", complaint.trim_start_matches("E: "), output.status)
}

/// The first package in a `Depends:` field whose name starts with `prefix`.
fn first_dependency(shown: &str, prefix: &str) -> Option<String> {
    let fields = shown.lines().filter_map(|line| line.strip_prefix("Depends: "));
    let mut names = fields
        .flat_map(|list| list.split([',', '|']))
        .filter_map(|entry| entry.split_whitespace().next());
    names.find(|name| name.starts_with(prefix)).map(str::to_owned)
}

/// The packages of lines like `Inst libc6:armhf (2.36-9 Debian:12.5/stable [armhf])`.
fn planned(simulation: &str) -> Vec<String> {
    let lines = simulation.lines().filter_map(|line| line.strip_prefix("Inst "));
    lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// The bytes to fetch, from lines like `'http://…' libc6_2.36_arm64.deb 2345678 SHA256:…`.
fn download_size(uris: &str) -> u64 {
    let lines = uris.lines().filter(|line| line.starts_with('\''));
    lines.filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).sum()
}

fn summary(packages: &[String]) -> String {
    match packages {
        few if few.len() <= 3 => few.join(", "),
        many => format!("{} packages", many.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_package_names_its_kernel() {
        let shown = "Package: linux-image-arm64\nDepends: linux-base (>= 4), linux-image-6.1.0-50-arm64 (= 6.1)\n";
        let found = first_dependency(shown, "linux-image-");
        assert_eq!(found.as_deref(), Some("linux-image-6.1.0-50-arm64"));
        assert_eq!(first_dependency(shown, "qemu"), None);
    }

    #[test]
    fn a_simulated_installation_lists_its_packages() {
        let plan = "Reading package lists...\nInst libc6 (2.36 Debian:12/stable [arm64])\n\
                    Inst a:armhf (1)\nConf libc6 (2.36)\n";
        assert_eq!(planned(plan), ["libc6", "a:armhf"]);
    }

    #[test]
    fn sizes_are_summed_up() {
        let uris = "Reading...\n'http://d/a.deb' a_1_arm64.deb 1000 SHA256:0\n'http://d/b.deb' b.deb 24 SHA256:1\n";
        assert_eq!(download_size(uris), 1024);
    }

    #[test]
    fn apt_runs_on_its_own_state() {
        let folder = PathBuf::from("/cache with space/apt");
        let apt = Apt { folder, updates: Cell::new(0) };
        let options = apt.options();
        let expected = "-c /cache with space/apt/apt.conf \
                        -o Dir::State=/cache with space/apt/state \
                        -o Dir::State::status=/cache with space/apt/status \
                        -o Dir::Cache=/cache with space/apt/cache";
        assert_eq!(options.join(" ".as_ref()), *expected);
    }

    #[test]
    fn an_error_is_apts_own_first_complaint() {
        let script = "echo W: old >&2; echo E: Unable to locate package x >&2; echo E: So there >&2; exit 100";
        let output = Command::new("sh").args(["-c", script]).output().unwrap();
        let error = succeeded("apt-get download x", &output).unwrap_err().to_string();
        assert_eq!(error, "apt-get download x: Unable to locate package x (exit status: 100)");
    }
}
