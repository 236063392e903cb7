//! What origins do in a world, and what is checked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pangea_base::{PeerAddr, PeerId, Prefix};
use pangea_engine::client::{StatOutcome, Trouble};
use pangea_engine::limits::{PARCELS_MAX, SERVED_STREAMS_MAX};
use pangea_wire::{Label, StoreRefusal};

use super::atlas::Object;
use super::machine::{Machine, Process};
use super::network::{CANARY, Place};
use super::origin::{Content, Ended, Job, PutPlan, Work, named};
use super::planted::Plant;
use super::{World, core};

/// The longest that anything an origin does may take, whatever happens to it: every wait in it has
/// a deadline of its own, and objects are small.
const WORK_MAX: Duration = Duration::from_secs(600);
/// Objects of a world.
const OBJECTS_MAX: usize = 24;
/// For how many seconds objects are kept that nobody wants back.
const LEASE_BRIEF: u64 = 300;
/// In good weather a get beside squatters takes no longer: what they say is read and left aside.
const GET_BESIDE_SQUATTERS: Duration = Duration::from_secs(30);

impl World {
    pub(super) fn run_origins(&mut self) {
        for number in 0..self.origins.len() {
            let place = self.origins[number].place;
            let origin = &self.origins[number];
            let rings = self.machines[place].process.as_ref().and_then(|p| p.control.next());
            let is_due = origin.looks <= self.now || rings.is_some_and(|at| at <= self.now);
            if self.machines[place].process.is_none() {
                continue;
            }
            if origin.work.is_some() && is_due {
                self.work_on(number);
            } else if origin.work.is_none() {
                if rings.is_some_and(|at| at <= self.now) {
                    self.work_on(number);
                }
                if !self.is_calm && self.origins[number].next <= self.now {
                    self.begin_any(number);
                }
            }
        }
    }

    fn work_on(&mut self, number: usize) {
        let origin = &mut self.origins[number];
        let machine = &mut self.machines[origin.place];
        let node_now = machine.clock.instant(self.now);
        let Some(process) = &mut machine.process else { return };
        let ended = origin.run(self.now, node_now, process);
        if let Some(ended) = ended {
            let pause = self.weather.pause.as_millis() as u64;
            origin.next = self.now + Duration::from_millis(self.chance.below(pause * 2));
            let work = origin.finish();
            self.ended(number, ended, &work);
            self.origins[number].keep_numbers(work.job);
        } else if origin.work.as_ref().is_some_and(|work| work.ends_by < self.now) {
            let stage = origin.stage();
            self.fail(format!("origin {number} is still at it after {WORK_MAX:?}: {stage}"));
        }
    }

    fn begin_any(&mut self, number: usize) {
        let missing = self.atlas.missing(self.now);
        let tolerates = self.weather.tolerance();
        let wants_put = self.objects.len() < OBJECTS_MAX && self.chance.below(2) == 0;
        if wants_put || self.objects.is_empty() || self.origins[number].waits {
            self.origins[number].waits = self.weather.is_lawful && missing > tolerates;
            if self.origins[number].waits {
                // Too much is hurt just now. Nobody else is hurt until it had its turn, or worlds
                // whose code bears no loss would never see a put.
                self.origins[number].next = self.now + Duration::from_secs(1);
                return;
            }
            let job = self.put(number);
            self.begin(number, job, tolerates);
        } else {
            let object = self.chance.below(self.objects.len() as u64) as usize;
            if self.chance.below(6) == 0 {
                self.begin_stat(number, object);
            } else {
                self.begin_get(number, object);
            }
        }
    }

    fn begin(&mut self, number: usize, job: Job, tolerates: usize) {
        let (began, hurt) = (self.now, self.atlas.hurt_now(self.now));
        let work = Work { job, began, ends_by: began + WORK_MAX, hurt, tolerates };
        let origin = &mut self.origins[number];
        origin.work = Some(work);
        origin.looks = self.now;
    }

    fn put(&mut self, number: usize) -> Job {
        let content = self.content();
        let place = self.origins[number].place;
        let machine = &self.machines[place];
        let mut peers = self.named();
        let turn = self.chance.below(peers.len() as u64) as usize;
        peers.rotate_left(turn);
        let lease_seconds = if content.is_brief { LEASE_BRIEF } else { self.lease(place) };
        let plan = PutPlan {
            peers,
            code: self.weather.code,
            budget: self.weather.budget,
            owner: machine.identity.peer(),
            lease_seconds,
            cores: machine.setup.cores,
            content,
            label: Label::new("NOBODY MAY SEE.").ok().filter(|_| self.chance.below(2) == 0),
            compression: self.weather.compression,
        };
        self.log.say(self.now, &format!("origin {place} puts {} bytes", content.bytes));
        let node_now = machine.clock.instant(self.now);
        let entropy = self.chance.split();
        self.origins[number].put(node_now, plan, entropy)
    }

    fn content(&mut self) -> Content {
        let most = self.weather.object_bytes;
        let chance = &mut self.chance;
        let edges = [0, 1, 16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10];
        let bytes = match chance.below(4) {
            0 => chance.below(5000),
            1 => edges[chance.below(7) as usize] + chance.below(2),
            2 => chance.below(most / 4),
            _ => chance.below(most),
        };
        let is_brief = self.weather.idles && chance.below(2) == 0;
        let (bytes, is_text) = (bytes as usize, chance.below(3) == 0);
        Content { seed: chance.u64(), bytes, is_text, is_brief }
    }

    /// Whom users name, and where.
    fn named(&self) -> Vec<PeerAddr> {
        let old = |at: &PeerAddr| {
            self.moved.get(&at.peer).filter(|_| self.plant == Some(Plant::OldAddress))
        };
        let named = |at: &PeerAddr| PeerAddr { addr: *old(at).unwrap_or(&at.addr), ..*at };
        self.known.iter().map(named).collect()
    }

    /// Whether some holder of an object is not where it was once.
    fn has_moved(&self, object: usize) -> bool {
        self.objects[object].holders.iter().any(|peer| self.moved.contains_key(peer))
    }

    pub(super) fn begin_get(&mut self, number: usize, object: usize) {
        let place = self.origins[number].place;
        let cores = self.machines[place].setup.cores;
        // Where holders are that moved, the link does not say.
        let names = self.chance.below(2) == 0 || self.has_moved(object);
        let peers = if names { self.named() } else { Vec::new() };
        let Object { link, content, .. } = &self.objects[object];
        self.log.say(self.now, &format!("origin {place} gets object {object}"));
        let job = self.origins[number].get(link, peers, cores, object, *content);
        self.begin(number, job, 0);
    }

    fn begin_stat(&mut self, number: usize, object: usize) {
        let place = self.origins[number].place;
        let cores = self.machines[place].setup.cores;
        let peers = self.named();
        let job = self.origins[number].stat(&self.objects[object].link, &peers, cores, object);
        self.begin(number, job, 0);
    }

    fn ended(&mut self, number: usize, ended: Ended, work: &Work) {
        let took = self.now - work.began;
        match ended {
            Ended::Put(content, Ok(outcome), troubles) => {
                self.put_ended(number, content, outcome, &troubles);
            }
            Ended::Put(_, Err(error), troubles) => {
                self.tally.puts_failed += 1;
                self.check_names(&troubles);
                let why = self.told(&troubles);
                self.log.say(self.now, &format!("origin {number} put failed: {error:?}"));
                self.judge(work, format!("a put failed after {took:?}: {error:?}; {why}"));
            }
            Ended::Get { object, result, is_whole, is_wrong, troubles, bad } => {
                self.tally.gets += 1;
                if is_wrong {
                    self.fail(format!("a get of object {object} gave other bytes than were put"));
                }
                match result {
                    Ok(_) if is_whole => {
                        self.check_pace(object, work);
                        self.tally.bytes += self.objects[object].content.bytes as u64
                    }
                    Ok(_) => self.fail(format!("a get of object {object} gave too few bytes")),
                    Err(error) => {
                        self.tally.gets_failed += 1;
                        let why = format!("{}; bad: {}", self.told(&troubles), self.told(&bad));
                        self.log.say(self.now, &format!("get {object} failed: {error:?}"));
                        let what = format!("a get of object {object} failed after {took:?}");
                        self.judge(work, format!("{what}: {error:?}; {why}"));
                    }
                }
                self.blame(&bad);
            }
            Ended::Stat(object, result) => {
                self.tally.stats += 1;
                match result {
                    Ok(outcome) if self.is_counting => self.check_held(object, &outcome),
                    Ok(_) => {}
                    Err(error) => {
                        self.judge(work, format!("a stat of object {object} failed: {error:?}"));
                    }
                }
            }
        }
    }

    fn put_ended(
        &mut self,
        number: usize,
        content: Content,
        outcome: pangea_engine::client::PutOutcome,
        troubles: &[Trouble],
    ) {
        self.tally.puts += 1;
        self.tally.puts_degraded += u64::from(!outcome.complete);
        self.tally.bytes += content.bytes as u64;
        let known: BTreeSet<_> = self.known.iter().map(|addr| addr.peer).collect();
        let holders: BTreeSet<_> = outcome.holders.iter().copied().collect();
        if !holders.is_subset(&known) {
            self.fail("a put names a holder that nobody was told of".to_owned());
        }
        let (n, k) = (outcome.code.n(), outcome.code.k());
        if holders.len() < k || outcome.survives_losses > n - k {
            self.fail(format!("a put of {k} of {n} counts {} holders", holders.len()));
        }
        if outcome.complete && outcome.survives_losses != n - k {
            self.fail(format!("a complete put survives {} losses", outcome.survives_losses));
        }
        if outcome.bytes != content.bytes as u64 {
            self.fail(format!("a put of {} bytes counts {}", content.bytes, outcome.bytes));
        }
        let state = if outcome.complete { "complete" } else { "degraded" };
        let told = if outcome.complete { String::new() } else { self.told(troubles) };
        self.log.say(self.now, &format!("origin {number}: put is {state} {told}"));
        self.check_names(troubles);
        let survives = outcome.survives_losses;
        let link = outcome.link;
        let locator = link.verify_key().locator();
        for visitor in &mut self.visitors {
            visitor.actor.told_of(locator);
            visitor.busy = true;
        }
        if !content.is_brief {
            self.objects.push(Object { content, link, holders, survives });
        }
    }

    /// No put suffers from what others stored: nobody honest has other bytes under a name of an
    /// object that is new.
    fn check_names(&mut self, troubles: &[Trouble]) {
        let taken = StoreRefusal::AlreadyHeldDifferent.to_string();
        let found = troubles.iter().find(|(peer, why)| self.is_sound(peer) && why.contains(&taken));
        if let Some((peer, why)) = found {
            let name = self.name(peer);
            self.fail(format!("a put suffers from what others stored: {name}: {why}"));
        }
    }

    /// Where nothing is wrong but that squatters are there, a get takes no longer than it should.
    fn check_pace(&mut self, object: usize, work: &Work) {
        let took = self.now - work.began;
        let is_fair = self.is_calm && self.only_squatters && work.hurt.is_empty();
        if is_fair && self.weather.liars == 0 && took > GET_BESIDE_SQUATTERS {
            self.fail(format!("a get of object {object} took {took:?}, and nothing was wrong"));
        }
    }

    /// One of the world's own nodes, of which nothing is lost.
    fn is_sound(&self, peer: &PeerId) -> bool {
        let place = self.machines.iter().position(|m| m.identity.peer() == *peer);
        place.is_some_and(|place| !self.atlas.is_ruined(place))
    }

    /// Who signed a receipt and lost nothing has the shard: that enough others have theirs is no
    /// excuse.
    fn check_held(&mut self, object: usize, outcome: &StatOutcome) {
        let mut wrong = Vec::new();
        for chunk in &outcome.chunks {
            for (index, peer, there) in &chunk.shards {
                let place = self.machines.iter().position(|m| m.identity.peer() == *peer);
                if !there && place.is_some_and(|place| !self.atlas.is_ruined(place)) {
                    let (chunk, index, name) = (chunk.chunk.0, index.0, self.name(peer));
                    let trouble = outcome.holders.iter().find(|holder| holder.peer == *peer);
                    let why = trouble.and_then(|holder| holder.trouble.as_deref()).unwrap_or("");
                    wrong.push(format!(
                        "{name} signed a receipt for shard {index} of chunk {chunk} of object \
                         {object} and has it no more {why}"
                    ));
                }
            }
        }
        wrong.into_iter().for_each(|what| self.fail(what));
    }

    /// Who is called a liar must be one.
    fn blame(&mut self, bad: &[Trouble]) {
        if let Some((peer, why)) = bad.iter().find(|(peer, _)| self.is_sound(peer)) {
            let name = self.name(peer);
            self.fail(format!("honest {name} is called a liar: {why}"));
        }
    }

    /// A failure must have its reason in what the world did.
    fn judge(&mut self, work: &Work, what: String) {
        if !self.atlas.explains(work, &self.objects) {
            let hurt: Vec<&Place> = work.hurt.iter().collect();
            self.fail(format!("{what}; hurt meanwhile: {hurt:?}"));
        }
    }

    fn told(&self, troubles: &[Trouble]) -> String {
        named(troubles, |peer| self.name(peer))
    }

    fn name(&self, peer: &PeerId) -> String {
        let machine = self.machines.iter().find(|machine| machine.identity.peer() == *peer);
        machine.map_or_else(|| format!("{peer}"), |machine| machine.name.clone())
    }

    /// Nobody of a process sleeps through what came for it.
    pub(super) fn check_bells(&mut self, place: Place) {
        let machine = &self.machines[place];
        let sleeper = machine.process.as_ref().and_then(|process| process.overslept());
        if let Some(who) = sleeper {
            self.fail(format!("{who} of {} sleeps with something on the mesh", machine.name));
        }
    }

    /// What must hold at every moment.
    pub(super) fn check(&mut self) {
        self.check_clocks();
        let mut wrong = Vec::new();
        for machine in &self.machines {
            let Some(process) = &machine.process else { continue };
            for (number, core) in process.cores.iter().enumerate() {
                let held = core.engine.held();
                let name = format!("core {number} of {}", machine.name);
                if held.requests > SERVED_STREAMS_MAX {
                    wrong.push(format!("{name} serves {} requests", held.requests));
                }
                if core.parcels_most > PARCELS_MAX {
                    wrong.push(format!("{name} had {} parcels waiting", core.parcels_most));
                }
            }
        }
        for peer in self.log.taken.drain(..) {
            let is_known = self.known.iter().any(|addr| addr.peer == peer);
            if !is_known || self.forgers.contains(&peer) {
                wrong
                    .push(format!("an origin took a receipt of {peer}, who never gave a good one"));
            }
        }
        if let Some(leak) = self.network.leak.take() {
            wrong.push(leak);
        }
        if let Some((key, packet)) = self.witness.twice() {
            wrong.push(format!("packet number {packet} was used twice under key {key:x}"));
        }
        wrong.into_iter().for_each(|what| self.fail(what));
    }

    /// The enemies leave.
    pub fn dismiss(&mut self) {
        for (number, visitor) in self.visitors.drain(..).enumerate() {
            let place = self.machines.len() + number;
            let deeds = visitor.actor.deeds().iter();
            deeds.for_each(|(name, count)| *self.deeds_done.entry(*name).or_default() += count);
            self.network.forget(place);
        }
    }

    /// What must hold when nothing is under way any more.
    pub fn check_quiet(&mut self) {
        let mut wrong = Vec::new();
        for machine in &mut self.machines {
            let Some(process) = &machine.process else {
                wrong.push(format!("{} does not run", machine.name));
                continue;
            };
            for (number, core) in process.cores.iter().enumerate() {
                let held = core.engine.held();
                if held != pangea_engine::EngineHeld::default() {
                    wrong.push(format!("core {number} of {} holds {held:?}", machine.name));
                }
                if !core.is_quiet() {
                    wrong.push(format!("core {number} of {} is not quiet", machine.name));
                }
            }
            let used: u64 = process.cores.iter().map(|core| core.engine.stats().bytes).sum();
            let (ledger, _) = process.cores[0].engine.ledger().unwrap_or_default();
            if ledger != used {
                wrong.push(format!("{}: the ledger has {ledger}, the disk {used}", machine.name));
            }
            wrong.extend(accounts_differ(&machine.name, process));
            if let Some(file) = machine.disk.find(CANARY) {
                wrong.push(format!("{}: plaintext in {file}", machine.name));
            }
        }
        for origin in &self.origins {
            if origin.pages_out() > 0 {
                wrong.push(format!("origin {} lost {} pages", origin.place, origin.pages_out()));
            }
        }
        wrong.into_iter().for_each(|what| self.fail(what));
    }

    /// After a process is gone: no page is missing.
    pub(super) fn check_pages(&mut self, pools: Vec<(String, [pangea_base::PagePool; 3])>) {
        for (name, pools) in pools {
            for (pool, what) in pools.iter().zip(core::POOLS) {
                let (there, all) = (pool.available(), pool.pages_max());
                if there != all {
                    self.fail(format!("{name}: {} {what} are missing", all - there));
                }
            }
        }
    }
}

/// The accounts of a node's ledger in which is something else than its disks' entries say, by owner
/// and network.
fn accounts_differ(name: &str, process: &Process) -> Option<String> {
    let mut accounts: BTreeMap<(PeerId, Prefix), (u64, u64)> = BTreeMap::new();
    for (owner, from, bytes) in process.cores.iter().flat_map(|core| core.engine.on_disk()) {
        accounts.entry((owner, from)).or_default().0 += bytes;
    }
    for (owner, from, bytes) in process.cores[0].engine.accounts().unwrap_or_default() {
        accounts.entry((owner, from)).or_default().1 += bytes;
    }
    let differs = |(_, (disk, ledger)): &(_, (u64, u64))| disk != ledger;
    let ((owner, from), (disk, ledger)) = accounts.into_iter().find(differs)?;
    Some(format!("{name}: of {owner} from {from:?} the ledger has {ledger}, the disk {disk}"))
}

impl World {
    /// Before a day on which nothing happens: some nodes are started anew, and whoever stored
    /// something calls from another network.
    pub fn evening(&mut self) {
        for number in 0..self.origins.len() {
            self.roam(self.origins[number].place);
        }
        for place in 0..self.weather.holders {
            if self.chance.below(2) == 0 {
                self.end(place, Machine::kill);
                self.start(place);
            }
        }
    }

    /// Everybody stands still for so long; then all of it is there at once.
    pub fn stand_still(&mut self, time: Duration) {
        self.log.say(self.now, "everybody stands still");
        self.kept_before = self.bytes_kept();
        self.now += time;
        self.checked_at = self.now;
    }

    /// What had to be freed is freed.
    pub fn check_freed(&mut self) {
        self.tally.freed += self.kept_before.saturating_sub(self.bytes_kept());
    }

    fn bytes_kept(&self) -> u64 {
        let cores = self.machines.iter().flat_map(|machine| &machine.process);
        cores.flat_map(|process| &process.cores).map(|core| core.engine.stats().bytes).sum()
    }

    /// Nobody is at work, every process runs and no deed is left to do.
    pub fn is_idle(&mut self) -> bool {
        if self.read_next() {
            return false;
        }
        self.origins.iter().all(|origin| origin.work.is_none())
            && self.machines.iter().all(|machine| machine.process.is_some())
            && self.deeds.next().is_none()
    }

    /// Every object is to be read once more.
    pub fn read_all(&mut self) {
        self.to_read = (0..self.objects.len()).collect();
    }

    /// Of every object each receipt is compared with what its holder has.
    pub fn count_all(&mut self) {
        self.is_counting = true;
        self.to_count = (0..self.objects.len()).collect();
    }

    /// Origins without work read what is left to be read; true: there is something left.
    fn read_next(&mut self) -> bool {
        for number in 0..self.origins.len() {
            let is_free = self.origins[number].work.is_none()
                && self.machines[self.origins[number].place].process.is_some();
            if is_free && let Some(object) = self.to_read.pop() {
                // What is lost beyond repair is not asked for: that it is an error, was shown.
                self.begin_get(number, object);
            } else if is_free && let Some(object) = self.to_count.pop() {
                self.begin_stat(number, object);
            }
        }
        !self.to_read.is_empty() || !self.to_count.is_empty()
    }

    /// What origins are doing.
    pub fn stages(&self) -> String {
        let stages = self.origins.iter().map(|o| format!("origin {}: {}", o.place, o.stage()));
        stages.collect::<Vec<_>>().join(", ")
    }

    /// Tells every process to close.
    pub fn close(&mut self) {
        self.is_closing = true;
        for machine in &mut self.machines {
            if let Some(process) = &mut machine.process {
                process.close(self.now);
            }
        }
    }

    /// Every process has closed; then it is gone.
    pub fn check_closed(&mut self) {
        let mut wrong = Vec::new();
        for machine in &self.machines {
            let Some(process) = &machine.process else { continue };
            for (number, core) in process.cores.iter().enumerate() {
                if !core.engine.is_closed() {
                    wrong.push(format!("core {number} of {} does not close", machine.name));
                }
            }
            if machine.disk.open_files() > 0 {
                wrong.push(format!(
                    "{} left {} files open",
                    machine.name,
                    machine.disk.open_files()
                ));
            }
        }
        wrong.into_iter().for_each(|what| self.fail(what));
        (0..self.machines.len()).for_each(|place| self.end(place, Machine::kill));
    }
}
