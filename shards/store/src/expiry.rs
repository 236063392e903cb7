//! Deleting: when it is asked for, when something was over or without a manifest for a day, and when
//! room is needed.

use std::collections::{BTreeMap, BTreeSet};

use pangea_base::{Locator, PeerId, UnixTime};

use crate::format::Put;
use crate::index::{BlobFound, Cursor, Found, Rootless, disk_bytes};
use crate::journal::{Deletion, Item};
use crate::limits::{DELETES_MAX, EXPIRE_STEP_MAX, ORPHAN_SECONDS, OVER_SECONDS, STRAYS_MAX};
use crate::store::Store;
use crate::types::{Clock, DeleteRefused, Event, Expired, Key, Lacks, MakeRoom, Stray, Why};

/// Keys of one object that are looked at together.
const KEYS_AT_ONCE: usize = 64;

/// What time decides, and where it stands.
#[derive(Default)]
pub(crate) struct Expiry {
    /// The last time that was believed: what ends before it is over.
    over_before: Option<UnixTime>,
    /// When the clock began to be believed; `None` while it is doubted.
    believed_since: Option<UnixTime>,
    last: Option<Cursor>,
    /// What is old and kept by nothing here, until the other cores are asked.
    strays: BTreeSet<Stray>,
    rooms: BTreeMap<u64, Room>,
    next_room: u64,
}

/// Deletions of one `make_room`.
struct Room {
    token: u64,
    left: usize,
    bytes: u64,
}

/// What a `make_room` has begun.
struct Begun {
    room: u64,
    wanted: u64,
    bytes: u64,
    count: usize,
    looked_at: usize,
}

impl Begun {
    fn enough(&self) -> bool {
        self.bytes >= self.wanted || self.looked_at >= EXPIRE_STEP_MAX
    }
}

impl Store {
    /// Whether what ends then is over. While the clock is doubted nothing becomes it.
    pub(crate) fn is_over(&self, until: UnixTime) -> bool {
        self.expiry.over_before.is_some_and(|before| until <= before)
    }

    /// Whether all shards that its owner had with this blob are over.
    pub(crate) fn is_blob_over(&self, found: &BlobFound) -> bool {
        found.until.is_some_and(|until| self.is_over(until))
    }

    /// Deletes a shard or blob. It is gone at once; [`Event::Deleted`] follows when that is
    /// durable and its space is given back.
    pub fn delete(&mut self, key: Key) -> Result<(), DeleteRefused> {
        self.delete_for(key, Why::Asked, None).map(|_| ())
    }

    fn delete_for(&mut self, key: Key, why: Why, room: Option<u64>) -> Result<u64, DeleteRefused> {
        if !self.is_open() {
            return Err(DeleteRefused::NotReady);
        }
        if self.poisoned.is_some() {
            return Err(DeleteRefused::Poisoned);
        }
        if self.deleting.len() >= DELETES_MAX {
            return Err(DeleteRefused::TooManyDeletes { limit: DELETES_MAX });
        }
        if self.forgetting.contains(&key) {
            return Err(DeleteRefused::HeldTwice);
        }
        let partition = self.index.partition(&key).ok_or(DeleteRefused::NotHeld)?;
        if self.writes.keys.contains(&key) {
            // It makes way as soon as that is durable; its deletion must not come behind that.
            return Err(DeleteRefused::BeingWritten);
        }
        let put = self.index.remove(&key).ok_or(DeleteRefused::NotHeld)?;
        let bytes = disk_bytes(&put.runs);
        self.deleting.insert(key);
        self.enqueue(partition, Item::Delete(Deletion { put, why, room }));
        Ok(bytes)
    }

    pub(crate) fn delete_is_durable(&mut self, partition: u8, deletion: Deletion) {
        let Deletion { put, why, room } = deletion;
        let Put { key, prefix, runs, until, .. } = put;
        self.deleting.remove(&key);
        let bytes = disk_bytes(&runs);
        runs.into_iter().for_each(|run| self.release(partition, run));
        let until = matches!(key, Key::Shard(_)).then_some(until);
        self.events.push_back(Event::Deleted { key, prefix, bytes, why, until });
        if let Some(room) = room {
            self.room_has(room, bytes);
        }
    }

    /// Takes the time: what is stored from now on is stamped with it. Whoever counts leases from a
    /// clock says first what it shows, or stamp and end are of two clocks where it was just set.
    pub fn tell_time(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// Takes the time and, if it is believed, looks for what is over by it: that is no longer seen.
    /// What was over for 24 hours is deleted, and so are shards whose manifest did not come within
    /// 24 hours, and blobs without a shard for as long. One step of a round; call it again soon
    /// while `seen` is [`EXPIRE_STEP_MAX`].
    pub fn expire(&mut self, clock: Clock) -> Expired {
        self.clock = clock;
        let mut done = Expired::default();
        for part in self.partitions.values_mut() {
            part.journal.stuck = false;
        }
        self.tight = false;
        self.work = true;
        let Clock::Believed(now) = clock else {
            self.expiry.believed_since = None;
            return done;
        };
        let since = *self.expiry.believed_since.get_or_insert(now);
        self.expiry.over_before = Some(now);
        while (done.seen as usize) < EXPIRE_STEP_MAX && self.deleting.len() < DELETES_MAX {
            let Some(found) = self.index.after(self.expiry.last) else {
                self.expiry.last = None;
                break;
            };
            self.expiry.last = Some(found.cursor);
            done.seen += 1;
            if found.until <= now && self.index.note_over(&found) {
                done.over += 1;
            }
            let Some(why) = found.is_to_go(now, since) else { continue };
            if let Some(stray) = self.stray(&found, why) {
                if self.expiry.strays.len() < STRAYS_MAX {
                    self.expiry.strays.insert(stray);
                }
                continue;
            }
            if self.delete_for(found.key, why, None).is_ok() {
                match found.key {
                    Key::Shard(_) => done.shards += 1,
                    Key::Blob(_) => done.blobs += 1,
                }
            }
        }
        done
    }

    /// What would be let go for its age if this core knew all of its object; `None`: it does.
    fn stray(&self, found: &Found, why: Why) -> Option<Stray> {
        let lacks = match found.key {
            Key::Shard(_) if why == Why::Over => return None,
            Key::Shard(_) => Lacks::Root,
            Key::Blob(_) => Lacks::Shards,
        };
        let (owner, locator) = (found.key.owner(), found.key.locator());
        (self.config.cores > 1).then_some(Stray { owner, locator, lacks })
    }

    /// What [`Store::expire`] found to be old and kept by nothing here; each is told once, and
    /// again if it is met again. It stays until [`Store::let_go`].
    pub fn strays(&mut self) -> Vec<Stray> {
        std::mem::take(&mut self.expiry.strays).into_iter().collect()
    }

    /// Whether this core has what a stray of another one lacks. A store that is not open may.
    pub fn keeps(&self, stray: &Stray) -> bool {
        match stray.lacks {
            _ if !self.is_open() => true,
            Lacks::Root => self.index.has_root(&stray.owner, stray.locator),
            Lacks::Shards => self.index.has_shards(&stray.owner, stray.locator),
        }
    }

    /// No core has what this lacks: what is old of it goes, unless that has come meanwhile.
    pub fn let_go(&mut self, stray: &Stray) {
        let (Some(since), Some(now)) = (self.expiry.believed_since, self.expiry.over_before) else {
            return;
        };
        if self.keeps(stray) {
            return;
        }
        self.work = true;
        for found in self.index.found_of(&stray.owner, stray.locator, EXPIRE_STEP_MAX) {
            let is_meant = matches!(found.key, Key::Shard(_)) == (stray.lacks == Lacks::Root);
            if let (true, Some(why)) = (is_meant, found.is_to_go(now, since)) {
                // What cannot go now is met again in a later round.
                let _ = self.delete_for(found.key, why, None);
            }
        }
    }

    /// Objects of an owner that have no manifest root here, the oldest first, without those to be
    /// spared; at most so many.
    pub fn leftovers(&self, owner: &PeerId, spare: &[Locator], most: usize) -> Vec<Locator> {
        let (mut all, mut last) = (Vec::new(), None);
        while all.len() < most
            && let Some(next) = self.index.rootless_after(owner, last)
        {
            last = Some(next);
            let locator = self.index.locator_of(next);
            if !spare.contains(&locator) {
                all.push(locator);
            }
        }
        all
    }

    /// Begins to delete until so many bytes are on their way: what is over, the oldest end first;
    /// then what is left of one owner's orphans, the oldest first. Each gives its
    /// [`Event::Deleted`]; [`Event::RoomMade`] follows when all of it is durable.
    pub fn make_room(&mut self, ask: MakeRoom) {
        self.work = true;
        let room = self.expiry.next_room;
        self.expiry.next_room += 1;
        let mut begun = Begun { room, wanted: ask.bytes, bytes: 0, count: 0, looked_at: 0 };
        if self.expiry.believed_since.is_some() {
            self.make_room_of_over(ask.of.as_ref(), &mut begun);
        }
        if let Some(owner) = &ask.of {
            self.make_room_of_orphans(owner, &ask, &mut begun);
        }
        match begun.count {
            0 => self.events.push_back(Event::RoomMade { token: ask.token, bytes: 0 }),
            left => {
                let room = Room { token: ask.token, left, bytes: 0 };
                self.expiry.rooms.insert(begun.room, room);
            }
        }
    }

    fn make_room_of_over(&mut self, of: Option<&PeerId>, begun: &mut Begun) {
        let mut last = None;
        while !begun.enough()
            && let Some((until, place)) = self.index.over_after(of, last)
        {
            if !self.is_over(until) {
                return;
            }
            last = Some((until, place));
            self.make_room_of(self.index.key_of(&place), begun);
        }
    }

    fn make_room_of_orphans(&mut self, owner: &PeerId, ask: &MakeRoom, begun: &mut Begun) {
        let mut last = None;
        while !begun.enough()
            && let Some(next) = self.index.rootless_after(owner, last)
        {
            last = Some(next);
            begun.looked_at += 1;
            if ask.orphans.contains(&self.index.locator_of(next)) {
                self.make_room_of_object(next, begun);
            }
        }
    }

    fn make_room_of_object(&mut self, object: Rootless, begun: &mut Begun) {
        loop {
            let before = begun.count;
            for key in self.index.keys_of(object, KEYS_AT_ONCE) {
                if begun.enough() {
                    return;
                }
                self.make_room_of(key, begun);
            }
            // Nothing is left of it, or nothing that may go.
            if begun.count == before {
                return;
            }
        }
    }

    fn make_room_of(&mut self, key: Key, begun: &mut Begun) {
        begun.looked_at += 1;
        if let Ok(bytes) = self.delete_for(key, Why::Room, Some(begun.room)) {
            begun.bytes += bytes;
            begun.count += 1;
        }
    }

    fn room_has(&mut self, number: u64, bytes: u64) {
        let Some(room) = self.expiry.rooms.get_mut(&number) else { return };
        room.left -= 1;
        room.bytes += bytes;
        if room.left == 0 {
            let Room { token, bytes, .. } = *room;
            self.expiry.rooms.remove(&number);
            self.events.push_back(Event::RoomMade { token, bytes });
        }
    }

    /// Answers those who wait for room that will not be made any more.
    pub(crate) fn end_rooms(&mut self) {
        for (_, Room { token, bytes, .. }) in std::mem::take(&mut self.expiry.rooms) {
            self.events.push_back(Event::RoomMade { token, bytes });
        }
    }
}

impl Found {
    /// Why it is to be deleted now, if so. The age of what a doubted clock told is counted from
    /// when the clock began to be believed.
    fn is_to_go(&self, now: UnixTime, believed_since: UnixTime) -> Option<Why> {
        let stored = if self.doubted { believed_since } else { self.stored };
        let old = stored.0.saturating_add(ORPHAN_SECONDS) <= now.0;
        let was_over = self.until.0.saturating_add(OVER_SECONDS) <= now.0;
        match self.key {
            Key::Shard(_) if was_over => Some(Why::Over),
            Key::Shard(_) if old && !self.rooted => Some(Why::Orphan),
            Key::Blob(_) if old && !self.accompanied => {
                let had_shards = self.until != UnixTime(0);
                Some(if had_shards { Why::Over } else { Why::Orphan })
            }
            _ => None,
        }
    }
}
