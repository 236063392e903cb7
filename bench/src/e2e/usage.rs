//! What a process used, from proc(5).

/// Clock ticks per second in /proc: USER_HZ, which is 100 on every Linux that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process's figures.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time of all threads, ended ones included.
    pub cpu_seconds: f64,
    /// Resident memory now.
    pub rss_mib: f64,
    /// The most it ever was.
    pub peak_mib: f64,
}

/// Reads the figures of a process (`self` or a number).
pub fn usage(process: &str) -> Result<Usage, String> {
    let read = |file: &str| {
        let path = format!("/proc/{process}/{file}");
        std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e} (this needs Linux)"))
    };
    let (stat, status) = (read("stat")?, read("status")?);
    Ok(Usage {
        cpu_seconds: cpu_seconds(&stat).ok_or("/proc/PID/stat is not as expected")?,
        rss_mib: mib(&status, "VmRSS:").ok_or("/proc/PID/status has no VmRSS")?,
        peak_mib: mib(&status, "VmHWM:").ok_or("/proc/PID/status has no VmHWM")?,
    })
}

/// Fields 14 and 15; the name before them is in parentheses and may contain anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: Vec<f64> = fields.split_whitespace().skip(11).take(2).flat_map(str::parse).collect();
    (ticks.len() == 2).then(|| ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
}

fn mib(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_found_behind_a_strange_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100 0 0";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(mib("Name:\tx\nVmHWM:\t  2048 kB\n", "VmHWM:"), Some(2.0));
        assert_eq!(mib("Name:\tx\n", "VmHWM:"), None);
    }
}
