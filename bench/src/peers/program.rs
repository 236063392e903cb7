//! A peer's program: built when it is needed, run once per measurement.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::subjects::{Subject, Test};
use crate::ours;

/// A measurement that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The figures of one measurement by name.
pub type Figures = BTreeMap<String, f64>;

/// Builds the program of a subject, each package by itself: together, the features of what they
/// share would be unified. Where it is.
pub fn build(subject: &Subject) -> Result<PathBuf, String> {
    let Some(package) = subject.package else {
        return std::env::current_exe().map_err(|e| format!("this program is not found: {e}"));
    };
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--locked", "--package", package])
        .current_dir(&home)
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .map_err(|e| format!("cargo does not run: {e}"))?;
    let said = String::from_utf8_lossy(&built.stderr);
    eprint!("{said}");
    match built.status.success() {
        true => Ok(home.join("target/release").join(package)),
        false => {
            let why = said.lines().find(|line| line.starts_with("error")).unwrap_or("no reason");
            Err(format!("{package} does not build: {why}"))
        }
    }
}

/// Measures once.
pub fn measure(
    program: &Path,
    subject: &Subject,
    test: &Test,
    seconds: f64,
) -> Result<Figures, String> {
    let mut command = Command::new(program);
    if subject.package.is_none() {
        command.arg(ours::CHILD);
    }
    command.args(test.words).args(subject.words).arg(format!("seconds={seconds}"));
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|e| format!("{} does not run: {e}", program.display()))?;
    let ended = wait(&mut child)?;
    let mut said = [String::new(), String::new()];
    if let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) {
        let _ = out.read_to_string(&mut said[0]);
        let _ = err.read_to_string(&mut said[1]);
    }
    if !ended {
        return Err(format!("failed: {}", said[1].trim()));
    }
    serde_json::from_str(said[0].trim()).map_err(|e| format!("said '{}': {e}", said[0].trim()))
}

/// Whether it ended well.
fn wait(child: &mut Child) -> Result<bool, String> {
    let began = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) if began.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("did not end within {} s", PATIENCE.as_secs()));
            }
            Err(e) => return Err(format!("cannot be waited for: {e}")),
        }
    }
}
