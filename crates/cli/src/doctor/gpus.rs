//! What graphics processors there are, as the system's own tools say.

use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

/// How long such a tool may take; that of a broken driver never ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// A line for each; none where there are none, or no tool that knows them.
pub(super) fn lines() -> Vec<String> {
    if cfg!(target_os = "macos") {
        let limit = said("sysctl", &["-n", "iogpu.wired_limit_mb"]);
        return limit.and_then(|text| text.trim().parse().ok()).map(wired).into_iter().collect();
    }
    let query = ["--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"];
    said("nvidia-smi", &query).iter().flat_map(|text| text.lines()).filter_map(card).collect()
}

/// What a command prints; nothing when it fails or takes too long.
fn said(program: &'static str, args: &[&'static str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stderr(Stdio::null());
    let (sender, output) = channel();
    std::thread::spawn(move || sender.send(command.output()));
    let output = output.recv_timeout(PATIENCE).ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A line of nvidia-smi: name, memory and free memory in MiB, which a card that shares the system's memory does not say.
fn card(line: &str) -> Option<String> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [name, total, free] = fields[..] else { return None };
    let gigabytes = |text: &str| text.parse::<f64>().ok().map(|mib| mib * 1_048_576.0 / 1e9);
    let memory = match (gigabytes(total), gigabytes(free)) {
        (Some(total), Some(free)) => format!("{total:.0} GB, {free:.0} GB of it free"),
        _ => "shares the system's memory".into(),
    };
    Some(format!("GPU: {name}, {memory}; not used, this build computes on the CPU"))
}

/// How much memory macOS lets the GPU have; 0 is the system's own choice.
fn wired(limit: u64) -> String {
    let limit = match limit {
        0 => "as much memory as the system chooses, about three quarters".into(),
        mib => format!("{:.0} GB", mib as f64 * 1_048_576.0 / 1e9),
    };
    format!(
        "GPU: may have {limit} (sudo sysctl iogpu.wired_limit_mb=N changes that, until the next start); not used, this build computes on the CPU"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_read() {
        let line = card("NVIDIA H200, 143771, 143000").unwrap();
        assert_eq!(line, "GPU: NVIDIA H200, 151 GB, 150 GB of it free; not used, this build computes on the CPU");
        assert!(card("NVIDIA GB10, [N/A], [N/A]").unwrap().contains("GB10, shares the system's memory; "));
        assert_eq!(card("No devices were found"), None);
        assert!(wired(0).contains("as the system chooses") && wired(92_000).contains("may have 96 GB ("));
    }

    #[test]
    fn a_tool_that_is_not_there_says_nothing() {
        assert_eq!(said("/nowhere/nvidia-smi", &[]), None);
        assert_eq!(said("false", &[]), None);
    }
}
