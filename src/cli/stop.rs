//! Ctrl-C and SIGTERM: the first asks to stop in order, the second stops at once.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pangea_reactor::{StandardStream, was_closed};
use signal_hook::consts::TERM_SIGNALS;

use super::exit::{Failure, Kind};
use crate::client::Flow;

/// Whether the user asked to stop.
#[derive(Clone)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Takes the signals over from now on.
    pub fn on_signals() -> Result<Stop, Failure> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in TERM_SIGNALS {
            // In this order: the first signal finds the flag unset, and sets it.
            let code = i32::from(Kind::Interrupted.code());
            signal_hook::flag::register_conditional_shutdown(*signal, code, asked.clone())
                .and_then(|_| signal_hook::flag::register(*signal, asked.clone()))
                .map_err(|cause| {
                    Failure::new(Kind::Internal, format!("signals cannot be caught: {cause}"))
                })?;
        }
        Ok(Stop(asked))
    }

    /// Whether a signal came.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The same, as puts and gets want to hear it.
    pub fn flow(&self) -> Flow {
        if self.asked() { Flow::Stop } else { Flow::Continue }
    }

    /// Fails if a signal came: between the parts of a longer work.
    pub fn check(&self) -> Result<(), Failure> {
        match self.asked() {
            true => Err(Failure::new(Kind::Interrupted, "interrupted")),
            false => Ok(()),
        }
    }
}

/// Fails if stdin was closed when the program began: it would read as empty.
pub fn stdin_is_there() -> io::Result<()> {
    match was_closed(StandardStream::In) {
        true => Err(io::Error::other("it is closed")),
        false => Ok(()),
    }
}

/// A source that may have nothing to say for hours, such as a terminal or a pipe: reading it ends
/// when the user asks to stop.
pub struct Patient<R> {
    source: R,
    stop: Stop,
}

impl<R> Patient<R> {
    /// Reads `source` until `stop`.
    pub fn new(source: R, stop: Stop) -> Patient<R> {
        Patient { source, stop }
    }
}

#[cfg(unix)]
impl<R: Read + std::os::fd::AsFd> Read for Patient<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        /// How often the stop flag is looked at.
        const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        loop {
            if self.stop.asked() {
                return Err(io::Error::other("interrupted"));
            }
            let mut waiting = [PollFd::new(&self.source, PollFlags::IN)];
            match poll(&mut waiting, Some(&LOOK_EVERY)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return self.source.read(out),
                Err(cause) => return Err(cause.into()),
            }
        }
    }
}

#[cfg(not(unix))]
impl<R: Read> Read for Patient<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.stop.asked() {
            true => Err(io::Error::other("interrupted")),
            false => self.source.read(out),
        }
    }
}
