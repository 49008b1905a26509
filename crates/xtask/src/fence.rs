//! `unsafe` stays in the listed files.

use std::fs;
use std::path::Path;

use anyhow::bail;

use crate::shell::root;

/// Files that may say `unsafe`, and why.
const FENCED: [(&str, &str); 19] = [
    ("benches/rings/memory.rs", "a ring as slices of atomics, for the hand-written walk"),
    ("benches/vhost_user/driver.rs", "virtio-driver takes buffers by pointers"),
    ("crates/arm-kvm/src/cache.rs", "cache maintenance by instructions"),
    ("crates/arm-kvm/src/kick.rs", "signals to threads"),
    ("crates/arm-kvm/src/memory.rs", "guest memory is lent to the kernel"),
    ("crates/arm-kvm/src/page.rs", "a page that the guest reads is lent to the kernel"),
    ("crates/arm-kvm/src/stats.rs", "a vCPU is asked for its statistics"),
    ("crates/arm-kvm/src/vcpu_page.rs", "pages that the kernel shares are mapped"),
    ("crates/testkit/src/hal.rs", "the Hal of virtio-drivers is an unsafe trait"),
    ("crates/vhost-user/src/event.rs", "an eventfd that came by a socket"),
    ("crates/vhost-user/tests/daemon/driver.rs", "virtio-driver takes buffers by pointers"),
    ("crates/virtio-blk/src/backend/ring_file.rs", "iovecs into guest memory go to io_uring"),
    ("crates/virtio-blk/tests/backends.rs", "a test's eventfd as a BorrowedFd"),
    ("crates/virtio-net/src/backend/tap.rs", "interfaces are made and set up by ioctls"),
    ("crates/virtio-net/tests/tap/host.rs", "a packet socket at a tap's other end"),
    ("crates/virtq/src/memory.rs", "ring memory is shared with the guest"),
    ("crates/virtq/src/packet.rs", "iovecs into guest memory go to the kernel"),
    ("crates/virtq/src/segments.rs", "iovecs into guest memory go to the kernel"),
    ("tests/machine/sockios.rs", "a network card is set up by ioctls"),
];

pub(crate) fn check() -> anyhow::Result<()> {
    let mut wrong = vec![];
    visit(root(), &mut |file| {
        let name = file.strip_prefix(root())?.to_string_lossy().into_owned();
        let listed = FENCED.iter().any(|(fenced, _)| *fenced == name);
        match (has_unsafe(&fs::read_to_string(file)?), listed) {
            (true, false) => wrong.push(format!("  {name} says unsafe and is not listed")),
            (false, true) => wrong.push(format!("  {name} is listed and says no unsafe")),
            _ => {}
        }
        Ok(())
    })?;
    for (fenced, _) in FENCED.iter().filter(|(fenced, _)| !root().join(fenced).exists()) {
        wrong.push(format!("  {fenced} is listed and does not exist"));
    }
    if !wrong.is_empty() {
        bail!("unsafe stays in the files listed in xtask/src/fence.rs:\n{}", wrong.join("\n"));
    }
    eprintln!("== unsafe fence: ok, {} files", FENCED.len());
    Ok(())
}

fn visit(dir: &Path, each: &mut impl FnMut(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            visit(&path, each)?;
        } else if name.ends_with(".rs") {
            each(&path)?;
        }
    }
    Ok(())
}

/// True if code, not a comment or a string of words, says `unsafe`.
fn has_unsafe(source: &str) -> bool {
    let code = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.flat_map(|line| line.split_once(concat!("uns", "afe"))).any(|(before, after)| {
        !before.contains('"')
            && ["{", " {", " fn", " impl", " trait", " extern"]
                .iter()
                .any(|next| after.starts_with(next))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_counts_and_words_do_not() {
        let word = concat!("uns", "afe");
        for code in [format!("let x = {word} {{ f() }};"), format!("{word} impl Send for X {{}}")] {
            assert!(has_unsafe(&code), "{code}");
        }
        for words in [format!("// {word} {{"), format!("#![forbid({word}_code)]")] {
            assert!(!has_unsafe(&words), "{words}");
        }
    }

    #[test]
    fn the_workspace_keeps_its_fence() {
        check().unwrap();
    }
}
