//! A node of two cores and its control, under many orders of their threads (shuttle): the loop of
//! the real cores (loops.rs) and a stand-in for the engine, which asks and answers as the real one
//! does: a request asks the ledger on core 0, then the other core for a page of its part of the
//! store, and is done when the page is there.
//!
//! ```text
//! PANGEA_SCHEDULES=200000 cargo test --release -p pangea-mesh nodes
//! ```

use std::collections::{BTreeMap, VecDeque};

use pangea_base::{CoreId, Page, PagePool};
use shuttle::thread;

use crate::actors::Alarm;
use crate::loops::{Machine, assert_nothing_lost, explore, run, schedules};
use crate::mesh;

const CORES: u8 = 2;
const CONTROL: CoreId = CoreId(CORES);
const LEDGER: CoreId = CoreId(0);
const STACK_BYTES: usize = 32 << 10;

enum Say {
    /// Control: serve so many requests.
    Serve(u32),
    Ledger(u64),
    LedgerSays(u64, u32),
    Holding(u64),
    HoldingSays(u64, Page),
    /// To control: a request was served.
    Served,
    /// Control: stop. The answer is the same word.
    Close,
}

/// What a ticket stands for.
#[derive(Debug, PartialEq, Eq)]
enum Waits {
    Ledger,
    Holding,
}

struct Core {
    own: CoreId,
    pages: PagePool,
    tickets: BTreeMap<u64, Waits>,
    next_ticket: u64,
    // Core 0 only: what the ledger has granted.
    granted: u32,
    out: VecDeque<(CoreId, Say)>,
    to_self: VecDeque<Say>,
    // Steps of coding that are left; one a turn.
    work: u32,
    closing: bool,
}

impl Core {
    fn new(own: CoreId, pages: PagePool) -> Core {
        Core {
            own,
            pages,
            tickets: BTreeMap::new(),
            next_ticket: 0,
            granted: 0,
            out: VecDeque::new(),
            to_self: VecDeque::new(),
            work: 0,
            closing: false,
        }
    }

    fn ticket(&mut self, waits: Waits) -> u64 {
        self.next_ticket += 1;
        self.tickets.insert(self.next_ticket, waits);
        self.next_ticket
    }

    fn redeem(&mut self, ticket: u64, waits: Waits) {
        assert_eq!(self.tickets.remove(&ticket), Some(waits), "an answer to no question");
    }

    fn send(&mut self, to: CoreId, say: Say) {
        match to == self.own {
            true => self.to_self.push_back(say),
            false => self.out.push_back((to, say)),
        }
    }
}

impl Machine for Core {
    type Message = Say;

    fn handle(&mut self, from: CoreId, say: Say) {
        match say {
            Say::Serve(requests) => {
                for _ in 0..requests {
                    let ticket = self.ticket(Waits::Ledger);
                    self.send(LEDGER, Say::Ledger(ticket));
                }
            }
            Say::Ledger(ticket) => {
                self.granted += 1;
                let says = Say::LedgerSays(ticket, self.granted);
                self.send(from, says);
            }
            Say::LedgerSays(ticket, granted) => {
                assert!(granted > 0, "the ledger counts");
                self.redeem(ticket, Waits::Ledger);
                let ticket = self.ticket(Waits::Holding);
                self.send(CoreId(1 - self.own.0), Say::Holding(ticket));
            }
            Say::Holding(ticket) => {
                let mut page = self.pages.take().expect("a page for every request");
                page.extend(&ticket.to_le_bytes());
                self.send(from, Say::HoldingSays(ticket, page));
            }
            Say::HoldingSays(ticket, page) => {
                assert_eq!(page[..], ticket.to_le_bytes(), "another one's page");
                self.redeem(ticket, Waits::Holding);
                self.work += 1;
            }
            Say::Close => self.closing = true,
            Say::Served => unreachable!("control hears of it"),
        }
    }

    fn turn(&mut self) -> bool {
        while let Some(say) = self.to_self.pop_front() {
            self.handle(self.own, say);
        }
        if self.work > 0 {
            self.work -= 1;
            self.send(CONTROL, Say::Served);
        }
        if self.closing && self.tickets.is_empty() && self.work == 0 && self.next_ticket < u64::MAX
        {
            self.next_ticket = u64::MAX;
            self.send(CONTROL, Say::Close);
        }
        self.work > 0
    }

    fn poll(&mut self) -> Option<(CoreId, Say)> {
        self.out.pop_front()
    }

    fn is_closed(&self) -> bool {
        self.next_ticket == u64::MAX
    }
}

/// Tells the cores what to serve, and to stop when all is served.
struct Control {
    out: VecDeque<(CoreId, Say)>,
    served: u32,
    expected: u32,
    closed: u8,
}

impl Control {
    fn new(requests: [u32; CORES as usize]) -> Control {
        let commands = (0..CORES).map(CoreId).zip(requests.map(Say::Serve));
        let expected = requests.iter().sum();
        Control { out: commands.collect(), served: 0, expected, closed: 0 }
    }
}

impl Machine for Control {
    type Message = Say;

    fn handle(&mut self, _: CoreId, say: Say) {
        match say {
            Say::Served => self.served += 1,
            Say::Close => self.closed += 1,
            _ => unreachable!("not for control"),
        }
        if matches!(say, Say::Served) && self.served == self.expected {
            self.out.extend((0..CORES).map(|core| (CoreId(core), Say::Close)));
        }
    }

    fn turn(&mut self) -> bool {
        false
    }

    fn poll(&mut self) -> Option<(CoreId, Say)> {
        self.out.pop_front()
    }

    fn is_closed(&self) -> bool {
        self.closed == CORES
    }
}

/// A node from its first command to its end.
fn node(capacity: usize, requests: [u32; CORES as usize]) {
    let ends = mesh(usize::from(CORES) + 1, capacity);
    let all: u32 = requests.iter().sum();
    let pools: Vec<PagePool> = (0..CORES).map(|_| PagePool::new(4096, all)).collect();
    let cores = (0..CORES).map(CoreId).zip(&pools).map(|(own, pool)| Core::new(own, pool.clone()));
    let cores: Vec<Core> = cores.collect();
    let mut ends = ends.into_iter();
    let threads: Vec<_> = cores
        .into_iter()
        .zip(ends.by_ref())
        .map(|(mut core, mut ends)| {
            thread::spawn(move || {
                let traffic = run(&mut core, &mut ends, &Alarm::new());
                assert!(core.tickets.is_empty(), "a ticket was never answered");
                // Its ring may still be looked into by others.
                (traffic, core.granted, ends)
            })
        })
        .collect();
    let mut own = ends.next().expect("control's end");
    let mut control = Control::new(requests);
    let heard = run(&mut control, &mut own, &Alarm::new());
    let mut ended: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(ended[0].1, all, "the ledger was asked once a request");
    let mut traffic: Vec<_> = ended.drain(..).map(|(traffic, ..)| traffic).collect();
    traffic.push(heard);
    assert_nothing_lost(&traffic);
    assert!(pools.iter().all(|pool| pool.available() == all), "a page did not come back");
}

#[test]
fn a_node_serves_all_and_ends_whatever_the_order_and_however_small_its_rings() {
    let count = schedules(3_000);
    explore("two cores, rings of one", count / 2, STACK_BYTES, || node(1, [2, 2]));
    explore("two cores, rings of two", count / 2, STACK_BYTES, || node(2, [3, 1]));
}

/// The harness can fail: who waits for a message that never comes is found.
#[test]
#[should_panic(expected = "deadlock")]
fn a_node_whose_control_never_hears_of_the_end_is_found() {
    let scenario = || {
        let mut control = Control::new([1, 0]);
        // It waits for one more than there will be.
        control.expected += 1;
        let mut ends = mesh(usize::from(CORES) + 1, 2).into_iter();
        for own in (0..CORES).map(CoreId) {
            let mut ends = ends.next().expect("a core's end");
            let mut core = Core::new(own, PagePool::new(4096, 2));
            thread::spawn(move || run(&mut core, &mut ends, &Alarm::new()));
        }
        run(&mut control, &mut ends.next().expect("control's end"), &Alarm::new());
    };
    shuttle::check_random(scenario, 10);
}
