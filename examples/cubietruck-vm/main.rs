//! A small VMM in the manner of LKVM: the crates of cubie, put together.

#[cfg(target_arch = "aarch64")]
mod card;
mod cli;
mod images;
#[cfg(target_arch = "aarch64")]
mod machine;
#[cfg(target_arch = "aarch64")]
mod machines;
#[cfg(target_arch = "aarch64")]
mod netpath;
#[cfg(target_arch = "aarch64")]
mod network;

use std::process::ExitCode;

use clap::Parser;
use cubie::console::Messages;

use cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_writer(|| Messages)
        .with_target(false)
        .without_time()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .init();
    match cli.check_folder().and_then(|()| start(cli)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cubietruck-vm: {}", message(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes in one line; many an error of a library names its cause itself.
fn message(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        said if said.contains(&cause) => said.to_owned(),
        said => format!("{said}: {cause}"),
    })
}

#[cfg(target_arch = "aarch64")]
fn start(mut cli: Cli) -> anyhow::Result<ExitCode> {
    default_guest(&mut cli)?;
    machine::run(&cli)
}

/// Without ARM KVM: the same program with the same options, inside the lab.
#[cfg(not(target_arch = "aarch64"))]
fn start(mut cli: Cli) -> anyhow::Result<ExitCode> {
    use cubie::vmm::Arch;
    use cubie_armlab::Machine;
    use cubie_armlab::relay::{self, Program};
    if let Some(device) = cli.vhost_user.first() {
        anyhow::bail!(
            "--vhost-user socket={}: its daemon cannot share memory with the emulated board: run this on \
             a machine with ARM KVM",
            device.socket.display()
        );
    }
    check_files(&cli)?;
    images::prepare_lab()?;
    default_guest(&mut cli)?;
    eprintln!(
        "cubietruck-vm: no ARM KVM here: the guest runs on an emulated ARM board, which is slower"
    );
    // Under emulation, 32-bit guests need a CPU of their own for each of theirs (docs/lab.md).
    let mut machine = Machine::from_env()?;
    if cli.arch == Arch::Armv7 {
        machine.cpus = machine.cpus.max(cli.cpus);
    }
    let mut options: Vec<_> = std::env::args_os().skip(1).collect();
    if !cli.pin {
        options.push("--pin".into());
    }
    let status = relay::run(Program::Example("cubietruck-vm"), &machine, &options)?;
    Ok(cubie_armlab::end_like(status))
}

/// What is not there is missed before anything is installed or started.
#[cfg(not(target_arch = "aarch64"))]
fn check_files(cli: &Cli) -> anyhow::Result<()> {
    use anyhow::Context;
    use cubie::blk::OpenError;
    use cubie::vmm::loader::FileError;
    use nix::fcntl::OFlag;
    use std::{fs::File, io, os::unix::fs::OpenOptionsExt, path::Path};
    // A pipe would wait for its other end.
    let flags = OFlag::O_NONBLOCK.bits();
    let open = |path: &Path| -> io::Result<File> {
        File::options().read(true).custom_flags(flags).open(path)
    };
    for (option, path) in [("--kernel", &cli.kernel), ("--initrd", &cli.initrd)] {
        if let Some(path) = path {
            open(path).map_err(|source| FileError::Read { option, path: path.clone(), source })?;
        }
    }
    for disk in &cli.disk {
        let refused = |source| OpenError::Host { path: disk.path.clone(), source };
        open(&disk.path).map_err(refused).context("--disk")?;
    }
    Ok(())
}

/// Names the default kernel and initrd where none is named.
fn default_guest(cli: &mut Cli) -> anyhow::Result<()> {
    if cli.kernel.is_none() {
        let image = images::prepare(cli.arch)?;
        cli.kernel = Some(image.kernel);
        cli.initrd.get_or_insert(image.initrd);
        cli.params.insert_str(0, "quiet ");
    }
    Ok(())
}
