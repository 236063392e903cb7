//! The driver on readiness: epoll, kqueue or IOCP through mio, UDP through quinn-udp, files on a
//! few threads. It emulates completions, so that the core cannot tell it from the ring.

mod udp;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::mio::{Events, Interest, Poll, Token};
use pangea_base::Wake;
use pangea_base::file::{FileId, FileRequest};
use pangea_trace::Tracer;

use crate::bell::{Bell, Strike};
use crate::driver::DriverConfig;
use crate::event::{Caps, Event, Park, Stats, Transmit};
use crate::files::Desk;
use crate::memory::{Quiet, SendBuffers};
use crate::socket::CoreSocket;
use udp::Udp;

const SOCKET: Token = Token(0);
const BELL: Token = Token(1);

/// Threads for files, per driver; started when needed.
const FILE_THREADS_MAX: usize = 2;

/// How often a core that spins looks at its socket for each look at its poller.
const LOOKS_PER_POLL: u32 = 32;

/// Readiness events taken at once: there are two sources.
const EVENTS: usize = 4;

pub(crate) struct Mio {
    poll: Poll,
    events: Events,
    udp: Udp,
    buffers: SendBuffers,
    desk: Desk,
    bell: Arc<Bell<MioStrike>>,
    spin: Duration,
    stats: Stats,
    quiet: Quiet,
}

struct MioStrike(::mio::Waker);

impl Strike for MioStrike {
    fn strike(&self) {
        // Fails only when the poller is gone, and then there is nobody to wake.
        let _ = self.0.wake();
    }
}

impl Mio {
    pub(crate) fn open(config: &DriverConfig, socket: CoreSocket) -> io::Result<Mio> {
        let poll = Poll::new()?;
        let bell = Arc::new(Bell::new(MioStrike(::mio::Waker::new(poll.registry(), BELL)?)));
        let mut udp = Udp::new(socket, config)?;
        poll.registry().register(udp.source(), SOCKET, Interest::READABLE)?;
        let desk = Desk::new(config.data_dir.clone(), FILE_THREADS_MAX, bell.clone());
        let stats = Stats { receive_buffers: udp.receive_buffers(), ..Stats::default() };
        Ok(Mio {
            poll,
            events: Events::with_capacity(EVENTS),
            udp,
            buffers: SendBuffers::new(usize::from(config.send_slots)),
            desk,
            bell,
            spin: config.spin,
            stats,
            quiet: Quiet::new(),
        })
    }

    pub(crate) fn caps(&self) -> Caps {
        Caps {
            max_gso_segments: self.udp.max_gso_segments(),
            send_bytes_max: udp::SEND_BYTES_MAX,
            gro: self.udp.joins(),
            direct_io: self.desk.direct_io(),
            registered: false,
            batch_wait: false,
        }
    }

    pub(crate) fn buffer(&mut self) -> Option<Vec<u8>> {
        self.buffers.take()
    }

    pub(crate) fn recycle(&mut self, buffer: Vec<u8>) {
        self.buffers.give(buffer);
    }

    pub(crate) fn send(&mut self, transmit: Transmit, contents: Vec<u8>) {
        self.quiet.touched();
        if let Some(contents) = self.udp.send(transmit, contents, &mut self.stats) {
            self.buffers.give(contents);
        }
    }

    /// Nothing waits here: each send is a system call of its own.
    pub(crate) fn flush(&mut self) {}

    pub(crate) fn trace(&mut self, tracer: Tracer) {
        self.udp.trace(tracer);
    }

    pub(crate) fn adopt(&mut self, file: File) -> FileId {
        self.desk.adopt(file)
    }

    #[allow(clippy::result_large_err)]
    pub(crate) fn submit(&mut self, request: FileRequest) -> Result<(), FileRequest> {
        if let Some(job) = self.desk.accept(request)? {
            self.desk.dispatch(job);
        }
        Ok(())
    }

    #[cfg(all(test, target_os = "linux"))]
    pub(crate) fn socket_fd(&self) -> std::os::fd::RawFd {
        self.udp.socket_fd()
    }

    pub(crate) fn waker(&self) -> Arc<dyn Wake> {
        self.bell.clone()
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(crate) fn poll(
        &mut self,
        deadline: Option<Instant>,
        park: Park,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> io::Result<()> {
        if self.deliver(sink)? > 0 || park == Park::Never {
            // A core that is never idle still has to see its poller: the bell and blocked sends.
            self.wait(Some(Duration::ZERO))?;
            self.ring(sink);
            return Ok(());
        }
        if self.spin > Duration::ZERO && self.spin_until(deadline, sink)? {
            return Ok(());
        }
        loop {
            let now = Instant::now();
            let until = match self.quiet.check_at(now, self.stats.received) {
                Some(trim) => Some(deadline.map_or(trim, |deadline| deadline.min(trim))),
                None => deadline,
            };
            self.wait(until.map(|until| until.saturating_duration_since(now)))?;
            if self.ring(sink) + self.deliver(sink)? > 0 {
                return Ok(());
            }
            let now = Instant::now();
            self.trim_if_quiet(now);
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(());
            }
        }
    }

    /// Hands out what is there without asking the poller; returns how many events that were.
    fn deliver(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> io::Result<usize> {
        let mut count = 0;
        while let Some(done) = self.desk.next_done(&mut self.stats) {
            sink(Event::File(done));
            count += 1;
        }
        let buffers = &mut self.buffers;
        self.udp.retry_blocked(&mut self.stats, |buffer| buffers.give(buffer));
        let received = self.udp.receive(&mut self.stats, sink)?;
        if received > 0 {
            self.quiet.touched();
        }
        count += received + self.udp.tell_errors(sink);
        if self.buffers.ready_again() {
            sink(Event::SendReady);
            count += 1;
        }
        Ok(count)
    }

    /// Hands out a ring of the bell.
    fn ring(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> usize {
        if !self.bell.heard() {
            return 0;
        }
        self.stats.wakes += 1;
        sink(Event::Woken);
        1
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        // Data that is known to be there raises no further edge.
        let timeout = if self.udp.readable() { Some(Duration::ZERO) } else { timeout };
        self.udp.mind_blocked(self.poll.registry(), SOCKET)?;
        self.stats.entries += 1;
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        }
        for event in &self.events {
            if event.token() == SOCKET {
                self.udp.on_event(event);
            }
        }
        Ok(())
    }

    fn spin_until(
        &mut self,
        deadline: Option<Instant>,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> io::Result<bool> {
        let mut end = Instant::now() + self.spin;
        if let Some(deadline) = deadline {
            end = end.min(deadline);
        }
        for look in 1u32.. {
            if Instant::now() >= end {
                break;
            }
            // To ask the socket itself is one call less; what only the poller knows can wait a bit.
            match look % LOOKS_PER_POLL {
                0 => self.wait(Some(Duration::ZERO))?,
                _ => self.udp.suppose_readable(),
            }
            if self.ring(sink) + self.deliver(sink)? > 0 {
                return Ok(true);
            }
            std::hint::spin_loop();
        }
        Ok(false)
    }

    fn trim_if_quiet(&mut self, now: Instant) {
        if self.quiet.is_quiet(now, self.stats.received) {
            self.udp.trim();
            self.buffers.trim();
            self.stats.trims += 1;
        }
    }
}
