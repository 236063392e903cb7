//! The socket behind the readiness driver: joined receives, trains out, and messages that wait
//! until the socket has room.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, UdpSocket as StdSocket};
use std::time::Instant;

use ::mio::event::Source;
use ::mio::{Interest, Registry, Token};
use pangea_base::canonical;
use pangea_trace::Tracer;
use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, UdpSockRef, UdpSocketState};

use crate::driver::DriverConfig;
use crate::errors::{Errors, Taken, Tries};
use crate::event::{Ecn, Event, Stats, Transmit};
use crate::portion::{Portion, ROUNDS_MAX};
use crate::socket::{CoreSocket, Family, Receives};

/// Most bytes of one UDP message over IPv4: 65,535 less the IP and UDP headers.
pub(crate) const SEND_BYTES_MAX: usize = 65_507;

/// Bytes of one receive buffer: the largest joined message.
const RECEIVE_BYTES: usize = 65_536;

/// Receive errors in a row after which the socket counts as broken.
const ERRORS_IN_A_ROW_MAX: u32 = 64;

pub(crate) struct Udp {
    socket: ::mio::net::UdpSocket,
    state: UdpSocketState,
    family: Family,
    receives: Receives,
    /// An edge said that there is data, and no receive has found the end of it.
    readable: bool,
    writable: Writable,
    /// Messages that found the socket full, with the bytes already sent; at most the send slots.
    blocked: VecDeque<(Transmit, Vec<u8>, usize)>,
    memory: Vec<u8>,
    /// How many messages the next batch may have.
    messages_next: usize,
    errors_in_a_row: u32,
    errors: Errors,
    /// The poller said that messages are in the error queue.
    has_errors: bool,
    tracer: Tracer,
}

/// What the poller watches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writable {
    Ignored,
    Watched,
}

impl Udp {
    pub(crate) fn new(core: CoreSocket, config: &DriverConfig) -> io::Result<Udp> {
        let std: StdSocket = core.socket;
        let family = Family::of(&std)?;
        let state = UdpSocketState::new(UdpSockRef::from(&std))?;
        no_timestamps(&std);
        let errors = Errors::new(config.unreached, &std, family)?;
        let buffers = usize::from(config.receive_buffers).min(BATCH_SIZE);
        let buffers = if core.receives == Receives::Yes { buffers } else { 0 };
        Ok(Udp {
            socket: ::mio::net::UdpSocket::from_std(std),
            state,
            family,
            receives: core.receives,
            readable: core.receives == Receives::Yes,
            writable: Writable::Ignored,
            blocked: VecDeque::with_capacity(usize::from(config.send_slots)),
            memory: zeroed(buffers * RECEIVE_BYTES),
            messages_next: BATCH_SIZE,
            errors_in_a_row: 0,
            errors,
            has_errors: false,
            tracer: Tracer::none(),
        })
    }

    pub(crate) fn trace(&mut self, tracer: Tracer) {
        self.tracer = tracer;
    }

    pub(crate) fn source(&mut self) -> &mut impl Source {
        &mut self.socket
    }

    #[cfg(all(test, target_os = "linux"))]
    pub(crate) fn socket_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.socket)
    }

    pub(crate) fn receive_buffers(&self) -> u64 {
        (self.memory.len() / RECEIVE_BYTES) as u64
    }

    pub(crate) fn max_gso_segments(&self) -> u16 {
        u16::try_from(self.state.max_gso_segments()).unwrap_or(u16::MAX)
    }

    pub(crate) fn joins(&self) -> bool {
        self.state.gro_segments() > 1
    }

    pub(crate) fn readable(&self) -> bool {
        self.readable
    }

    /// The next receive asks the socket, whatever the poller said.
    pub(crate) fn suppose_readable(&mut self) {
        self.readable = self.receives == Receives::Yes;
    }

    pub(crate) fn on_event(&mut self, event: &::mio::event::Event) {
        self.has_errors |= event.is_error();
        self.readable |= self.receives == Receives::Yes
            && (event.is_readable() || event.is_error() || event.is_read_closed());
    }

    /// Watches for room while messages wait for it, and only then: every sent packet is an edge.
    pub(crate) fn mind_blocked(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let wanted = if self.blocked.is_empty() { Writable::Ignored } else { Writable::Watched };
        if wanted == self.writable {
            return Ok(());
        }
        let interest = match wanted {
            Writable::Ignored => Interest::READABLE,
            Writable::Watched => Interest::READABLE | Interest::WRITABLE,
        };
        registry.reregister(&mut self.socket, token, interest)?;
        self.writable = wanted;
        Ok(())
    }

    /// Sends now, or keeps the message until there is room. Returns the buffer if it is done with.
    pub(crate) fn send(
        &mut self,
        mut transmit: Transmit,
        contents: Vec<u8>,
        stats: &mut Stats,
    ) -> Option<Vec<u8>> {
        match self.family.destination(transmit.dst) {
            Some(dst) => transmit.dst = dst,
            None => {
                stats.send_errors += 1;
                self.errors.no_family(transmit.dst);
                return Some(contents);
            }
        }
        let mut sent = 0;
        // Behind others that wait it waits too: order is kept.
        if !self.blocked.is_empty() || !self.push_out(transmit, &contents, &mut sent, stats) {
            self.blocked.push_back((transmit, contents, sent));
            return None;
        }
        Some(contents)
    }

    pub(crate) fn retry_blocked(&mut self, stats: &mut Stats, mut free: impl FnMut(Vec<u8>)) {
        while let Some((transmit, contents, mut sent)) = self.blocked.pop_front() {
            if !self.push_out(transmit, &contents, &mut sent, stats) {
                self.blocked.push_front((transmit, contents, sent));
                return;
            }
            free(contents);
        }
    }

    /// False if the socket is full; `sent` says how far it got.
    fn push_out(
        &mut self,
        transmit: Transmit,
        contents: &[u8],
        sent: &mut usize,
        stats: &mut Stats,
    ) -> bool {
        let mut tries = Tries::default();
        while *sent < contents.len() {
            let rest = &contents[*sent..];
            let segment = transmit.segment.map_or(rest.len(), usize::from);
            let whole = segment >= rest.len() || self.state.max_gso_segments() > 1;
            let piece = if whole { rest } else { &rest[..segment] };
            let message = quinn_udp::Transmit {
                destination: transmit.dst,
                ecn: transmit.ecn.map(codepoint),
                contents: piece,
                segment_size: (whole && segment < piece.len()).then_some(segment),
                src_ip: transmit.src_ip.map(|ip| self.source_ip(ip)),
            };
            let result =
                self.socket.try_io(|| self.state.try_send((&self.socket).into(), &message));
            match result {
                Ok(()) => {
                    stats.sent += 1;
                    stats.sent_bytes += piece.len() as u64;
                    self.tracer.train_sent(&transmit.train, piece.len());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // A device without offload: quinn-udp has switched it off, and the train goes
                // again in single datagrams.
                Err(_) if message.segment_size.is_some() && self.state.max_gso_segments() == 1 => {
                    continue;
                }
                Err(error) => {
                    let taken = self.take_errors();
                    if self.errors.send_again(&mut tries, taken) {
                        stats.send_again += 1;
                        continue;
                    }
                    count_error(&error, stats);
                    let errno = error.raw_os_error().unwrap_or(0);
                    self.errors.send_failed(transmit.dst, errno, taken);
                    self.tracer.train_failed(&transmit.train, piece.len(), errno);
                }
            }
            tries = Tries::default();
            *sent += piece.len();
        }
        true
    }

    /// An IPv4 source has to be written as such on Linux, and mapped elsewhere.
    fn source_ip(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(v4) if self.family == Family::Dual && !cfg!(target_os = "linux") => {
                v4.to_ipv6_mapped().into()
            }
            other => other,
        }
    }

    /// Takes what waits in the error queue.
    fn take_errors(&mut self) -> Taken {
        #[cfg(target_os = "linux")]
        return self.errors.take(std::os::fd::AsFd::as_fd(&self.socket));
        #[cfg(not(target_os = "linux"))]
        return Taken::None;
    }

    /// Hands out what the system says of addresses; returns how many events that were.
    pub(crate) fn tell_errors(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> usize {
        if std::mem::take(&mut self.has_errors) {
            self.take_errors();
        }
        self.errors.hand_out(sink)
    }

    /// Receives what there is, up to a limit; returns how many events that were.
    pub(crate) fn receive(
        &mut self,
        stats: &mut Stats,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> io::Result<usize> {
        let mut count = 0;
        let portion = Portion::begin(stats.received_bytes);
        for _ in 0..ROUNDS_MAX {
            if !self.readable || portion.is_full(stats.received_bytes) {
                break;
            }
            count += self.receive_batch(stats, sink)?;
        }
        Ok(count)
    }

    fn receive_batch(
        &mut self,
        stats: &mut Stats,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> io::Result<usize> {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let messages = {
            let buffers = (self.memory.len() / RECEIVE_BYTES).min(self.messages_next);
            let mut parts = self.memory.chunks_exact_mut(RECEIVE_BYTES);
            let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| IoSliceMut::new(parts.next().unwrap_or(&mut [])));
            let (socket, state) = (&self.socket, &self.state);
            let receive = || state.recv(socket.into(), &mut slices[..buffers], &mut metas);
            stats.entries += 1;
            match socket.try_io(receive) {
                Ok(messages) => messages,
                Err(error) => return self.receive_failed(error, stats),
            }
        };
        self.errors_in_a_row = 0;
        let (mut count, before, began) = (0, stats.received_bytes, Instant::now());
        for (meta, bytes) in
            metas.iter().zip(self.memory.chunks_exact(RECEIVE_BYTES)).take(messages)
        {
            let Some(data) = bytes.get(..meta.len).filter(|data| !data.is_empty()) else {
                continue;
            };
            stats.received += 1;
            stats.received_bytes += data.len() as u64;
            count += 1;
            sink(Event::Datagrams {
                remote: canonical(meta.addr),
                local_ip: meta.dst_ip.map(|ip| ip.to_canonical()),
                ecn: meta.ecn.and_then(|ecn| Ecn::from_bits(ecn as u8)),
                stride: meta.stride.clamp(1, data.len()),
                data,
            });
        }
        let fit = Portion::messages(messages, stats.received_bytes - before, began.elapsed());
        self.messages_next = fit.min(BATCH_SIZE);
        Ok(count)
    }

    fn receive_failed(&mut self, error: io::Error, stats: &mut Stats) -> io::Result<usize> {
        match error.kind() {
            io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(0)
            }
            // What a peer's host says about an earlier datagram of ours is no fault of the socket.
            _ => {
                stats.receive_errors += 1;
                let errno = error.raw_os_error().unwrap_or(0);
                if self.take_errors() == Taken::Some || self.errors.is_about_another(errno) {
                    return Ok(0);
                }
                self.errors_in_a_row += 1;
                if self.errors_in_a_row > ERRORS_IN_A_ROW_MAX { Err(error) } else { Ok(0) }
            }
        }
    }

    /// Gives the receive memory back to the system; it comes back when written to.
    pub(crate) fn trim(&mut self) {
        #[cfg(target_os = "linux")]
        {
            let bytes = self.memory.len();
            self.memory.clear();
            crate::sys::give_back(self.memory.spare_capacity_mut());
            // SAFETY: within the capacity, and initialised: the bytes are what they were, or the
            //   zeros that private anonymous memory reads as once given back.
            // CHECKED: tests/conformance memory cases.
            unsafe { self.memory.set_len(bytes) };
        }
        #[cfg(not(target_os = "linux"))]
        {
            self.memory = zeroed(self.memory.len());
        }
    }
}

/// Zeroed memory comes from the system untouched, so it costs nothing until it is used.
fn zeroed(bytes: usize) -> Vec<u8> {
    vec![0; bytes]
}

fn codepoint(ecn: Ecn) -> EcnCodepoint {
    match ecn {
        Ecn::Ect0 => EcnCodepoint::Ect0,
        Ecn::Ect1 => EcnCodepoint::Ect1,
        Ecn::Ce => EcnCodepoint::Ce,
    }
}

fn count_error(error: &io::Error, stats: &mut Stats) {
    if is_too_long(error) {
        stats.send_too_long += 1;
    } else {
        stats.send_errors += 1;
        stats.send_errno_last = error.raw_os_error().unwrap_or(0);
    }
}

/// EMSGSIZE: 90 on Linux, 40 on macOS, 10040 on Windows.
fn is_too_long(error: &io::Error) -> bool {
    let number = match () {
        () if cfg!(target_os = "linux") => 90,
        () if cfg!(windows) => 10040,
        () => 40,
    };
    error.raw_os_error() == Some(number)
}

/// quinn-udp asks for receive times too, and its control buffer then cuts off the ECN mark of
/// joined IPv4 datagrams. We do without the times.
fn no_timestamps(socket: &StdSocket) {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsFd;
        let (level, name) = (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS);
        let _ = crate::sys::set_option(socket.as_fd(), level, name, 0);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}
