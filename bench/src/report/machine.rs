//! What was measured on, and what: the machine, the compiler, the versions.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Others whose versions belong to the figures, as their packages are called.
const RIVALS: [&str; 6] = ["quinn", "noq", "s2n-quic", "quiche", "ant-quic", "fastnet"];

/// Names and values, in the order in which they are shown.
pub struct Machine {
    pub facts: Vec<(&'static str, String)>,
}

/// Looks at this machine, before it is busy.
pub fn look() -> Machine {
    let unknown = || "not known".to_owned();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut facts = vec![
        ("Processor", processor().unwrap_or_else(unknown)),
        ("Cores", cores.to_string()),
        ("Memory", memory().unwrap_or_else(unknown)),
        ("System", system().unwrap_or_else(|| std::env::consts::OS.to_owned())),
        ("Load before", load().unwrap_or_else(unknown)),
        ("Compiler", compiler().unwrap_or_else(unknown)),
        ("Profile", profile().to_owned()),
        ("Pangea", env!("CARGO_PKG_VERSION").to_owned()),
        ("Commit", commit().unwrap_or_else(unknown)),
    ];
    facts.extend(RIVALS.into_iter().zip(versions()));
    facts.push(("Date", date(SystemTime::now())));
    facts.push(("Command", command(std::env::args())));
    Machine { facts }
}

impl Machine {
    /// A fact by its name.
    pub fn fact(&self, name: &str) -> &str {
        let fact = self.facts.iter().find(|(known, _)| *known == name);
        fact.map_or("", |(_, value)| value.as_str())
    }
}

/// What this program was built for: only the first is what users have.
pub fn profile() -> &'static str {
    if cfg!(debug_assertions) { "with debug assertions" } else { "release" }
}

/// What `rustc --version` says.
pub fn compiler() -> Option<String> {
    said("rustc", &["--version"])
}

fn read(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn said(program: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn processor() -> Option<String> {
    let text = read("/proc/cpuinfo")?;
    let value = text.lines().find_map(|line| line.strip_prefix("model name"))?;
    let name = value.trim_start_matches(['\t', ' ', ':']).to_owned();
    let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    Some(governor.map_or(name.clone(), |governor| format!("{name}, governor {governor}")))
}

fn memory() -> Option<String> {
    let text = read("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(format!("{:.1} GiB", kib / f64::from(1 << 20)))
}

/// Over one, five and fifteen minutes.
fn load() -> Option<String> {
    let text = read("/proc/loadavg")?;
    Some(text.split(' ').take(3).collect::<Vec<_>>().join(", "))
}

fn system() -> Option<String> {
    let kernel = read("/proc/sys/kernel/osrelease")?;
    Some(format!("Linux {kernel}, {}", std::env::consts::ARCH))
}

fn commit() -> Option<String> {
    let words = ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"];
    said("git", &[&["-C", env!("CARGO_MANIFEST_DIR")], &words[..]].concat())
}

/// Of all rivals, from the lock file that their programs are built with.
fn versions() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/Cargo.lock");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    RIVALS.map(|name| version(&text, name).unwrap_or_else(|| "not known".to_owned())).to_vec()
}

fn version(lock: &str, name: &str) -> Option<String> {
    let lock: toml::Table = toml::from_str(lock).ok()?;
    let packages = lock.get("package")?.as_array()?.iter();
    let mut named =
        packages.filter(|package| package.get("name").is_some_and(|n| n.as_str() == Some(name)));
    Some(named.next()?.get("version")?.as_str()?.to_owned())
}

/// As whoever repeats it types it.
fn command(words: impl Iterator<Item = String>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    let quoted = words.map(|word| match !word.is_empty() && word.chars().all(plain) {
        true => word,
        false => format!("'{}'", word.replace('\'', r"'\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn date(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// Year, month and day of so many days after 1970-01-01. Years begin in March here, so that the day
/// that some years have more is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_454), (2026, 1, 1));
    }

    #[test]
    fn a_command_can_be_typed_again() {
        let words = ["bench", "--out", "a b", "it's"].map(str::to_owned);
        assert_eq!(command(words.into_iter()), r"bench --out 'a b' 'it'\''s'");
    }

    #[test]
    fn every_rival_has_a_version() {
        for (name, version) in RIVALS.into_iter().zip(versions()) {
            assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{name}: {version}");
        }
    }
}
