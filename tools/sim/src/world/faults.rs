//! What the world does to its inhabitants, when, and how it makes it good again.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use pangea_base::{Page, PagePool};

use super::World;
use super::atlas::GRACE;
use super::machine::Machine;
use super::network::{Path, Place};
use super::weather::{Fault, Weather, large};

/// Something that is to happen.
pub enum Deed {
    /// The next fault.
    Next,
    /// The power of a place fails.
    Cut(Place),
    /// A process starts.
    Start(Place),
    /// A process that was told to close must have closed, and starts again; which one it was.
    Closed(Place, u64),
    /// All is well again at a place.
    Well(Place),
    /// Pages come back to a process, if it lives.
    Give(Place, Vec<Page>),
}

/// What is to happen, by time.
#[derive(Default)]
pub struct Deeds {
    planned: BTreeMap<(Instant, u64), Deed>,
    sequence: u64,
}

impl Deeds {
    pub fn next(&self) -> Option<Instant> {
        self.planned.first_key_value().map(|((at, _), _)| *at)
    }

    pub fn plan(&mut self, at: Instant, deed: Deed) {
        self.sequence += 1;
        self.planned.insert((at, self.sequence), deed);
    }

    /// Pages that were kept from a process are let go with it.
    fn forget_pages(&mut self, of: Place) {
        self.planned.retain(|_, deed| !matches!(deed, Deed::Give(place, _) if *place == of));
    }

    fn due(&mut self, now: Instant) -> Option<Deed> {
        let entry = self.planned.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }
}

/// How long closing may take.
const CLOSING: Duration = Duration::from_secs(10);

impl World {
    /// Faults begin.
    pub fn begin_faults(&mut self) {
        self.deeds.plan(self.now, Deed::Next);
    }

    /// Faults end, and everything is made good.
    pub fn heal(&mut self) {
        self.is_calm = true;
        self.armed = None;
        self.log.say(self.now, "faults end");
        let good = Path {
            lost: 0,
            duplicated: 0,
            reordered: 0,
            replayed: 0,
            flipped: 0,
            cut: 0,
            grown: 0,
            delay: Duration::from_millis(2),
            jitter: Duration::from_micros(100),
            mtu: 9000,
        };
        self.network.heal(good);
        for place in 0..self.machines.len() {
            self.machines[place].disk.heal();
            self.machines[place].clock.set_ahead(0);
            self.machines[place].clock.set_wrong(0);
        }
    }

    pub(super) fn run_deeds(&mut self) {
        while let Some(deed) = self.deeds.due(self.now) {
            match deed {
                Deed::Next if self.is_calm => {}
                Deed::Next => {
                    self.any_fault();
                    let mean = self.weather.every.as_millis() as u64;
                    let pause = Duration::from_millis(500 + self.chance.below(mean * 2));
                    self.deeds.plan(self.now + pause, Deed::Next);
                }
                Deed::Cut(_) if self.is_calm => {}
                Deed::Cut(place) => self.fault(Fault::PowerCut, place),
                Deed::Start(place) => self.start(place),
                Deed::Closed(place, which) => self.closed(place, which),
                Deed::Well(place) => self.well(place),
                Deed::Give(_, pages) => drop(pages),
            }
        }
    }

    fn any_fault(&mut self) {
        let which = self.chance.below(self.weather.faults.len() as u64) as usize;
        let fault = self.weather.faults[which];
        let place = match fault {
            Fault::Rebind | Fault::Roam | Fault::KillOrigin => {
                let origin = self.chance.below(self.origins.len() as u64) as usize;
                self.origins[origin].place
            }
            Fault::Stall | Fault::ClockStep | Fault::ClockJump => {
                self.chance.below(self.machines.len() as u64) as usize
            }
            _ => self.chance.below(self.weather.holders as u64) as usize,
        };
        if fault == Fault::CutAtReceipt {
            self.armed = Some(place);
        } else {
            self.fault(fault, place);
        }
    }

    /// A holder that was waited for has signed a receipt: at this moment, or while what it has
    /// still to do on its disk is under way, its power fails. Between an acknowledgement and what
    /// it promises there may be nothing.
    pub(super) fn cut_at_receipt(&mut self, place: Place) {
        self.armed = None;
        self.log.fault(self.now, Fault::CutAtReceipt.name(), &self.machines[place].name);
        let micros = self.chance.below(2) * self.chance.below(self.weather.disk_micros);
        self.deeds.plan(self.now + Duration::from_micros(micros), Deed::Cut(place));
    }

    fn fault(&mut self, fault: Fault, place: Place) {
        if self.machines[place].process.is_none() {
            return;
        }
        if fault.hurts() {
            let works = World::works(&self.origins);
            let waits = self.origins.iter().any(|origin| origin.waits);
            if waits || !self.atlas.may_hurt(self.now, place, &self.objects, works) {
                return;
            }
            // A reformatted disk has lost what it had for good.
            if fault == Fault::Reformat && !self.atlas.may_ruin(self.weather.tolerance()) {
                return;
            }
        }
        let name = self.machines[place].name.clone();
        self.log.fault(self.now, fault.name(), &name);
        match fault {
            Fault::Kill | Fault::PowerCut | Fault::Close | Fault::Move | Fault::Reformat => {
                self.stop(fault, place);
            }
            Fault::KillOrigin => self.kill_origin(place),
            Fault::ClockJump => self.jump(place),
            Fault::Stall | Fault::ClockStep | Fault::Hog | Fault::Rebind | Fault::Roam => {
                self.annoy(fault, place);
            }
            _ => self.disturb(fault, place),
        }
    }

    /// A process ends at this moment. All its pages were its own: with it gone, and what it had
    /// asked of its disk, none may be missing, whatever it was doing.
    pub(super) fn end(&mut self, place: Place, how: fn(&mut Machine)) {
        let machine = &mut self.machines[place];
        let pools = machine.process.as_ref().map_or(Vec::new(), |p| p.pools(&machine.name));
        how(machine);
        self.deeds.forget_pages(place);
        if let Some(origin) = self.origins.iter_mut().find(|origin| origin.place == place) {
            drop(origin.lost());
        }
        self.check_pages(pools);
    }

    /// The process ends, one way or the other, and starts again.
    fn stop(&mut self, fault: Fault, place: Place) {
        let pause = Duration::from_millis(100 + self.chance.below(20_000));
        match fault {
            Fault::Kill => self.end(place, Machine::kill),
            Fault::PowerCut => self.end(place, Machine::power_cut),
            Fault::Move => {
                self.end(place, Machine::kill);
                self.move_holder(place);
            }
            Fault::Reformat => {
                self.end(place, Machine::kill);
                self.machines[place].disk.reformat();
                self.atlas.ruin(place);
            }
            _ => {
                self.hurt(place, self.now + CLOSING + GRACE);
                let process = self.machines[place].process.as_mut().expect("it runs");
                process.close(self.now);
                let which = self.machines[place].starts;
                self.deeds.plan(self.now + CLOSING, Deed::Closed(place, which));
                return;
            }
        }
        self.hurt(place, self.now + pause + GRACE);
        self.deeds.plan(self.now + pause, Deed::Start(place));
    }

    /// A holder gets another address, for good. Users hear of it; links and placements do not.
    fn move_holder(&mut self, place: Place) {
        let machine = &mut self.machines[place];
        self.network.set_place(machine.addr, None);
        let peer = machine.identity.peer();
        self.moved.entry(peer).or_insert(machine.addr);
        let IpAddr::V4(ip) = machine.addr.ip() else { unreachable!("all addresses are IPv4") };
        let [a, b, c, d] = ip.octets();
        machine.addr.set_ip(Ipv4Addr::from([a, b, c, d.wrapping_add(1)]).into());
        self.network.set_place(machine.addr, Some(place));
        for at in self.known.iter_mut().filter(|at| at.peer == peer) {
            at.addr = machine.addr;
        }
    }

    pub(super) fn hurt(&mut self, place: Place, until: Instant) {
        let works = self.origins.iter_mut().filter_map(|origin| origin.work.as_mut());
        self.atlas.hurt(place, until, works);
    }

    pub(super) fn start(&mut self, place: Place) {
        if self.machines[place].process.is_some() {
            return;
        }
        self.tally.restarts += 1;
        self.machines[place].setup.cores = match place < self.weather.large {
            true => large(&mut self.chance),
            false => 1 + self.chance.below(4) as u8,
        };
        self.log.say(self.now, &format!("{} starts", self.machines[place].name));
        self.set_clock_at_start(place);
        self.machines[place].start(self.now, &self.witness);
    }

    fn closed(&mut self, place: Place, which: u64) {
        let machine = &mut self.machines[place];
        if machine.starts != which {
            // It was killed meanwhile, and another one runs.
            return;
        }
        if let Some(process) = &machine.process {
            let open = process.cores.iter().position(|core| !core.engine.is_closed());
            let is_lame = self.atlas.is_ruined(place);
            if let (Some(core), false) = (open, is_lame) {
                let (name, waiting) = (machine.name.clone(), machine.disk.waiting());
                let held = process.cores[core].engine.held();
                let what = format!("core {core} of {name} has not closed after {CLOSING:?}");
                self.fail(format!("{what}: {held:?}, {waiting} file operations wait"));
            }
        }
        self.end(place, Machine::kill);
        self.start(place);
    }

    /// A holder's store failed: its node stops with an error, and somebody starts it again.
    pub(super) fn store_failed(&mut self, place: Place, why: &str) {
        self.log.fault(self.now, "a store failed and the node stopped", why);
        let was_hurt = self.atlas.hurt_now(self.now).contains(&place);
        if !was_hurt && !self.atlas.is_ruined(place) {
            self.fail(format!("the store of healthy {} failed: {why}", self.machines[place].name));
        }
        self.end(place, Machine::kill);
        // Its disk lied when the store was made: whoever runs it does what the message says.
        if self.atlas.is_ruined(place) && why.contains("use another data directory") {
            self.log.say(self.now, &format!("another disk for {}", self.machines[place].name));
            self.machines[place].disk.reformat();
        }
        if self.is_closing {
            return;
        }
        let at = self.now + Duration::from_secs(3);
        self.hurt(place, at + GRACE);
        self.deeds.plan(at, Deed::Start(place));
    }

    fn kill_origin(&mut self, place: Place) {
        self.end(place, Machine::kill);
        let pause = Duration::from_millis(100 + self.chance.below(3000));
        let origin = self.origins.iter_mut().find(|origin| origin.place == place);
        let origin = origin.expect("it is an origin's place");
        origin.next = self.now + pause + Duration::from_millis(100);
        self.deeds.plan(self.now + pause, Deed::Start(place));
    }

    /// What makes a holder as good as gone for a while.
    fn disturb(&mut self, fault: Fault, place: Place) {
        let lasts = Duration::from_millis(1000 + self.chance.below(29_000));
        let until = self.now + lasts;
        self.hurt(place, until + GRACE);
        self.deeds.plan(until, Deed::Well(place));
        let others = self.machines.len();
        match fault {
            Fault::Isolate => (0..others).for_each(|other| {
                self.network.sever(place, other);
                self.network.sever(other, place);
            }),
            Fault::Halve => (0..others).filter(|other| other % 2 != place % 2).for_each(|other| {
                self.network.sever(place, other);
                self.network.sever(other, place);
            }),
            Fault::OneWay => {
                let out = self.chance.below(2) == 0;
                (0..others).for_each(|other| match out {
                    true => self.network.sever(place, other),
                    false => self.network.sever(other, place),
                });
            }
            Fault::Storm => {
                let storm = Weather::storm(&mut self.chance);
                self.network.set_path(place, Some(storm));
            }
            Fault::SmallMtu => {
                let path = Path { mtu: 1280, ..self.network.usual() };
                self.network.set_path(place, Some(path));
            }
            Fault::Clog => {
                let held = Duration::from_millis(self.chance.below(5000));
                self.network.clog(place, self.now + held);
            }
            Fault::SlowDisk => self.machines[place].disk.slow_down(50, until),
            Fault::FullDisk => self.machines[place].disk.fill(true),
            Fault::ReadErrors => self.machines[place].disk.character.read_fails = 1000,
            Fault::WriteErrors => {
                self.machines[place].disk.character.write_fails = 500;
                self.machines[place].disk.character.sync_fails = 500;
            }
            _ => unreachable!("{fault:?} is no disturbance"),
        }
    }

    /// A disturbance is over.
    fn well(&mut self, place: Place) {
        self.network.mend(place);
        self.network.set_path(place, None);
        let machine = &mut self.machines[place];
        machine.disk.fill(false);
        let had_errors = machine.disk.character.write_fails > 0;
        if !self.atlas.is_ruined(place) {
            machine.disk.character.read_fails = 0;
        }
        machine.disk.character.write_fails = 0;
        machine.disk.character.sync_fails = 0;
        self.log.say(self.now, &format!("{} is well again", self.machines[place].name));
        // What a failed write closed for writing is looked at again at the next start.
        if had_errors && self.machines[place].process.is_some() {
            self.end(place, Machine::kill);
            self.hurt(place, self.now + GRACE);
            self.start(place);
        }
    }

    /// What a node must take without anybody noticing.
    fn annoy(&mut self, fault: Fault, place: Place) {
        match fault {
            Fault::Stall => {
                let until = self.now + Duration::from_millis(self.chance.below(500));
                let process = self.machines[place].process.as_mut().expect("it runs");
                let core = self.chance.below(process.cores.len() as u64) as usize;
                process.cores[core].stall(until);
            }
            Fault::ClockStep => {
                let seconds = self.chance.below(121) as i64 - 60;
                self.machines[place].clock.set_ahead(seconds);
            }
            Fault::Hog => {
                let process = self.machines[place].process.as_ref().expect("it runs");
                let core = self.chance.below(process.cores.len() as u64) as usize;
                let pool = self.chance.below(3) as usize;
                let pages = hog(&process.cores[core].pools[pool]);
                let until = self.now + Duration::from_millis(self.chance.below(1000));
                self.deeds.plan(until, Deed::Give(place, pages));
            }
            Fault::Rebind => {
                let mut addr = self.machines[place].addr;
                addr.set_port(addr.port() + 1);
                self.move_to(place, addr);
            }
            Fault::Roam => self.roam(place),
            _ => unreachable!("{fault:?} is no annoyance"),
        }
    }
}

impl World {
    /// Whoever is at `place` calls from another network from now on.
    pub(super) fn roam(&mut self, place: Place) {
        let mut addr = self.machines[place].addr;
        if let IpAddr::V4(ip) = addr.ip() {
            let [a, b, c, d] = ip.octets();
            addr.set_ip(IpAddr::from([a, b + 1, c, d]));
        }
        self.move_to(place, addr);
    }

    fn move_to(&mut self, place: Place, addr: SocketAddr) {
        let machine = &mut self.machines[place];
        self.network.set_place(machine.addr, None);
        machine.addr = addr;
        self.network.set_place(addr, Some(place));
    }
}

fn hog(pool: &PagePool) -> Vec<Page> {
    std::iter::from_fn(|| pool.take().ok()).collect()
}
