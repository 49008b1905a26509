//! A crate depends only on crates of lower floors (ARCHITECTURE.md).

use anyhow::{Context, bail};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

use crate::shell::root;

/// Who lives where.
const FLOORS: &[(&str, u8)] = &[
    ("cubie-vm-irq", 1),
    ("cubie-mmio-bus", 1),
    ("cubie-host-net", 1),
    ("cubie-virtq", 2),
    ("cubie-hv", 2),
    ("cubie-virtio-core", 3),
    ("cubie-arm-kvm", 3),
    ("cubie-virtio-net", 4),
    ("cubie-virtio-blk", 4),
    ("cubie-virtio-console", 4),
    ("cubie-virtio-rng", 4),
    ("cubie-vhost-user", 5),
    ("cubie-user-net", 5),
    ("cubie-netpath", 5),
    ("cubie-vmm", 5),
    ("cubie-testkit", 5),
    ("cubie-armlab", 5),
    ("cubie", 6),
    ("xtask", 6),
];

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(n, _)| *n == name).map(|(_, floor)| *floor)
}

pub(crate) fn check() -> anyhow::Result<()> {
    let metadata = MetadataCommand::new().current_dir(root()).no_deps().exec()?;
    let wrong = climbs(&metadata)?;
    if !wrong.is_empty() {
        bail!("a crate depends only on crates of lower floors:\n{}", wrong.join("\n"));
    }
    eprintln!("== floors: ok");
    Ok(())
}

/// Dependencies that do not go down. Tests may climb to the testkit and nowhere else.
fn climbs(metadata: &Metadata) -> anyhow::Result<Vec<String>> {
    let mut wrong = vec![];
    for package in &metadata.packages {
        let from = floor(&package.name)
            .with_context(|| format!("{} has no floor: add it to xtask's table", package.name))?;
        for dependency in &package.dependencies {
            let Some(to) = floor(&dependency.name) else { continue };
            let for_tests = dependency.kind == DependencyKind::Development
                && (dependency.name == "cubie-testkit" || to <= from);
            if to >= from && !for_tests {
                wrong.push(format!("  {} ({from}) on {} ({to})", package.name, dependency.name));
            }
        }
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_keeps_its_floors() {
        check().unwrap();
    }

    #[test]
    fn every_published_crate_has_a_floor() {
        for name in crate::ci::PUBLISHED {
            assert!(floor(name).is_some(), "{name}");
        }
    }
}
