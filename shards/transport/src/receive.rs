//! Datagrams in: routing, newcomers, answers without a connection.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::BytesMut;
use pangea_trace::{TraceContext, trace_event};
use quinn_proto::{DatagramEvent, EcnCodepoint, Incoming, Transmit};

use crate::admission::{Address, Admit};
use crate::batch::Cut;
use crate::config::Path;
use crate::conn::{Conn, why};
use crate::transport::{Response, meta};
use crate::{Found, Side, Transport};

/// What is the same for all datagrams of a batch.
#[derive(Clone, Copy)]
struct Origin {
    now: Instant,
    remote: SocketAddr,
    local_ip: Option<IpAddr>,
    ecn: Option<EcnCodepoint>,
}

impl Transport {
    /// A received GRO batch from `remote`: datagrams of `stride` bytes, the last may be shorter.
    /// The data is copied once. `ecn` is the two bits of the IP header.
    pub fn datagrams(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        local_ip: Option<IpAddr>,
        ecn: Option<u8>,
        stride: usize,
        data: &[u8],
    ) {
        self.clock(now);
        let ecn = ecn.and_then(EcnCodepoint::from_bits);
        let origin = Origin { now, remote, local_ip, ecn };
        let stride = stride.max(1);
        trace_event!(
            self.tracer,
            &TraceContext::NONE,
            PacketReceived {
                size: u32::try_from(data.len()).unwrap_or(u32::MAX),
                packet_num: self.stats.received.0,
                datagrams: u16::try_from(data.len().div_ceil(stride)).unwrap_or(u16::MAX),
                endpoint: remote,
            }
        );
        self.stats.received.0 += data.len().div_ceil(stride) as u64;
        self.stats.received.1 += data.len() as u64;
        match self.batches.copy(data) {
            Cut::Shared(mut batch) => {
                while batch.len() > stride {
                    let datagram = batch.split_to(stride);
                    self.datagram(origin, datagram);
                }
                if !batch.is_empty() {
                    let datagram = batch.split();
                    self.datagram(origin, datagram);
                }
                self.batches.put_back(batch, data.len());
                self.batch_came(now);
            }
            Cut::Apart => {
                for datagram in data.chunks(stride) {
                    self.datagram(origin, BytesMut::from(datagram));
                }
            }
        }
    }

    fn datagram(&mut self, origin: Origin, data: BytesMut) {
        let Origin { now, remote, local_ip, ecn } = origin;
        self.scratch.clear();
        match self.endpoint.handle(now, remote, local_ip, ecn, data, &mut self.scratch) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                let Ok(index) = u32::try_from(handle.0) else { return };
                if let Some(conn) = self.at_mut(index) {
                    conn.proto.handle_event(event);
                    self.mark(index);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.newcomer(now, incoming),
            Some(DatagramEvent::Response(transmit)) => self.respond(&transmit),
            None => self.stats.ignored += 1,
        }
    }

    fn newcomer(&mut self, now: Instant, incoming: Incoming) {
        let remote = incoming.remote_address();
        let address = match incoming.remote_address_validated() {
            true => Address::Proved,
            false => Address::Claimed,
        };
        self.scratch.clear();
        match self.admission.judge(now, &self.config.limits, self.held, remote, address) {
            Admit::Accept => self.accept(now, incoming, address),
            Admit::Retry => {
                self.stats.retries += 1;
                match self.endpoint.retry(incoming, &mut self.scratch) {
                    Ok(transmit) => self.respond(&transmit),
                    Err(error) => self.endpoint.ignore(error.into_incoming()),
                }
            }
            Admit::Refuse => {
                self.stats.refused += 1;
                let transmit = self.endpoint.refuse(incoming, &mut self.scratch);
                self.respond(&transmit);
            }
            Admit::Ignore => {
                self.stats.shunned += 1;
                self.endpoint.ignore(incoming);
            }
        }
    }

    fn accept(&mut self, now: Instant, incoming: Incoming, address: Address) {
        let remote = incoming.remote_address();
        self.trace_init(remote, None);
        let special = match Path::to(remote) {
            Path::Loopback => Some(self.near_server.clone()),
            Path::Network => None,
        };
        match self.endpoint.accept(incoming, now, &mut self.scratch, special) {
            Ok((handle, proto)) => {
                let limits = &self.config.limits;
                let mut conn =
                    Conn::new(proto, Side::Accepted, None, Found::default(), limits, now);
                conn.seat = Some(self.admission.sit(remote, address));
                self.insert(handle, conn);
            }
            Err(error) => {
                let reason = why(error.cause, &self.config.limits);
                self.report_rejected(remote, reason);
                if let Some(transmit) = error.response {
                    self.respond(&transmit);
                }
            }
        }
    }

    /// Queues an answer that belongs to no connection; its bytes are in `scratch`.
    fn respond(&mut self, transmit: &Transmit) {
        if self.responses.len() >= self.config.limits.responses_max {
            self.stats.responses_dropped += 1;
            return;
        }
        let bytes = std::mem::take(&mut self.scratch);
        self.responses.push_back(Response { meta: meta(transmit), bytes });
    }
}
