//! Which standard streams were closed when the process began. Before `main` the standard library
//! opens /dev/null in their place, and from then on what is written into nothing looks written, and
//! what was never there reads as empty.

use std::sync::atomic::{AtomicU8, Ordering};

/// A standard stream, by the number of its descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandardStream {
    /// Stdin.
    In = 0,
    /// Stdout.
    Out = 1,
    /// Stderr.
    Err = 2,
}

/// Whether the stream was closed when the process began; false where that is not known.
pub fn was_closed(stream: StandardStream) -> bool {
    CLOSED.load(Ordering::Relaxed) & (1 << stream as u8) != 0
}

/// One bit for each stream. Written once, before there is a second thread.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Called by the loader, before the standard library looks at the streams itself.
#[cfg(target_os = "linux")]
extern "C" fn look() {
    let mut closed = 0;
    for number in [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: a question about a number; any number may be asked about.
        // CHECKED: the root's tests/surroundings.rs, with each stream closed.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
            closed |= 1 << number;
        }
    }
    CLOSED.store(closed, Ordering::Relaxed);
}

// WHY: `main` is too late, and a program of Rust has no other place before it.
// SAFETY: the section holds addresses of functions in the C convention, and this is one. It
//   allocates nothing, starts nothing, cannot panic, and touches only an atomic number of ours.
// CHECKED: as above.
#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_streams_of_a_test_are_there() {
        assert!(!was_closed(StandardStream::Out) && !was_closed(StandardStream::Err));
    }
}
