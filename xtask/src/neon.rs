//! The kernels for ARM on another machine: ds4-cpu's tests, built for aarch64 and run by an emulator.
//!
//! That takes a compiler with the target's standard library, a linker and an emulator. On Debian, `--fetch` gets what is
//! missing: as root it installs the linker and the emulator; the compiler comes under target/ and disturbs no other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::apt::{self, PATIENCE};
use crate::{cargo, succeeds, works};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";
/// What Debian calls the linker, the emulator and the libraries that its compiler loads.
const PACKAGES: [&str; 6] =
    ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-user", "libedit2", "libxml2", "libz3-4"];
const HOME: &str = "target/neon";

/// Runs the tests; what cannot run on this machine is named and counted.
pub(crate) fn run(fetch: bool) -> bool {
    if cfg!(target_arch = "aarch64") {
        println!("neon: on this machine `cargo xtask test` runs them");
        return true;
    }
    if fetch && missing().is_some() {
        apt::install(&PACKAGES);
        unpack();
    }
    if let Some(missing) = missing() {
        println!("parts skipped on this machine: 1\n  skipped: neon: {missing}");
        return true;
    }
    test()
}

/// What is not there, and how to get it.
fn missing() -> Option<String> {
    let compiler = has_target() || unpacked().is_some_and(|rustc| is_recent(&rustc));
    let compiler =
        (!compiler).then_some("the target's standard library (`rustup target add aarch64-unknown-linux-gnu`)");
    let crates = (!works(&mut cargo(&["fetch", "--locked", "--target", TARGET]))).then_some("its crates (a network)");
    let program = |name| (!works(Command::new(name).arg("--version"))).then_some(name);
    let list: Vec<&str> = [compiler, crates, program(LINKER), program(EMULATOR)].into_iter().flatten().collect();
    let advice = "on Debian or Ubuntu `cargo xtask neon --fetch` as root gets all it can";
    (!list.is_empty()).then(|| format!("needs {}; {advice}", list.join(", ")))
}

fn test() -> bool {
    // The kernels are optimised as ever; what only feeds them is built fast instead.
    let dependencies = "profile.dev.package.\"*\".opt-level=0";
    let build = format!("{HOME}/build");
    let mut command = cargo(&["test", "--package", "ds4-cpu", "--lib", "--tests", "--config", dependencies]);
    command.args(["--target", TARGET, "--target-dir", &build]).env_remove("RUSTFLAGS");
    let setting = |name: &str| format!("CARGO_TARGET_{}_{name}", TARGET.to_uppercase().replace('-', "_"));
    command.env(setting("LINKER"), LINKER);
    command.env(setting("RUNNER"), format!("{EMULATOR} -cpu max -L /usr/aarch64-linux-gnu"));
    command.env("DS4_CPU", "neon");
    if let Some(rustc) = unpacked().filter(|_| !has_target()) {
        command.env("RUSTC", &rustc).env("LD_LIBRARY_PATH", libraries(&rustc));
    }
    succeeds(&mut command)
}

/// Whether the usual compiler can build for the target.
fn has_target() -> bool {
    let output = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    output.is_ok_and(|o| o.status.success() && Path::new(String::from_utf8_lossy(&o.stdout).trim()).is_dir())
}

/// The compiler that [`unpack`] left.
fn unpacked() -> Option<PathBuf> {
    let rustc = std::path::absolute(format!("{HOME}/rust/usr/bin/rustc")).ok()?;
    rustc.exists().then_some(rustc)
}

/// Where an unpacked compiler has its own libraries.
fn libraries(rustc: &Path) -> PathBuf {
    rustc.with_file_name("../lib/x86_64-linux-gnu")
}

/// Whether a compiler starts and is new enough for the workspace.
fn is_recent(rustc: &Path) -> bool {
    let minor = |version: &str| version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    let output = Command::new(rustc).arg("--version").env("LD_LIBRARY_PATH", libraries(rustc)).output();
    output.is_ok_and(|o| minor(&String::from_utf8_lossy(&o.stdout)) >= minor(env!("CARGO_PKG_RUST_VERSION")))
}

/// Unpacks Debian's compiler for web browsers, which is recent, with the standard libraries of both architectures, under
/// target/. Package lists and downloads stay there too.
fn unpack() {
    if has_target() || unpacked().is_some() {
        return;
    }
    let done = fetch_packages().and_then(|packages| {
        let part = format!("{HOME}/part");
        let _ = fs::remove_dir_all(&part);
        let all = packages.iter().all(|package| works(Command::new("dpkg-deb").arg("-x").arg(package).arg(&part)));
        (all && fs::rename(part, format!("{HOME}/rust")).is_ok()).then_some(())
    });
    if done.is_none() {
        println!("neon: no compiler could be fetched from Debian");
    }
}

/// Downloads the compiler's packages.
fn fetch_packages() -> Option<Vec<PathBuf>> {
    let home = std::path::absolute(HOME).ok()?;
    let downloads = home.join("packages");
    let _ = fs::remove_dir_all(&downloads);
    for folder in ["apt/lists/partial", "cache/archives/partial", "packages"] {
        fs::create_dir_all(home.join(folder)).ok()?;
    }
    let apt = |program: &str| {
        let mut command = Command::new(program);
        let state = format!("Dir::State={}", home.join("apt").display());
        let cache = format!("Dir::Cache={}", home.join("cache").display());
        for option in [&*state, &cache, "Dir::State::status=/var/lib/dpkg/status"] {
            command.args(["-o", option]);
        }
        for option in ["APT::Architectures::=amd64", "APT::Architectures::=arm64", "APT::Sandbox::User=root"] {
            command.args(["-o", option]);
        }
        command.args(["-o", "Acquire::Languages=none"]).args(PATIENCE).current_dir(&downloads);
        command
    };
    // The package on which another depends, by the start of its name.
    let dependency = |of: &str, start: &str| {
        let said = apt("apt-cache").args(["depends", of]).output().ok()?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        said.lines()
            .filter_map(|l| l.trim().strip_prefix("Depends: "))
            .find(|l| l.starts_with(start))
            .map(str::to_owned)
    };
    if !works(apt("apt-get").arg("update")) {
        return None;
    }
    let driver = dependency("libstd-rust-web-dev", "libstd-rust-web-")?;
    let llvm = dependency(&driver, "libllvm")?;
    let names = ["rustc-web", "libstd-rust-web-dev", "libstd-rust-web-dev:arm64", &driver, &llvm];
    if !works(apt("apt-get").arg("download").args(names)) {
        return None;
    }
    let packages = fs::read_dir(&downloads).ok()?;
    Some(packages.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect())
}
