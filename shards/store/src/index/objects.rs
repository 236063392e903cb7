//! Which owner has something of which object: what tells orphans, and what a blob lives as long as.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use pangea_base::{Locator, UnixTime};

use super::slots::Slots;

#[derive(Default)]
pub(crate) struct Objects {
    numbers: BTreeMap<(Locator, u32), u32>,
    objects: Slots<Object>,
    // Those without a manifest root: owner, since, object.
    rootless: BTreeSet<(u32, u32, u32)>,
}

/// What one owner has of one locator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Object {
    pub locator: Locator,
    pub owner: u32,
    /// When the first of it was stored.
    since: u32,
    pub shards: u32,
    blobs: u32,
    roots: u32,
    /// When the last of its shards is over; 0 if there never was one.
    pub until: UnixTime,
}

impl Object {
    pub(crate) fn has_root(&self) -> bool {
        self.roots > 0
    }
}

/// An object without a manifest root, in the list of its owner's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rootless {
    since: u32,
    pub object: u32,
}

/// One more, or one fewer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Shard(UnixTime),
    Root,
    OtherBlob,
}

impl Objects {
    /// Notes one more part of an owner's object.
    pub(crate) fn add(&mut self, locator: Locator, owner: u32, stored: u32, part: Part) -> u32 {
        let number = match self.numbers.get(&(locator, owner)) {
            Some(number) => *number,
            None => {
                let (shards, blobs, roots) = (0, 0, 0);
                let (since, until) = (stored, UnixTime(0));
                let object = Object { locator, owner, since, shards, blobs, roots, until };
                let number = self.objects.add(object);
                self.numbers.insert((locator, owner), number);
                number
            }
        };
        self.unlist(number);
        let object = self.objects.get_mut(number);
        object.since = object.since.min(stored);
        match part {
            Part::Shard(until) => {
                object.shards += 1;
                object.until = object.until.max(until);
            }
            Part::Root => object.roots += 1,
            Part::OtherBlob => object.blobs += 1,
        }
        self.list(number);
        number
    }

    /// Notes one part fewer.
    pub(crate) fn take(&mut self, number: u32, part: Part) {
        self.unlist(number);
        let object = self.objects.get_mut(number);
        match part {
            Part::Shard(_) => object.shards -= 1,
            Part::Root => object.roots -= 1,
            Part::OtherBlob => object.blobs -= 1,
        }
        if object.shards + object.blobs + object.roots == 0 {
            let name = (object.locator, object.owner);
            self.numbers.remove(&name);
            self.objects.remove(number);
        } else {
            self.list(number);
        }
    }

    fn list(&mut self, number: u32) {
        let object = self.objects.get(number);
        if object.roots == 0 {
            self.rootless.insert((object.owner, object.since, number));
        }
    }

    fn unlist(&mut self, number: u32) {
        let object = self.objects.get(number);
        self.rootless.remove(&(object.owner, object.since, number));
    }

    pub(crate) fn number(&self, locator: Locator, owner: u32) -> Option<u32> {
        self.numbers.get(&(locator, owner)).copied()
    }

    pub(crate) fn get(&self, number: u32) -> &Object {
        self.objects.get(number)
    }

    /// Every owner's object under a locator.
    pub(crate) fn of(&self, locator: Locator) -> impl Iterator<Item = (u32, &Object)> + '_ {
        let all = self.numbers.range((locator, 0)..=(locator, u32::MAX));
        all.map(|(_, number)| (*number, self.objects.get(*number)))
    }

    /// The next of an owner's objects that have no manifest root, the oldest first.
    pub(crate) fn rootless_after(&self, owner: u32, last: Option<Rootless>) -> Option<Rootless> {
        let from = match last {
            None => Bound::Included((owner, 0, 0)),
            Some(Rootless { since, object }) => Bound::Excluded((owner, since, object)),
        };
        let next = self.rootless.range((from, Bound::Unbounded)).next();
        let (_, since, object) = next.filter(|(of, ..)| *of == owner)?;
        Some(Rootless { since: *since, object: *object })
    }
}

const _: () = assert!((size_of::<(Locator, u32)>() + 4) * 11 / 6 + size_of::<Object>() <= 140);
