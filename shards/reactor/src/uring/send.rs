//! Sending: slots that hold what the kernel reads while a sendmsg is in flight.

use std::os::fd::RawFd;

use io_uring::{opcode, squeue, types};
use pangea_trace::Tracer;

use super::control::{self, CONTROL_SEND_BYTES};
use crate::cmsg::NAME_BYTES;
use crate::errors::{Errors, Taken, Tries};
use crate::event::{Stats, Transmit};
use crate::socket::Family;

/// Most segments in one train: what every kernel with offload takes.
const SEGMENTS_MAX: u16 = 64;

pub(super) struct SendSlots {
    family: Family,
    // Never moved while open: the kernel holds addresses into the slots.
    slots: Box<[Slot]>,
    free: Vec<u32>,
    segments_max: u16,
    tracer: Tracer,
}

/// One message in flight. With offload gone, one segment of it after the other.
struct Slot {
    header: libc::msghdr,
    part: libc::iovec,
    name: [u8; NAME_BYTES],
    // In words, because the kernel reads aligned headers.
    control: Aligned,
    contents: Vec<u8>,
    transmit: Option<Transmit>,
    sent: usize,
    flying: usize,
    // How often what is in flight was refused before.
    tries: Tries,
}

#[repr(C, align(8))]
struct Aligned([u8; CONTROL_SEND_BYTES]);

/// What follows from a completion.
pub(super) enum Next {
    /// The message is done with: the buffer comes back.
    Done(Vec<u8>),
    /// The rest of it goes out.
    Submit(squeue::Entry),
}

impl SendSlots {
    pub(super) fn new(family: Family, slots: u16) -> SendSlots {
        SendSlots {
            family,
            slots: (0..slots).map(|_| Slot::empty()).collect(),
            free: (0..u32::from(slots)).rev().collect(),
            segments_max: SEGMENTS_MAX,
            tracer: Tracer::none(),
        }
    }

    pub(super) fn trace(&mut self, tracer: Tracer) {
        self.tracer = tracer;
    }

    pub(super) fn segments_max(&self) -> u16 {
        self.segments_max
    }

    pub(super) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Puts a message into a slot: the slot's number and the request. `Err` gives the buffer back
    /// of a message that this socket cannot send.
    pub(super) fn start(
        &mut self,
        mut transmit: Transmit,
        contents: Vec<u8>,
        socket: RawFd,
    ) -> Result<(u32, squeue::Entry), Vec<u8>> {
        match self.family.destination(transmit.dst) {
            Some(dst) => transmit.dst = dst,
            None => return Err(contents),
        }
        let index = self.free.pop().expect("each buffer handed out has a slot: send only those");
        let offload = self.segments_max > 1;
        let slot = &mut self.slots[index as usize];
        slot.contents = contents;
        slot.transmit = Some(transmit);
        slot.sent = 0;
        slot.tries = Tries::default();
        let (name, length) = control::write_name(transmit.dst);
        slot.name = name;
        slot.header.msg_namelen = length;
        Ok((index, slot.submit(transmit, socket, offload)))
    }

    /// A sendmsg ended.
    pub(super) fn complete(
        &mut self,
        index: u32,
        result: i32,
        socket: RawFd,
        stats: &mut Stats,
        (errors, taken): (&mut Errors, Taken),
    ) -> Next {
        let slot = &mut self.slots[index as usize];
        let transmit = slot.transmit.expect("a completion belongs to a slot in use");
        let segments_max = self.segments_max;
        let train = transmit.segment.is_some_and(|segment| usize::from(segment) < slot.flying);
        if train && refuses_offload(result, transmit) {
            // The device cannot cut trains. From now on we do; others may be in flight as yet.
            self.segments_max = 1;
            return Next::Submit(slot.submit(transmit, socket, false));
        }
        let is_over = result >= 0 || result == -libc::ECANCELED;
        if !is_over && errors.send_again(&mut slot.tries, taken) {
            stats.send_again += 1;
            return Next::Submit(slot.submit(transmit, socket, segments_max > 1));
        }
        slot.tries = Tries::default();
        match result {
            0.. => {
                stats.sent += 1;
                stats.sent_bytes += slot.flying as u64;
                self.tracer.train_sent(&transmit.train, slot.flying);
            }
            _ => {
                self.tracer.train_failed(&transmit.train, slot.flying, -result);
                errors.send_failed(transmit.dst, -result, taken);
                if -result == libc::EMSGSIZE {
                    stats.send_too_long += 1;
                } else {
                    stats.send_errors += 1;
                    stats.send_errno_last = -result;
                }
            }
        }
        slot.sent += slot.flying;
        if slot.sent < slot.contents.len() && result != -libc::ECANCELED {
            return Next::Submit(slot.submit(transmit, socket, segments_max > 1));
        }
        slot.transmit = None;
        self.free.push(index);
        Next::Done(std::mem::take(&mut slot.contents))
    }

    /// The kernel would not let go: it keeps the memory, for ever.
    pub(super) fn leak(self) {
        std::mem::forget(self.slots);
    }
}

/// Devices without the checksums that cutting needs answer EIO; some kernels EINVAL, which a bad
/// source address gives too.
fn refuses_offload(result: i32, transmit: Transmit) -> bool {
    result == -libc::EIO || (result == -libc::EINVAL && transmit.src_ip.is_none())
}

impl Slot {
    fn empty() -> Slot {
        // SAFETY: all fields of msghdr and iovec are numbers and pointers; zero is legal.
        let (header, part) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        Slot {
            header,
            part,
            name: [0; NAME_BYTES],
            control: Aligned([0; CONTROL_SEND_BYTES]),
            contents: Vec::new(),
            transmit: None,
            sent: 0,
            flying: 0,
            tries: Tries::default(),
        }
    }

    /// The request for what is still to be sent: all of it, or without offload one segment.
    fn submit(&mut self, transmit: Transmit, socket: RawFd, offload: bool) -> squeue::Entry {
        let rest = self.contents.len() - self.sent;
        let segment = transmit.segment.map_or(rest, usize::from);
        self.flying = if offload { rest } else { rest.min(segment) };
        let cut = transmit.segment.filter(|_| segment < self.flying);
        let (control, length) = control::write(transmit.dst, transmit.src_ip, transmit.ecn, cut);
        self.control.0 = control;
        self.part.iov_base = self.contents[self.sent..].as_mut_ptr().cast();
        self.part.iov_len = self.flying;
        self.header.msg_name = self.name.as_mut_ptr().cast();
        self.header.msg_iov = &raw mut self.part;
        self.header.msg_iovlen = 1;
        self.header.msg_control = match length {
            0 => std::ptr::null_mut(),
            _ => self.control.0.as_mut_ptr().cast(),
        };
        self.header.msg_controllen = length as _;
        opcode::SendMsg::new(types::Fd(socket), &raw const self.header).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Unreached;
    use crate::event::Event;

    fn to() -> Transmit {
        Transmit {
            dst: (std::net::Ipv4Addr::LOCALHOST, 9).into(),
            src_ip: None,
            ecn: None,
            segment: Some(100),
            train: Default::default(),
        }
    }

    fn errors(unreached: Unreached) -> Errors {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        Errors::new(unreached, &socket, Family::V4).unwrap()
    }

    /// Plays the kernel: answers each submission of a 250-byte train, returns what was counted.
    fn play(slots: &mut SendSlots, answers: &[i32]) -> (Stats, Option<Vec<u8>>) {
        let (index, _) = slots.start(to(), vec![1; 250], 0).unwrap();
        let (mut stats, mut errors) = (Stats::default(), errors(Unreached::Ignored));
        for (i, &answer) in answers.iter().enumerate() {
            match slots.complete(index, answer, 0, &mut stats, (&mut errors, Taken::None)) {
                Next::Done(buffer) => {
                    assert_eq!(i + 1, answers.len(), "ended early");
                    return (stats, Some(buffer));
                }
                Next::Submit(_) => {}
            }
        }
        (stats, None)
    }

    #[test]
    fn a_device_without_offload_gets_the_train_in_single_datagrams() {
        for refusal in [-libc::EIO, -libc::EINVAL] {
            let mut slots = SendSlots::new(Family::V4, 2);
            let (stats, buffer) = play(&mut slots, &[refusal, 100, 100, 50]);
            assert_eq!((stats.sent, stats.sent_bytes, stats.send_errors), (3, 250, 0));
            assert_eq!(buffer.unwrap().len(), 250);
            assert_eq!((slots.segments_max(), slots.in_flight()), (1, 0));
            // The next train is cut from the start.
            let (stats, _) = play(&mut slots, &[100, -libc::EMSGSIZE, 50]);
            assert_eq!((stats.sent, stats.send_too_long), (2, 1));
        }
    }

    #[test]
    fn a_bad_source_address_does_not_cost_the_offload() {
        let mut slots = SendSlots::new(Family::V4, 1);
        let from = Transmit { src_ip: Some(std::net::Ipv4Addr::LOCALHOST.into()), ..to() };
        let (index, _) = slots.start(from, vec![1; 250], 0).unwrap();
        let (mut stats, mut errors) = (Stats::default(), errors(Unreached::Ignored));
        let told = (&mut errors, Taken::None);
        let next = slots.complete(index, -libc::EINVAL, 0, &mut stats, told);
        assert!(matches!(next, Next::Done(_)));
        assert_eq!((slots.segments_max(), stats.send_errors), (SEGMENTS_MAX, 1));
        assert_eq!(stats.send_errno_last, libc::EINVAL);
    }

    #[test]
    fn a_cancelled_message_is_not_taken_up_again() {
        let mut slots = SendSlots::new(Family::V4, 1);
        slots.segments_max = 1;
        let (_, buffer) = play(&mut slots, &[100, -libc::ECANCELED]);
        assert!(buffer.is_some());
        let mut whole = SendSlots::new(Family::V4, 1);
        let (_, buffer) = play(&mut whole, &[-libc::ECANCELED]);
        assert!(buffer.is_some());
        // Also a whole train that was in flight when the offload was found to be missing.
        let mut late = SendSlots::new(Family::V4, 1);
        let (index, _) = late.start(to(), vec![1; 250], 0).unwrap();
        late.segments_max = 1;
        let (mut stats, mut errors) = (Stats::default(), errors(Unreached::Told));
        let told = (&mut errors, Taken::None);
        let next = late.complete(index, -libc::ECANCELED, 0, &mut stats, told);
        assert!(matches!(next, Next::Done(_)));
    }

    #[test]
    fn what_the_kernel_says_of_another_message_costs_this_one_nothing() {
        let (mut stats, mut errors) = (Stats::default(), errors(Unreached::Told));
        let mut slots = SendSlots::new(Family::V4, 1);
        let mut answer = |answers: &[(i32, Taken)]| {
            let (index, _) = slots.start(to(), vec![1; 250], 0).unwrap();
            let done = answers.iter().position(|&(result, taken)| {
                let told = (&mut errors, taken);
                matches!(slots.complete(index, result, 0, &mut stats, told), Next::Done(_))
            });
            assert_eq!(done, Some(answers.len() - 1), "it ends with the last answer");
            let mut told = Vec::new();
            errors.hand_out(&mut |event| match event {
                Event::Unreachable { remote, .. } => told.push(remote),
                _ => unreachable!("nothing else is collected"),
            });
            (told, stats.sent)
        };
        let (refused, lost) = (-libc::ECONNREFUSED, -libc::ENETUNREACH);
        // However many others refuse meanwhile.
        let others = (refused, Taken::Some);
        assert_eq!(answer(&[others, (250, Taken::None)]), (vec![], 1));
        assert_eq!(answer(&[others, others, others, (250, Taken::None)]), (vec![], 2));
        // No way is about itself, when nobody's answer was in between.
        assert_eq!(answer(&[(lost, Taken::None); 2]), (vec![to().dst], 2));
        assert_eq!(answer(&[others, (lost, Taken::None)]), (vec![to().dst], 2));
        // A storm of others' answers ends the tries, and is nobody's word about this address.
        assert_eq!(answer(&[(lost, Taken::Some); 9]), (vec![], 2));
        assert_eq!(answer(&[(refused, Taken::None); 2]), (vec![], 2));
    }
}
