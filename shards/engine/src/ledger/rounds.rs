//! Grants that find no room, and what gives way to them.
//!
//! A round asks every core to let go of so many bytes, and ends when all of them have, or when its
//! wish has waited long enough (`MAKE_ROOM_PATIENCE`). First the owner's own things give way: what is over, and what its puts
//! that are over left without a manifest. If the node is full and still is, what is over of
//! anybody's does. At most one round is under way; a wish that comes meanwhile waits its turn.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use pangea_base::{CoreId, Locator, PeerId, Prefix};
use pangea_wire::StoreRefusal;

use super::rules::Shortage;
use super::{Desk, Ledger, LedgerAnswer, LedgerOutput};
use crate::grants::Caller;
use crate::limits::{
    MAKE_ROOM_EVERY, MAKE_ROOM_ROUNDS_MAX, WAITING_GRANTS_MAX, WAITING_GRANTS_PER_PEER_MAX,
};
use crate::message::MakeRoom;

/// A grant that is wished for.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) asker: CoreId,
    pub(super) ticket: u64,
    pub(super) origin: PeerId,
    pub(super) from: Prefix,
    pub(super) caller: Caller,
    pub(super) locator: Locator,
    pub(super) bytes: u64,
    /// Then it is decided, whatever gave way.
    pub(super) until: Instant,
}

/// Whose things give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Own,
    Anyones,
}

#[derive(Debug)]
struct Round {
    number: u64,
    // Nobody's, if who wished is gone.
    wish: Option<Wish>,
    step: Step,
    until: Instant,
    // Cores that have not answered.
    asked: BTreeSet<CoreId>,
}

/// The round under way, who waits behind it, and the rounds of the last second.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    under_way: Option<Round>,
    waiting: VecDeque<Wish>,
    // Who may have one from then on, because the last one for the same owner is so short ago.
    later: Vec<(Instant, Wish)>,
    // For whom one was begun; nobody: for what is over of anybody's.
    begun: VecDeque<(Instant, Option<PeerId>)>,
    number: u64,
}

impl Rounds {
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len() + self.later.len() + usize::from(self.under_way.is_some())
    }

    fn waiting_of(&self, origin: &PeerId) -> usize {
        let under_way = self.under_way.iter().filter_map(|round| round.wish.as_ref());
        let later = self.later.iter().map(|(_, wish)| wish);
        let all = under_way.chain(&self.waiting).chain(later);
        all.filter(|wish| wish.origin == *origin).count()
    }

    /// Whether another wish of this origin may wait.
    fn has_place(&self, origin: &PeerId) -> bool {
        self.waiting.len() + self.later.len() < WAITING_GRANTS_MAX
            && self.waiting_of(origin) < WAITING_GRANTS_PER_PEER_MAX
    }

    /// Nobody waits on this connection any more.
    pub(super) fn forget(&mut self, caller: Caller) {
        self.waiting.retain(|wish| wish.caller != caller);
        self.later.retain(|(_, wish)| wish.caller != caller);
        if let Some(round) = &mut self.under_way {
            round.wish = round.wish.take().filter(|wish| wish.caller != caller);
        }
    }

    /// When another may be begun for `whom`: not twice within a second.
    fn may_begin_at(&mut self, now: Instant, whom: Option<PeerId>) -> Instant {
        while self.begun.front().is_some_and(|(at, _)| *at + MAKE_ROOM_EVERY <= now) {
            self.begun.pop_front();
        }
        let same = self.begun.iter().find(|(_, of)| *of == whom);
        let first = self.begun.front().filter(|_| self.begun.len() >= MAKE_ROOM_ROUNDS_MAX);
        let barred = same.into_iter().chain(first).map(|(at, _)| *at + MAKE_ROOM_EVERY);
        barred.max().unwrap_or(now)
    }

    fn may_begin(&mut self, now: Instant, whom: Option<PeerId>) -> bool {
        self.may_begin_at(now, whom) <= now
    }

    /// Wishes that waited until now.
    fn due(&mut self, now: Instant) -> Vec<Wish> {
        let due = self.later.extract_if(.., |(at, wish)| *at <= now || wish.until <= now);
        due.map(|(_, wish)| wish).collect()
    }
}

impl Ledger {
    /// Somebody wishes for a grant.
    pub(super) fn wished(&mut self, desk: &mut Desk<'_>, wish: Wish) {
        if let Err(refusal) = self.may_store(wish.origin) {
            return self.say(wish.asker, wish.ticket, LedgerAnswer::Refused(refusal));
        }
        if !self.may_have_another(wish.origin, desk.now) {
            return self.say(wish.asker, wish.ticket, LedgerAnswer::Refused(StoreRefusal::Busy));
        }
        let Some((wish, shortage)) = self.decide(desk, wish) else { return };
        if self.rounds.under_way.is_none() {
            let at = self.rounds.may_begin_at(desk.now, Some(wish.origin));
            let has_own = self.accounts.owner(&wish.origin).taken.held > 0;
            let is_later = at > desk.now && at <= wish.until;
            if has_own && is_later && self.rounds.has_place(&wish.origin) {
                // What it left since its last round has its turn then.
                self.rounds.later.push((at, wish));
                return;
            }
            return self.begin_round(desk, wish, shortage, &[Step::Own, Step::Anyones]);
        }
        if !self.rounds.has_place(&wish.origin) {
            return self.say(wish.asker, wish.ticket, LedgerAnswer::Refused(StoreRefusal::Busy));
        }
        self.rounds.waiting.push_back(wish);
    }

    /// A core has let go of what it could in a round.
    pub(crate) fn room_made(&mut self, desk: &mut Desk<'_>, core: CoreId, number: u64) {
        self.let_go(desk.now, desk.wall);
        let Some(round) = &mut self.rounds.under_way else { return };
        if round.number == number {
            round.asked.remove(&core);
            if round.asked.is_empty() {
                self.end_round(desk);
            }
        }
    }

    /// Time passed.
    pub(crate) fn tick(&mut self, desk: &mut Desk<'_>) {
        if self.deadline().is_none_or(|at| at > desk.now) {
            return;
        }
        self.let_go(desk.now, desk.wall);
        // Who waited long enough behind others gets no round of its own.
        while self.rounds.waiting.front().is_some_and(|wish| wish.until <= desk.now) {
            let Some(wish) = self.rounds.waiting.pop_front() else { break };
            if let Some((wish, shortage)) = self.decide(desk, wish) {
                self.refuse(&wish, &shortage);
            }
        }
        if self.rounds.under_way.as_ref().is_some_and(|round| round.until <= desk.now) {
            self.end_round(desk);
        }
        for wish in self.rounds.due(desk.now) {
            self.wished(desk, wish);
        }
    }

    /// When [`Ledger::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let round = self.rounds.under_way.as_ref().map(|round| round.until);
        let waiting = self.rounds.waiting.front().map(|wish| wish.until);
        let later = self.rounds.later.iter().map(|(at, wish)| wish.until.min(*at));
        round.into_iter().chain(waiting).chain(later).min()
    }

    /// Gives the grant, or refuses it where nothing could give way. Otherwise what it lacks.
    fn decide(&mut self, desk: &mut Desk<'_>, wish: Wish) -> Option<(Wish, Shortage)> {
        let mut given = self.give(desk, &wish);
        if given.is_err() {
            // What this owner left behind on connections that have ended needs no round.
            for nonce in self.grants.left_alone_of(&wish.origin) {
                self.give_back(&nonce);
            }
            given = self.give(desk, &wish);
        }
        match given {
            Ok(grant) => self.say(wish.asker, wish.ticket, LedgerAnswer::Granted(grant)),
            Err(shortage) if shortage.hopeless => self.refuse(&wish, &shortage),
            Err(shortage) => return Some((wish, shortage)),
        }
        None
    }

    fn refuse(&mut self, wish: &Wish, shortage: &Shortage) {
        self.say(wish.asker, wish.ticket, LedgerAnswer::Refused(shortage.refusal));
    }

    /// The first of these steps that can bring something; if none can, the wish is refused.
    fn begin_round(&mut self, desk: &Desk<'_>, wish: Wish, shortage: Shortage, steps: &[Step]) {
        let on_disk = self.accounts.owner(&wish.origin).taken.held;
        if wish.until <= desk.now {
            return self.refuse(&wish, &shortage);
        }
        let can = |ledger: &mut Ledger, step: Step| match step {
            // Who has nothing here has nothing to give.
            Step::Own => on_disk > 0 && ledger.rounds.may_begin(desk.now, Some(wish.origin)),
            Step::Anyones => {
                let only_capacity = matches!(shortage.refusal, StoreRefusal::Full { .. });
                only_capacity && ledger.rounds.may_begin(desk.now, None)
            }
        };
        let Some(&step) = steps.iter().find(|step| can(self, **step)) else {
            return self.refuse(&wish, &shortage);
        };
        let (bytes, of, spare) = match step {
            Step::Own => (shortage.own, Some(wish.origin), self.grants.objects_of(wish.origin)),
            Step::Anyones => (shortage.any, None, Vec::new()),
        };
        let spare: Arc<[Locator]> = spare.into();
        self.rounds.begun.push_back((desk.now, of));
        self.rounds.number += 1;
        let number = self.rounds.number;
        let asked: BTreeSet<CoreId> = (0..self.cores).map(CoreId).collect();
        for &core in &asked {
            let room = MakeRoom { bytes, of, spare: spare.clone() };
            self.outputs.push_back(LedgerOutput::MakeRoom(core, number, room));
        }
        let until = wish.until;
        let wish = Some(wish);
        self.rounds.under_way = Some(Round { number, wish, step, until, asked });
    }

    /// The round's wish is decided by what is free now, and those that waited behind it too, up to
    /// the first that has a round of its own.
    fn end_round(&mut self, desk: &mut Desk<'_>) {
        let Some(Round { wish, step, .. }) = self.rounds.under_way.take() else { return };
        if let Some((wish, shortage)) = wish.and_then(|wish| self.decide(desk, wish)) {
            let rest: &[Step] = if step == Step::Own { &[Step::Anyones] } else { &[] };
            self.begin_round(desk, wish, shortage, rest);
        }
        while self.rounds.under_way.is_none() {
            let Some(wish) = self.rounds.waiting.pop_front() else { break };
            if let Some((wish, shortage)) = self.decide(desk, wish) {
                self.begin_round(desk, wish, shortage, &[Step::Own, Step::Anyones]);
            }
        }
    }
}
