//! Our own bugs, and what the system ends a program for: told on stderr, written down in the data
//! directory, and always one of our exit codes.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::exit::{Failure, Kind, printable, redacted};
use super::say;
use crate::private;

/// The file in the data directory.
pub const PANIC_LOG: &str = "panic.log";
/// The file never becomes longer; the oldest of it goes.
const LOG_BYTES_MAX: usize = 64 << 10;
/// What is written of one panic.
const ENTRY_BYTES_MAX: usize = 16 << 10;

const _: () = assert!(4 * ENTRY_BYTES_MAX <= LOG_BYTES_MAX);

/// Whether any thread panicked, also one that nobody waits for.
static PANICKED: AtomicBool = AtomicBool::new(false);
/// Where panics are written down, once there is such a place.
static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
/// Held while one is: there is one file.
static WRITING: Mutex<bool> = Mutex::new(false);

/// From now on a panic is told in words of ours, and what would end the process by a signal ends
/// it with an exit code.
pub fn watch() {
    std::panic::set_hook(Box::new(told));
    #[cfg(unix)]
    if let Err(cause) = signals() {
        tracing::debug!("signals cannot be caught: {cause}");
    }
}

/// From now on a panic is written down in this directory too.
pub fn write_into(data: &Path) {
    let _ = DIRECTORY.set(data.to_path_buf());
}

/// Where a panic of this process was written down, if there was one.
pub fn written() -> Option<PathBuf> {
    let written = *WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    DIRECTORY.get().filter(|_| written).map(|data| data.join(PANIC_LOG))
}

#[cfg(unix)]
fn signals() -> io::Result<()> {
    use signal_hook::consts::signal::{SIGABRT, SIGXFSZ};
    use signal_hook::flag;
    use std::sync::Arc;
    // Caught, so that a file that may not grow is an error like a full disk.
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    // The standard library aborts when there is no memory, after it has said so, and when a panic
    // meets another; its signal is in no table of ours.
    let (bug, no_memory) = (Kind::Internal.code(), Kind::Start.code());
    flag::register_conditional_shutdown(SIGABRT, i32::from(bug), &PANICKED)?;
    flag::register_conditional_shutdown(SIGABRT, i32::from(no_memory), Arc::new(true.into()))?;
    Ok(())
}

/// The hook. A panic in here would end the process, so nothing in here may fail.
fn told(info: &PanicHookInfo<'_>) {
    PANICKED.store(true, Ordering::SeqCst);
    let entry = entry(info);
    say::remark_at_once(&entry);
    let Some(data) = DIRECTORY.get() else { return };
    let mut written = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    *written |= append(data, &entry).is_ok();
}

/// What is said of a panic: when, which version, thread, place, message; and where it came from if
/// RUST_BACKTRACE asks for that. No key of a link.
fn entry(info: &PanicHookInfo<'_>) -> String {
    let mut time = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let place = info.location().map_or_else(|| "?".into(), ToString::to_string);
    let message = info.payload_as_str().unwrap_or("no message");
    let version = env!("CARGO_PKG_VERSION");
    let mut text =
        format!("{time} pangea {version}: thread '{name}' panicked at {place}:\n{message}");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        text.push_str(&format!("\n{backtrace}"));
    }
    cut(&printable(&redacted(&text)), ENTRY_BYTES_MAX - 1)
}

/// The beginning of a text, in whole characters.
fn cut(text: &str, bytes_max: usize) -> String {
    let end = (0..=bytes_max.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default().trim_end().to_string()
}

/// Writes an entry behind those that are there. When the file would become too long, the older half
/// of it goes.
fn append(data: &Path, entry: &str) -> io::Result<()> {
    let mut file = private::open_or_make(&data.join(PANIC_LOG)).map_err(io::Error::other)?;
    let length = file.metadata()?.len();
    let room = LOG_BYTES_MAX - ENTRY_BYTES_MAX;
    if length > room as u64 {
        let kept = newer_half(&mut file)?;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&kept)?;
    } else {
        file.seek(SeekFrom::End(0))?;
    }
    file.write_all(format!("{entry}\n").as_bytes())?;
    file.sync_data()
}

/// The end of the file, from the beginning of a line.
fn newer_half(file: &mut File) -> io::Result<Vec<u8>> {
    let half = (LOG_BYTES_MAX / 2) as u64;
    file.seek(SeekFrom::Start(file.metadata()?.len().saturating_sub(half)))?;
    let mut kept = Vec::new();
    file.take(half).read_to_end(&mut kept)?;
    let begins = kept.iter().position(|byte| *byte == b'\n').map_or(kept.len(), |end| end + 1);
    kept.drain(..begins);
    Ok(kept)
}

/// What a command that panicked ends with, for people and programs.
pub fn failure() -> Failure {
    let place = written().map_or(String::new(), |path| format!(" (see '{}')", path.display()));
    Failure::new(Kind::Internal, format!("this is a bug of ours{place}; please report it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_panics_is_bounded_and_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..100 {
            append(dir.path(), &format!("number {number}:\n{}", "x".repeat(3000))).unwrap();
        }
        let text = std::fs::read_to_string(dir.path().join(PANIC_LOG)).unwrap();
        assert!(text.len() <= LOG_BYTES_MAX, "{}", text.len());
        assert!(text.contains("number 99:") && text.contains("number 95:"));
        assert!(!text.contains("number 1:"));
        // Larger than any of ours: only its end is kept.
        std::fs::write(dir.path().join(PANIC_LOG), "y\n".repeat(1 << 20)).unwrap();
        append(dir.path(), "the last").unwrap();
        let text = std::fs::read_to_string(dir.path().join(PANIC_LOG)).unwrap();
        assert!(text.len() <= LOG_BYTES_MAX && text.ends_with("y\nthe last\n"));
    }

    #[test]
    #[cfg(unix)]
    fn the_log_of_panics_is_for_its_owner_and_no_link_is_followed() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), "one").unwrap();
        let path = dir.path().join(PANIC_LOG);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_file(&path).unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "years of work").unwrap();
        symlink(&victim, &path).unwrap();
        assert!(append(dir.path(), "two").is_err());
        assert_eq!(std::fs::read_to_string(victim).unwrap(), "years of work");
    }

    /// What a copy of this test does, if it is one: how it is to end, and where panics are to be
    /// written down.
    const ENDING: &str = "PANGEA_TEST_ENDING";

    fn end_as_told(how: &str, data: &Path) {
        watch();
        write_into(data);
        let core = std::thread::Builder::new().name("core-7".into());
        match how {
            "panic" => {
                let key = format!("a link: pangea1{}", "secret".repeat(9));
                let ended = core.spawn(move || panic!("{key}")).unwrap().join();
                assert!(ended.is_err());
                say::finish();
                println!("{}", failure().message);
                std::process::exit(42);
            }
            "abort after a panic" => {
                let _ = core.spawn(|| panic!("first")).unwrap().join();
                std::process::abort();
            }
            "no memory" => std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u64; 9]>()),
            other => panic!("no such ending: {other}"),
        }
    }

    fn ended(how: &str, data: &Path, stderr: std::process::Stdio) -> std::process::Output {
        let name = "cli::panics::tests::every_end_has_a_code_and_a_panic_is_written_down";
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--nocapture"]).env(ENDING, how).env("TMPDIR", data);
        command.env_remove("RUST_BACKTRACE").stderr(stderr).output().unwrap()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn every_end_has_a_code_and_a_panic_is_written_down() {
        use std::process::Stdio;
        if let Ok(how) = std::env::var(ENDING) {
            return end_as_told(&how, &std::env::temp_dir());
        }
        let dir = tempfile::tempdir().unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        for (stderr, panics) in [(Stdio::piped(), 1), (full.into(), 2)] {
            let output = ended("panic", dir.path(), stderr);
            assert_eq!(output.status.code(), Some(42), "{output:?}");
            assert!(String::from_utf8_lossy(&output.stdout).contains(PANIC_LOG), "{output:?}");
            let log = std::fs::read_to_string(dir.path().join(PANIC_LOG)).unwrap();
            let place = "thread 'core-7' panicked at src/cli/panics.rs:";
            assert_eq!(log.matches(place).count(), panics, "{log}");
            assert!(log.contains("Z pangea 0.") && log.contains("a link: pangea1…"), "{log}");
            assert!(!log.contains("secret"), "{log}");
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(panics == 2 || told.contains(place), "{told}");
        }
        let output = ended("abort after a panic", dir.path(), Stdio::piped());
        assert_eq!(output.status.code(), Some(i32::from(Kind::Internal.code())), "{output:?}");
        let output = ended("no memory", dir.path(), Stdio::piped());
        assert_eq!(output.status.code(), Some(i32::from(Kind::Start.code())), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("memory"), "{output:?}");
    }

    #[test]
    fn a_text_is_cut_at_a_whole_character() {
        assert_eq!(cut("ééé", 3), "é");
        assert_eq!(cut("abc", 10), "abc");
        assert_eq!(cut("", 0), "");
    }
}
