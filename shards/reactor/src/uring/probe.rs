//! Whether io_uring works here, found out by using it: kernels, containers, seccomp filters and a
//! sysctl can each take a part of it away, and version numbers tell none of that.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;
use std::time::Duration;

use io_uring::{IoUring, Probe, opcode, types};

use super::receive::Receive;

/// How long the one datagram of the trial may take; it needs microseconds.
const TRIAL: Duration = Duration::from_secs(2);

/// The reason in words if it does not. Tried once per process.
pub(crate) fn available() -> Result<(), String> {
    static RESULT: OnceLock<Result<(), String>> = OnceLock::new();
    RESULT.get_or_init(attempt).clone()
}

/// A ring as the driver wants it.
pub(super) fn build(submissions: u32, completions: u32) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_cqsize(completions)
        .setup_clamp()
        .setup_submit_all()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(submissions)
}

fn attempt() -> Result<(), String> {
    let mut ring = build(8, 16).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOSYS) => "the kernel has none, or a sandbox hides it".to_string(),
        Some(libc::EPERM | libc::EACCES) => {
            format!("it is forbidden here, by a container, seccomp or a sysctl ({error})")
        }
        Some(libc::EINVAL) => {
            format!("the kernel is older than its options that we need, Linux 6.1 ({error})")
        }
        _ => format!("no ring could be made ({error})"),
    })?;
    operations(&ring)?;
    receive(&mut ring).map_err(|error| format!("a trial datagram did not arrive ({error})"))
}

fn operations(ring: &IoUring) -> Result<(), String> {
    let mut probe = Probe::new();
    let asked = ring.submitter().register_probe(&mut probe);
    asked.map_err(|error| format!("it does not say what it can do ({error})"))?;
    let needed = [
        ("recvmsg", opcode::RecvMsg::CODE),
        ("sendmsg", opcode::SendMsg::CODE),
        ("read", opcode::Read::CODE),
        ("write", opcode::Write::CODE),
        ("read_fixed", opcode::ReadFixed::CODE),
        ("write_fixed", opcode::WriteFixed::CODE),
        ("fsync", opcode::Fsync::CODE),
        ("async_cancel", opcode::AsyncCancel::CODE),
    ];
    match needed.iter().find(|(_, code)| !probe.is_supported(*code)) {
        None => Ok(()),
        Some((name, _)) => Err(format!("the operation {name} is missing")),
    }
}

/// Receives one datagram as the driver does. Through a Unix pair, which needs no network.
fn receive(ring: &mut IoUring) -> io::Result<()> {
    let (ours, theirs) = UnixDatagram::pair()?;
    let mut receive = Receive::new(ring, 1, 1)?;
    let request = receive.arm(ours.as_raw_fd()).expect("a new one is not armed");
    // SAFETY: what the request points to lives in `receive` until the ring is dropped below.
    // CHECKED: tests::the_trial_gives_the_same_answer_twice.
    unsafe { ring.submission().push(&request) }.map_err(io::Error::other)?;
    theirs.send(b"trial")?;
    let arrived = wait_for_one(ring);
    // Ended before its memory goes: a cancelled or finished request points to nothing of ours.
    let cancelled = ring
        .submitter()
        .register_sync_cancel(Some(types::Timespec::from(TRIAL)), types::CancelBuilder::any());
    if cancelled.is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
        receive.leak();
        return Err(io::Error::other("a request could not be cancelled"));
    }
    receive.close(ring);
    arrived
}

fn wait_for_one(ring: &mut IoUring) -> io::Result<()> {
    let time = types::Timespec::from(TRIAL);
    let args = types::SubmitArgs::new().timespec(&time);
    match ring.submitter().submit_with_args(1, &args) {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
        Err(error) => return Err(error),
    }
    let Some(completion) = ring.completion().next() else {
        return Err(io::Error::from(io::ErrorKind::TimedOut));
    };
    match completion.result() {
        0.. if io_uring::cqueue::more(completion.flags()) => Ok(()),
        0.. => Err(io::Error::other("receiving more than once is not supported")),
        negative => Err(io::Error::from_raw_os_error(-negative)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trial_gives_the_same_answer_twice() {
        assert_eq!(attempt().is_ok(), attempt().is_ok());
        assert_eq!(available().is_ok(), attempt().is_ok());
    }
}
