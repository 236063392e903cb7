//! Unix sockets in a node's data directory, that only its owner can open: one line of JSON asks.
//! Behind `pangea status`, and behind what watches a node's recorder.

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::private;

/// Listens in the data directory, which the caller has locked: a socket that is there already was
/// left by a node that is gone.
pub(crate) fn listen(data: &Path, name: &str) -> io::Result<UnixListener> {
    let path = data.join(name);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = with_short_path(data, name, |path| UnixListener::bind(path))?;
    // The directory is 0700 already if we made it; this is for those that were there.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to the node that listens there.
pub(crate) fn connect(data: &Path, name: &str) -> io::Result<UnixStream> {
    private::no_link(&data.join(name)).map_err(io::Error::other)?;
    with_short_path(data, name, |path| UnixStream::connect(path))
}

/// One line of at most `limit` bytes, by the deadline, however slowly it drips.
pub(crate) fn read_line(
    mut stream: &UnixStream,
    limit: u64,
    patience: Duration,
) -> io::Result<String> {
    let started = Instant::now();
    let mut line = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let left = patience.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let read = match stream.read(&mut chunk) {
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let new = chunk.get(..read).unwrap_or_default();
        line.extend(new.iter().take_while(|byte| **byte != b'\n'));
        if u64::try_from(line.len()).map_or(true, |length| length > limit) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if read == 0 || new.contains(&b'\n') {
            return String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData.into());
        }
    }
}

/// The line that answers a request which is not served.
pub(crate) fn refusal(kind: &str, message: &str) -> String {
    json!({ "error": { "kind": kind, "message": message } }).to_string()
}

/// A socket's path with its end, everywhere on Linux.
#[cfg(target_os = "linux")]
const PATH_BYTES_MAX: usize = 108;

/// A longer path goes through the open directory, which wants a /proc.
#[cfg(target_os = "linux")]
fn with_short_path<T>(
    data: &Path,
    name: &str,
    open: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    use std::os::fd::AsRawFd;
    let path = data.join(name);
    if path.as_os_str().len() < PATH_BYTES_MAX {
        return open(&path);
    }
    let directory = std::fs::File::open(data)?;
    open(&Path::new(&format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name))
}

#[cfg(not(target_os = "linux"))]
fn with_short_path<T>(
    data: &Path,
    name: &str,
    open: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    open(&data.join(name))
}
