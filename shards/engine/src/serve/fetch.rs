//! Giving back what is held: find it on one of the cores, then send it as the peer takes it.

use std::collections::BTreeMap;

use bytes::Bytes;
use pangea_base::{CoreId, GROUP_BYTES, Locator, Page, PeerId, UnixTime};
use pangea_store::{OwnedShard, Owners, PlacementFound, ShardInfo};
use pangea_wire::{
    FetchRefusal, FetchRequest, FetchResponse, PlacementOf, ShardBegins, ShardHeld,
    limits::STAT_SHARDS_MAX, table_bytes,
};

use super::{Next, Serve, Stage};
use crate::holdings::{Asked, Delivery};
use crate::limits::SEND_AHEAD_PAGES;
use crate::message::{HoldingAnswer, HoldingQuestion};
use crate::request;
use crate::shared::Shared;

/// Bytes of one read from the store.
const READ_BYTES: u64 = 64 * 1024;

/// A question to all cores of the node, the own first.
pub(super) struct Lookup {
    asked: FetchRequest,
    question: HoldingQuestion,
    // Cores still to be asked, the next one last.
    cores: Vec<CoreId>,
    outstanding: Option<u64>,
    answers: Vec<(CoreId, HoldingAnswer)>,
    // Set once the shard is found and its head is on its way.
    info: Option<ShardInfo>,
    // Set once it is known whose placement page it is, and whether other owners follow.
    placement: Option<(PeerId, bool)>,
}

/// A shard on its way to a peer.
pub(super) struct Sending {
    shard: OwnedShard,
    from: CoreId,
    length: u64,
    first_group: u32,
    // Where the next page that is asked for begins, and the next that is sent.
    next_read: u64,
    next_send: u64,
    reads: BTreeMap<u64, u64>,
    ready: BTreeMap<u64, Page>,
    failed: Option<String>,
}

impl Lookup {
    pub(super) fn delivered(&mut self, delivery: Delivery) {
        if self.outstanding == Some(delivery.ticket) {
            self.outstanding = None;
            self.answers.push((delivery.from, delivery.answer));
        }
    }

    /// All cores have said which placement page they have: the one to be read, if there is any.
    fn choose(&mut self, locator: Locator, page: u32) -> bool {
        let Some((from, found)) = chosen(self.answers.drain(..)) else { return false };
        self.question = HoldingQuestion::Placement(locator, page, Owners::Of(found.owner));
        self.cores = vec![from];
        self.placement = Some((found.owner, found.more));
        true
    }
}

impl Sending {
    fn new(shard: OwnedShard, from: CoreId, info: &ShardInfo, first_group: u32) -> Sending {
        let start = u64::from(first_group) * GROUP_BYTES as u64;
        Sending {
            shard,
            from,
            length: info.length,
            first_group,
            next_read: start - start % READ_BYTES,
            next_send: start - start % READ_BYTES,
            reads: BTreeMap::new(),
            ready: BTreeMap::new(),
            failed: None,
        }
    }

    pub(super) fn waits_for_us(&self) -> bool {
        !self.reads.is_empty() || self.ready.is_empty()
    }

    pub(super) fn delivered(&mut self, delivery: Delivery) {
        let Some(offset) = self.reads.remove(&delivery.ticket) else { return };
        match delivery.answer {
            HoldingAnswer::Page(page) => {
                self.ready.insert(offset, page);
            }
            HoldingAnswer::Busy => self.next_read = self.next_read.min(offset),
            HoldingAnswer::Failed(why) => self.failed = Some(why),
            _ => self.failed = Some("the shard is gone".to_owned()),
        }
    }

    /// The next bytes of the shard, if its page has come.
    fn take_ready(&mut self) -> Option<Bytes> {
        let page = self.ready.remove(&self.next_send)?;
        let start = u64::from(self.first_group) * GROUP_BYTES as u64;
        let skip = usize::try_from(start.saturating_sub(self.next_send)).unwrap_or(0);
        self.next_send += READ_BYTES;
        let bytes = Bytes::from_owner(page);
        Some(bytes.slice(skip.min(bytes.len())..))
    }
}

impl Serve {
    pub(super) fn fetch_request(&mut self, shared: &mut Shared, id: u64) -> Next {
        let Some(request) = self.requests.get_mut(&id) else { return Next::Wait };
        let asked = match request.reader.message::<FetchRequest>() {
            Ok(Some(asked)) => asked,
            Ok(None) => return self.read(shared, id),
            Err(sent) => return self.misbehaved(shared, id, &sent),
        };
        let question = question(&asked);
        let own = shared.core;
        let mut cores: Vec<CoreId> =
            (0..shared.cores).rev().map(CoreId).filter(|&core| core != own).collect();
        cores.push(own);
        let lookup = Lookup {
            asked,
            question,
            cores,
            outstanding: None,
            answers: Vec::new(),
            info: None,
            placement: None,
        };
        request.stage = Stage::Lookup(Box::new(lookup));
        Next::Again
    }

    /// Asks one core after the other until one has it (or, for a list, until all have answered).
    pub(super) fn lookup(&mut self, shared: &mut Shared, id: u64) -> Next {
        let Some(request) = self.requests.get_mut(&id) else { return Next::Wait };
        let Stage::Lookup(lookup) = &mut request.stage else { return Next::Again };
        if lookup.outstanding.is_some() {
            return Next::Wait;
        }
        if let Some((from, HoldingAnswer::Busy)) = lookup.answers.last() {
            let from = *from;
            lookup.answers.pop();
            lookup.cores.push(from);
            self.starved.insert(id);
            return Next::Wait;
        }
        let all_wanted = matches!(
            lookup.question,
            HoldingQuestion::Shards(..) | HoldingQuestion::PlacementOf(..)
        );
        let found = lookup
            .answers
            .last()
            .is_some_and(|(_, answer)| !matches!(answer, HoldingAnswer::NotHere) && !all_wanted);
        if !found && let Some(core) = lookup.cores.pop() {
            let question = lookup.question.clone();
            match self.holdings.ask(shared, core, id, question) {
                Asked::Ticket(ticket) => lookup.outstanding = Some(ticket),
                Asked::Later => {
                    lookup.cores.push(core);
                    self.starved.insert(id);
                }
            }
            return Next::Wait;
        }
        request.conclude(shared)
    }

    /// Sends a shard as fast as the peer takes it, reading a few pages ahead.
    pub(super) fn sending(&mut self, shared: &mut Shared, id: u64) -> Next {
        let Some(request) = self.requests.get_mut(&id) else { return Next::Wait };
        let Stage::Sending(sending) = &mut request.stage else { return Next::Again };
        if let Some(why) = &sending.failed {
            tracing::warn!("a shard could not be read: {why}");
            return Next::Over(request::CANCELLED);
        }
        let mut starved = false;
        while sending.next_read < sending.length
            && sending.reads.len() + sending.ready.len() < SEND_AHEAD_PAGES
        {
            let offset = sending.next_read;
            if sending.ready.contains_key(&offset) || sending.reads.values().any(|&o| o == offset) {
                sending.next_read += READ_BYTES;
                continue;
            }
            let question = HoldingQuestion::Page(sending.shard, offset);
            match self.holdings.ask(shared, sending.from, id, question) {
                Asked::Ticket(ticket) => {
                    sending.reads.insert(ticket, offset);
                    sending.next_read += READ_BYTES;
                }
                Asked::Later => {
                    starved = sending.reads.is_empty() && sending.ready.is_empty();
                    break;
                }
            }
        }
        if starved {
            self.starved.insert(id);
        }
        if let Some(bytes) = sending.take_ready() {
            request.out.push(bytes);
            return Next::Again;
        }
        if sending.next_send >= sending.length {
            request.stage = Stage::Answered;
            return Next::Again;
        }
        Next::Wait
    }
}

impl super::Request {
    fn refuse(&mut self, shared: &Shared, refusal: FetchRefusal) {
        self.refused(shared, &refusal);
        self.answer(&FetchResponse::Refused(refusal));
    }

    /// All cores that had to be asked have answered.
    fn conclude(&mut self, shared: &mut Shared) -> Next {
        let Stage::Lookup(lookup) = &mut self.stage else { return Next::Again };
        if let HoldingQuestion::Shards(..) = lookup.question {
            let answer = stat(lookup, shared.wall);
            self.answer(&answer);
            return Next::Again;
        }
        if let HoldingQuestion::PlacementOf(locator, page, _) = lookup.question
            && lookup.choose(locator, page)
        {
            return Next::Again;
        }
        let (from, answer) = lookup.answers.pop().unwrap_or((shared.core, HoldingAnswer::NotHere));
        match (answer, &lookup.asked) {
            (HoldingAnswer::Shard(shard, info), FetchRequest::GetShard { first_group, .. }) => {
                let first_group = *first_group;
                if u64::from(first_group) >= pangea_base::group_count(info.length) {
                    self.refuse(shared, FetchRefusal::BeyondEnd);
                    return Next::Again;
                }
                let begins = ShardBegins { length: info.length, root: info.root, first_group };
                self.out.push(pangea_wire::frame(&FetchResponse::Shard(begins)));
                // The group table is asked for next, of the core that has the shard.
                lookup.question = HoldingQuestion::Table(shard);
                lookup.cores = vec![from];
                lookup.answers.clear();
                lookup.info = Some(info);
                Next::Again
            }
            (HoldingAnswer::Table(table), FetchRequest::GetShard { first_group, .. }) => {
                let (Some(info), &HoldingQuestion::Table(shard)) = (lookup.info, &lookup.question)
                else {
                    return Next::Over(request::CANCELLED);
                };
                let sending = Sending::new(shard, from, &info, *first_group);
                self.out.push(table_bytes(&table));
                self.stage = Stage::Sending(Box::new(sending));
                Next::Again
            }
            (HoldingAnswer::Blob(bytes), _) => {
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let head = match lookup.placement {
                    Some((owner, more)) => FetchResponse::Placement { owner, length, more },
                    None => FetchResponse::Blob { length },
                };
                self.answer(&head);
                self.out.push(bytes);
                Next::Again
            }
            (HoldingAnswer::Failed(why), _) => {
                tracing::warn!("what was asked for could not be read: {why}");
                if lookup.info.is_some() {
                    return Next::Over(request::CANCELLED);
                }
                self.refuse(shared, FetchRefusal::Damaged);
                Next::Again
            }
            _ if lookup.info.is_some() => Next::Over(request::CANCELLED),
            _ => {
                self.refuse(shared, FetchRefusal::NotHeld);
                Next::Again
            }
        }
    }
}

fn question(asked: &FetchRequest) -> HoldingQuestion {
    match *asked {
        FetchRequest::GetShard { key, root, .. } => HoldingQuestion::Shard(key, root),
        FetchRequest::GetManifest { locator, page } => HoldingQuestion::Manifest(locator, page),
        FetchRequest::GetPlacement { locator, page, whose } => {
            let whose = match whose {
                PlacementOf::Owner(owner) => Owners::Of(owner),
                PlacementOf::First => Owners::First,
                PlacementOf::Behind(owner) => Owners::Behind(owner),
            };
            HoldingQuestion::PlacementOf(locator, page, whose)
        }
        FetchRequest::Stat { locator, owner, .. } => HoldingQuestion::Shards(locator, owner),
    }
}

/// Of what all cores have, the page of the first owner, the newest if several cores have one; and
/// whether others follow.
fn chosen(
    answers: impl Iterator<Item = (CoreId, HoldingAnswer)>,
) -> Option<(CoreId, PlacementFound)> {
    let found = |(core, answer)| match answer {
        HoldingAnswer::PlacementFound(found) => Some((core, found)),
        _ => None,
    };
    let all: Vec<(CoreId, PlacementFound)> = answers.filter_map(found).collect();
    let first = all.iter().map(|(_, found)| found.owner).min()?;
    let more = all.iter().any(|(_, found)| found.more || found.owner > first);
    let of_first = all.into_iter().filter(|(_, found)| found.owner == first);
    let (core, newest) = of_first.max_by_key(|(_, found)| found.order)?;
    Some((core, PlacementFound { more, ..newest }))
}

/// What all cores hold of an object, from where the asker left off.
fn stat(lookup: &mut Lookup, now: UnixTime) -> FetchResponse {
    let FetchRequest::Stat { after, .. } = lookup.asked else {
        return FetchResponse::Refused(FetchRefusal::Internal);
    };
    let mut shards: Vec<ShardHeld> = Vec::new();
    for (_, answer) in lookup.answers.drain(..) {
        if let HoldingAnswer::Shards(part) = answer {
            shards.extend(part);
        }
    }
    let place = |shard: &ShardHeld| (shard.chunk, shard.index, shard.root);
    shards.retain(|shard| after.is_none_or(|after| place(shard) > after));
    // Of the same bytes that several keep, the last end.
    shards.sort_by_key(|shard| (place(shard), std::cmp::Reverse(shard.until)));
    shards.dedup_by_key(|shard| place(shard));
    let more = shards.len() > STAT_SHARDS_MAX;
    shards.truncate(STAT_SHARDS_MAX);
    FetchResponse::Stat { now, shards, more }
}
